//! Which keys go with which forwarding mode, scheduler and protocol.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use lb_common::{
    abi::{Forwarding, Protocol, Scheduler},
    flow::SOURCE_CAPACITY,
};

use crate::config::{
    model::Mss,
    problem::{Place, Sink},
    raw,
    schema::{Field, Located},
};

/// Whether packets reach the backend in other packets.
pub(super) const fn is_tunnel(forwarding: Forwarding) -> bool {
    matches!(forwarding, Forwarding::DsrIpip | Forwarding::DsrGue)
}

/// A mode as it is written.
pub(super) const fn word(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::Nat => "nat",
        Forwarding::FullNat => "full-nat",
        Forwarding::DsrL2 => "dsr-l2",
        Forwarding::DsrIpip => "dsr-ipip",
        Forwarding::DsrGue => "dsr-gue",
    }
}

/// Reports what does not fit together.
pub(super) fn check(service: &raw::Service, at: usize, place: &Place<'_>, sink: &mut Sink) {
    if let Some(forwarding) = service.forwarding.get() {
        sources(service, forwarding.value, at, place, sink);
        tunnels(service, forwarding.value, place, sink);
        stateless(service, forwarding.value, place, sink);
        syn_cookies(service, forwarding.value, place, sink);
    }
    segment_size(service, place, sink);
    maglev(service, place, sink);
    server_ids(service, place, sink);
}

/// Source addresses that flows can tell apart.
const MOST_SOURCES: usize = SOURCE_CAPACITY as usize;

/// Reports source addresses that are too many together, and lists that have only a part in common.
/// The data path knows a list as a run of all addresses, which lists that are apart, or one within
/// the other, always are.
pub(super) fn shared_sources(list: &[Located<raw::Service>], sink: &mut Sink) {
    let mut earlier: Vec<(HashSet<IpAddr>, usize)> = Vec::new();
    let mut all: HashSet<IpAddr> = HashSet::new();
    for (index, Located { value: service, at }) in list.iter().enumerate() {
        let (Some(forwarding), Some(sources)) =
            (service.forwarding.get(), service.source_addresses.get())
        else {
            continue;
        };
        if forwarding.value != Forwarding::FullNat {
            continue;
        }
        let own: HashSet<IpAddr> = sources.value.iter().map(|own| own.value).collect();
        let name = service.name.get().map(|name| name.value.as_str());
        let place = Place::TOP.element("service", index, name);
        let before = all.len();
        all.extend(&own);
        // Where there are too many, the list with the first that is.
        if before <= MOST_SOURCES && all.len() > MOST_SOURCES {
            let message = format!(
                "source_addresses brings all services together to {} addresses (allowed: up to \
                 {MOST_SOURCES}; services may share them)",
                all.len()
            );
            sink.problem(sources.at, &place, "source_addresses", message);
        }
        if earlier.iter().any(|(other, _)| *other == own) {
            continue;
        }
        let crossed = earlier.iter().find(|(other, _)| {
            !own.is_disjoint(other) && !own.is_subset(other) && !own.is_superset(other)
        });
        if let Some((other, first)) = crossed {
            let shared = sources.value.iter().find(|own| other.contains(&own.value));
            let message = format!(
                "source_addresses has {} in common with the service of line {}, but neither list \
                 is within the other (name the same addresses, a part of them, or others)",
                shared.map_or_else(String::new, |shared| format!("\"{}\"", shared.value)),
                sink.line(*first)
            );
            sink.problem(sources.at, &place, "source_addresses", message);
        }
        earlier.push((own, *at));
    }
}

fn protocol(service: &raw::Service) -> Option<Protocol> {
    service.protocol.get().map(|protocol| protocol.value)
}

fn sources(
    service: &raw::Service,
    forwarding: Forwarding,
    at: usize,
    place: &Place<'_>,
    sink: &mut Sink,
) {
    let Some(sources) = service.source_addresses.get() else {
        return;
    };
    if forwarding != Forwarding::FullNat {
        if !sources.value.is_empty() {
            let message = format!(
                "source_addresses does nothing with forwarding = \"{}\"",
                word(forwarding)
            );
            sink.warning(sources.at, place, "source_addresses", message);
        }
        return;
    }
    if sources.value.is_empty() {
        sink.problem(
            at,
            place,
            "source_addresses",
            "source_addresses is missing, and forwarding \"full-nat\" needs addresses of this host \
             to send from (write source_addresses = [\"10.0.0.2\"])",
        );
    }
    let Some(vip) = service.address.get() else {
        return;
    };
    for (index, Located { value: own, at }) in sources.value.iter().enumerate() {
        if own.is_ipv4() != vip.value.is_ipv4() {
            let message = format!(
                "source_addresses \"{own}\" is not of the family of the service's \"{}\"",
                vip.value
            );
            sink.problem(*at, place, &format!("source_addresses[{index}]"), message);
        }
    }
}

