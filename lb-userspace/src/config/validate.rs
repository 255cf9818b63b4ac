//! From what is written to what is meant: everything that takes more than one key to judge.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    net::IpAddr,
    time::Duration,
};

use lb_common::abi::{Forwarding, Protocol};

mod admin;
mod announce;
mod app_host;
mod cluster;
mod covered;
mod discovery;
mod etcd;
mod firewall;
mod forwarding;
mod health_check;
mod key_pair;
mod mysql;
mod passive;

use super::{
    address,
    model::{Agent, Backend, Limits, Log, Model, Service},
    problem::{Place, Sink, quoted},
    raw,
    schema::{Field, Located},
};

/// The model, or nothing when there is a problem in the sink.
pub(super) fn validate(file: &raw::File, sink: &mut Sink) -> Option<Model> {
    let agent = agent(file, sink);
    let services = services(&file.service, sink);
    let app_host = app_host::app_host(file, sink);
    announce::check(file, sink);
    let firewall = firewall::firewall(file, sink);
    let cluster = cluster::cluster(file, sink);
    let mysql = mysql::mysql(file, sink);
    let admin = admin::admin(file, sink);
    let limits = file.limits.get().and_then(|limits| {
        let flows = limits.value.flows.get()?.value;
        let half_open_flows = limits.value.half_open_flows.get()?.value;
        Some(Limits {
            flows,
            half_open_flows,
            fragments: limits.value.fragments.get()?.value,
            affinity_entries: limits.value.affinity_entries.get()?.value,
        })
    });
    if !sink.problems.is_empty() {
        return None;
    }
    let model = Model {
        agent: agent?,
        admin: admin?,
        limits: limits?,
        services: services?,
        app_host,
        firewall: firewall?,
        cluster,
        mysql,
    };
    covered::check(file, &model, sink);
    Some(model)
}

fn agent(file: &raw::File, sink: &mut Sink) -> Option<Agent> {
    let agent = file.agent.get()?;
    let place = Place::TOP.table("agent");
    let interfaces = agent.value.interfaces.get();
    if let Some(interfaces) = interfaces
        && interfaces.value.is_empty()
        && !file.service.is_empty()
    {
        sink.problem(
            interfaces.at,
            &place,
            "interfaces",
            "interfaces is empty, but there are services (name the interfaces where steering \
             attaches: interfaces = [\"eth0\"])",
        );
    }
    let has_other_work = file.app_host.given().is_some() || file.mysql.given().is_some();
    if file.service.is_empty() && !has_other_work {
        sink.warning(
            agent.at,
            &Place::TOP,
            "service",
            "there is no [[service]], nothing to steer",
        );
    }
    Some(Agent {
        interfaces: interfaces?
            .value
            .iter()
            .map(|name| name.value.clone())
            .collect(),
        xdp_mode: agent.value.xdp_mode.get()?.value,
        pin_path: agent.value.pin_path.get()?.value.clone(),
        on_exit: agent.value.on_exit.get()?.value,
        state_file: agent.value.state_file.get()?.value.clone(),
        log: Log {
            level: agent.value.log_level.get()?.value,
            format: agent.value.log_format.get()?.value,
        },
        on_new_layout: agent.value.on_new_layout.get()?.value,
        user: agent.value.user.given().map(|user| user.value.clone()),
    })
}

/// Remembers where values were seen first, to refuse the second.
struct Once<K>(HashMap<K, usize>);

impl<K: Hash + Eq> Once<K> {
    fn new(expected: usize) -> Self {
        Self(HashMap::with_capacity(expected))
    }

    /// The byte of an earlier sight.
    fn seen(&mut self, key: K, at: usize) -> Option<usize> {
        match self.0.entry(key) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(entry) => {
                entry.insert(at);
                None
            }
        }
    }
}