fn tunnels(service: &raw::Service, forwarding: Forwarding, place: &Place<'_>, sink: &mut Sink) {
    let Some(prefix) = service.tunnel_source.given() else {
        return;
    };
    if !is_tunnel(forwarding) {
        let message = format!(
            "tunnel_source does nothing with forwarding = \"{}\"",
            word(forwarding)
        );
        return sink.warning(prefix.at, place, "tunnel_source", message);
    }
    let foreign = service.backend.iter().find_map(|backend| {
        let address = backend.value.address.get()?.value;
        (address.is_ipv4() != prefix.value.address.is_ipv4()).then_some(address)
    });
    if let Some(backend) = foreign {
        let message = format!(
            "tunnel_source \"{}\" is not of the family of the backend \"{backend}\"",
            prefix.value
        );
        sink.problem(prefix.at, place, "tunnel_source", message);
    }
}

fn stateless(service: &raw::Service, forwarding: Forwarding, place: &Place<'_>, sink: &mut Sink) {
    let Some(one_packet) = service.one_packet.get().filter(|switch| switch.value) else {
        return;
    };
    let reason = if protocol(service) == Some(Protocol::Tcp) {
        "one_packet true is for udp services (a tcp connection has to stay with its backend)"
            .to_owned()
    } else if Forwarding::sees_replies(forwarding as u8) {
        format!(
            "one_packet true does not go with forwarding \"{}\": without a flow, replies could not \
             be translated (use \"dsr-l2\", \"dsr-ipip\" or \"dsr-gue\")",
            word(forwarding)
        )
    } else {
        return;
    };
    sink.problem(one_packet.at, place, "one_packet", reason);
}

fn syn_cookies(service: &raw::Service, forwarding: Forwarding, place: &Place<'_>, sink: &mut Sink) {
    let Some(threshold) = service
        .syn_cookies
        .given()
        .filter(|number| number.value != 0)
    else {
        return;
    };
    if protocol(service) == Some(Protocol::Udp) {
        let message = "syn_cookies does nothing for a udp service";
        sink.warning(threshold.at, place, "syn_cookies", message);
    } else if !Forwarding::sees_replies(forwarding as u8) {
        let message = format!(
            "syn_cookies {} does not go with forwarding \"{}\": the balancer does not see what the \
             backend answers (allowed: 0; have the backends send cookies, \
             net.ipv4.tcp_syncookies = 1)",
            threshold.value,
            word(forwarding)
        );
        sink.problem(threshold.at, place, "syn_cookies", message);
    }
}

fn segment_size(service: &raw::Service, place: &Place<'_>, sink: &mut Sink) {
    if let Some(clamp) = service.mss_clamp.given()
        && clamp.value != Mss::Off
        && protocol(service) == Some(Protocol::Udp)
    {
        sink.warning(
            clamp.at,
            place,
            "mss_clamp",
            "mss_clamp does nothing for a udp service",
        );
    }
}

fn maglev(service: &raw::Service, place: &Place<'_>, sink: &mut Sink) {
    let (Some(size), Some(scheduler)) = (service.maglev_table_size.get(), service.scheduler.get())
    else {
        return;
    };
    if !matches!(scheduler.value, Scheduler::Maglev | Scheduler::SourceHash) {
        return;
    }
    let backends = service.backend.len();
    if backends > size.value as usize {
        let message = format!(
            "maglev_table_size {} is too small for {backends} backends (each needs a slot, and \
             should have a hundred)",
            size.value
        );
        sink.problem(size.at, place, "maglev_table_size", message);
    } else if backends * 100 > size.value as usize {
        let message = format!(
            "maglev_table_size {} is less than a hundred for each of {backends} backends, so \
             their shares will differ by more than one in a hundred",
            size.value
        );
        sink.warning(size.at, place, "maglev_table_size", message);
    }
}

fn server_ids(service: &raw::Service, place: &Place<'_>, sink: &mut Sink) {
    let is_on = service
        .quic_server_id
        .get()
        .is_some_and(|switch| switch.value);
    if is_on
        && protocol(service) == Some(Protocol::Tcp)
        && let Some(switch) = service.quic_server_id.get()
    {
        sink.problem(
            switch.at,
            place,
            "quic_server_id",
            "quic_server_id true is for udp services (QUIC runs over UDP)",
        );
    }
    let mut seen: HashMap<&[u8], usize> = HashMap::new();
    let mut length = None;
    for (index, backend) in service.backend.iter().enumerate() {
        let name = backend.value.name.get().map(|name| name.value.as_str());
        let place = place.element("backend", index, name);
        let Some(id) = backend.value.server_id.given() else {
            if is_on && matches!(backend.value.server_id, Field::Absent) {
                sink.problem(
                    backend.at,
                    &place,
                    "server_id",
                    "server_id is missing, and the service has quic_server_id = true",
                );
            }
            continue;
        };
        if !is_on {
            sink.warning(
                id.at,
                &place,
                "server_id",
                "server_id does nothing without quic_server_id = true in the service",
            );
        }
        if let Some(first) = seen.insert(&id.value, id.at) {
            let message = format!(
                "server_id is taken by the backend of line {}",
                sink.line(first)
            );
            sink.problem(id.at, &place, "server_id", message);
        }
        let expected = *length.get_or_insert(id.value.len());
        if id.value.len() != expected {
            let message = format!(
                "server_id has {} bytes, but the first one of the service has {expected} (all must \
                 have the same length)",
                id.value.len()
            );
            sink.problem(id.at, &place, "server_id", message);
        }
    }
}