fn services(list: &[Located<raw::Service>], sink: &mut Sink) -> Option<Vec<Service>> {
    let mut names = Once::new(list.len());
    let mut endpoints = Once::new(list.len());
    let mut services = Vec::with_capacity(list.len());
    for (index, Located { value: service, at }) in list.iter().enumerate() {
        let name = service.name.get();
        let place = Place::TOP.element("service", index, name.map(|name| name.value.as_str()));
        if let Some(name) = name
            && let Some(first) = names.seen(&name.value, name.at)
        {
            let line = sink.line(first);
            let message = format!(
                "name {} is taken by the service of line {line}",
                quoted(&name.value)
            );
            sink.problem(name.at, &place, "name", message);
        }
        if let (Some(address), Some(port), Some(protocol)) = (
            service.address.get(),
            service.port.get(),
            service.protocol.get(),
        ) && let Some(first) = endpoints.seen((address.value, port.value, protocol.value), *at)
        {
            let line = sink.line(first);
            let message = format!(
                "address {}, port {}, {} is taken by the service of line {line}",
                address.value,
                port.value,
                protocol_word(protocol.value)
            );
            sink.problem(address.at, &place, "address", message);
        }
        services.push(self::service(service, *at, &place, sink));
    }
    forwarding::shared_sources(list, sink);
    services.into_iter().collect()
}

fn service(raw: &raw::Service, at: usize, place: &Place<'_>, sink: &mut Sink) -> Option<Service> {
    if let Some(vip) = raw.address.get()
        && let Some(reason) = address::refused_vip(vip.value)
    {
        let message = format!("address \"{}\" {reason}", vip.value);
        sink.problem(vip.at, place, "address", message);
    }
    let protocol = raw.protocol.get().map(|protocol| protocol.value);
    let idle_timeout = raw
        .idle_timeout_seconds
        .or_else(|| default_idle_timeout(protocol.unwrap_or(Protocol::Tcp)));
    let health_check = health_check::health_check(raw.health_check.get()?, protocol, place, sink);
    let min_up_percent = raw.min_up_percent.get().map(|percent| percent.value);
    let about = (protocol, min_up_percent);
    let passive = passive::passive(raw.health_check.get()?, about, place, sink);
    forwarding::check(raw, at, place, sink);
    let discovery = discovery::discovery(raw.discovery.get()?, place, sink);
    let firewall = firewall::access(raw.firewall.get()?, place, sink);
    let backends = backends(raw, at, place, sink);
    Some(Service {
        name: raw.name.get()?.value.clone(),
        address: raw.address.get()?.value,
        port: raw.port.get()?.value,
        protocol: protocol?,
        scheduler: raw.scheduler.get()?.value,
        forwarding: raw.forwarding.get()?.value,
        affinity: Duration::from_secs_f64(raw.affinity_seconds.get()?.value),
        source_addresses: raw
            .source_addresses
            .get()?
            .value
            .iter()
            .map(|address| address.value)
            .collect(),
        tunnel_source: match &raw.tunnel_source {
            Field::Given(prefix) | Field::Default(prefix) => Some(prefix.value),
            Field::Absent => None,
            Field::Invalid => return None,
        },
        maglev_table_size: raw.maglev_table_size.get()?.value,
        one_packet: raw.one_packet.get()?.value,
        quic_server_id: raw.quic_server_id.get()?.value,
        mss_clamp: raw.mss_clamp.get()?.value,
        syn_cookies: raw.syn_cookies.get()?.value,
        slow_start: Duration::from_secs_f64(raw.slow_start_seconds.get()?.value),
        min_up_percent: raw.min_up_percent.get()?.value,
        announce: raw.announce.get()?.value,
        idle_timeout: Duration::from_secs_f64(idle_timeout?),
        on_backend_down: raw.on_backend_down.get()?.value,
        on_no_backend: raw.on_no_backend.get()?.value,
        health_check: health_check?,
        passive: passive?,
        discovery: discovery?,
        firewall: firewall?,
        backends: backends?,
    })
}

/// In seconds.
pub(super) const fn default_idle_timeout(protocol: Protocol) -> f64 {
    match protocol {
        Protocol::Udp => 60.0,
        Protocol::Tcp => 900.0,
    }
}

fn backends(
    service: &raw::Service,
    at: usize,
    place: &Place<'_>,
    sink: &mut Sink,
) -> Option<Vec<Backend>> {
    let list = &service.backend;
    let is_discovered =
        matches!(service.discovery.get(), Some(one) if one.value.kind.get().is_some());
    if list.is_empty() && is_discovered {
        // They come while the agent runs.
    } else if list.is_empty() {
        sink.warning(
            at,
            place,
            "backend",
            "there is no [[service.backend]], nobody will answer",
        );
    } else if list.iter().all(|backend| weight(&backend.value) == Some(0)) {
        sink.warning(
            at,
            place,
            "backend",
            "every backend has weight 0, nobody will answer",
        );
    }
    let mut names = Once::new(list.len());
    let mut endpoints = Once::new(list.len());
    let mut backends = Vec::with_capacity(list.len());
    for (index, Located { value: backend, .. }) in list.iter().enumerate() {
        let name = backend.name.get();
        let place = place.element("backend", index, name.map(|name| name.value.as_str()));
        if let Some(name) = name
            && let Some(first) = names.seen(&name.value, name.at)
        {
            let line = sink.line(first);
            let message = format!(
                "name {} is taken by the backend of line {line}",
                quoted(&name.value)
            );
            sink.problem(name.at, &place, "name", message);
        }
        let service_port = service.port.get().map(|port| port.value);
        let port = match &backend.port {
            Field::Given(port) | Field::Default(port) => Some(port.value),
            Field::Absent => service_port,
            Field::Invalid => None,
        };
        if let (Some(address), Some(port)) = (backend.address.get(), port)
            && let Some(first) = endpoints.seen((address.value, port), address.at)
        {
            let line = sink.line(first);
            let message = format!(
                "address {}, port {port} is taken by the backend of line {line}",
                address.value
            );
            sink.problem(address.at, &place, "address", message);
        }
        check_address(service, backend, &place, sink);
        check_port(service, backend, &place, sink);
        backends.push(self::backend(backend, port));
    }
    backends.into_iter().collect()
}

fn weight(backend: &raw::Backend) -> Option<u16> {
    backend.weight.get().map(|weight| weight.value)
}

fn backend(raw: &raw::Backend, port: Option<u16>) -> Option<Backend> {
    Some(Backend {
        name: raw.name.get()?.value.clone(),
        address: raw.address.get()?.value,
        port: port?,
        weight: raw.weight.get()?.value,
        role: raw.role.get()?.value,
        server_id: match &raw.server_id {
            Field::Given(id) | Field::Default(id) => Some(id.value.clone()),
            Field::Absent => None,
            Field::Invalid => return None,
        },
    })
}

fn check_address(
    service: &raw::Service,
    backend: &raw::Backend,
    place: &Place<'_>,
    sink: &mut Sink,
) {
    let Some(Located { value: own, at }) = backend.address.get() else {
        return;
    };
    if let Some(reason) = address::refused_backend(*own) {
        sink.problem(*at, place, "address", format!("address \"{own}\" {reason}"));
        return;
    }
    let Some(vip) = service.address.get() else {
        return;
    };
    let may_cross = service
        .forwarding
        .get()
        .is_none_or(|forwarding| forwarding::is_tunnel(forwarding.value));
    if own.is_ipv4() != vip.value.is_ipv4() && !may_cross {
        let message = format!(
            "address \"{own}\" is an {} address, but the service's \"{}\" is {}",
            family(*own),
            vip.value,
            family(vip.value)
        );
        sink.problem(*at, place, "address", message);
    } else if *own == vip.value {
        let message = format!("address \"{own}\" is the service's own (a backend has its own)");
        sink.problem(*at, place, "address", message);
    }
}

fn check_port(service: &raw::Service, backend: &raw::Backend, place: &Place<'_>, sink: &mut Sink) {
    if let (Some(forwarding), Some(port), Some(service_port)) = (
        service.forwarding.get(),
        backend.port.given(),
        service.port.get(),
    ) && !Forwarding::sees_replies(forwarding.value as u8)
        && port.value != service_port.value
    {
        let message = format!(
            "port {} is not the service's port {}, and forwarding \"{}\" cannot change ports",
            port.value,
            service_port.value,
            forwarding::word(forwarding.value)
        );
        sink.problem(port.at, place, "port", message);
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}
