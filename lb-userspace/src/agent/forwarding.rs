//! What a service's forwarding and scheduling mean for its entries: features, source addresses,
//! tunnels, segment sizes, tables of slots.

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lb_common::{
    abi::{self, Forwarding, Protocol, Scheduler, features, service_flags},
    address::Address,
    maglev,
    slots::{self, smooth_weighted},
};

use super::{plan::Way, slow_start};
use crate::config::model::{Backend, Model, Mss, Prefix, Service, Via};

/// Where tunnels come from unless the config says otherwise. Nobody else has these addresses: the
/// first is private, the second is discarded everywhere (RFC 6666).
const TUNNEL_SOURCE: [Prefix; 2] = [
    Prefix {
        address: IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)),
        length: 16,
    },
    Prefix {
        address: IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0)),
        length: 64,
    },
];

/// Bits of [`abi::features`] that a config uses.
pub(in crate::agent) fn features(model: &Model) -> u32 {
    let cluster = model.cluster.as_ref().map_or(0, |_| features::SYNC);
    let mut firewall = 0;
    if model.firewall.is_used() {
        firewall |= features::FIREWALL;
    }
    if model.firewall.locked {
        firewall |= features::LOCK_DOWN;
    }
    if let Some(rate) = &model.firewall.rate {
        let on = |feature, is_on| if is_on { feature } else { 0 };
        firewall |= on(features::RATE_LIMIT, rate.new_connections.is_some());
        firewall |= on(features::PACKET_LIMIT, rate.packets.is_some());
        firewall |= on(features::FLOW_LIMIT, rate.flows != 0);
        firewall |= on(features::OFFENDERS, rate.deny_seconds != 0);
    }
    model
        .services
        .iter()
        .map(|service| {
            let on = |feature, condition| if condition { feature } else { 0 };
            let forwarding = match service.forwarding {
                Forwarding::Nat => features::NAT,
                Forwarding::FullNat => features::FULL_NAT,
                Forwarding::DsrL2 => 0,
                Forwarding::DsrIpip | Forwarding::DsrGue => features::TUNNEL,
            };
            let scheduler = match service.scheduler {
                Scheduler::RoundRobin => 0,
                Scheduler::Maglev | Scheduler::SourceHash => features::HASH,
                Scheduler::LeastConnections => features::LEAST_CONNECTIONS,
            };
            let version = if service.address.is_ipv4() {
                features::IPV4
            } else {
                features::IPV6
            };
            version
                | forwarding
                | scheduler
                | on(features::AFFINITY, !service.affinity.is_zero())
                | on(features::ONE_PACKET, service.one_packet)
                | on(features::SERVER_ID, service.quic_server_id)
                | on(features::MSS_CLAMP, service.mss_clamp != Mss::Off)
                | on(features::CHECKS, service.health_check.via == Via::Service)
                | on(features::SYN_COOKIES, service.syn_cookies != 0)
                | on(features::HANDSHAKES, service.passive.is_some())
                | on(features::SERVICE_LISTS, service.firewall.is_used())
                | on(features::TAKE_UP, takes_up(service))
        })
        .fold(firewall | cluster, |all, own| all | own)
}

/// Source addresses of full NAT, those of a service next to each other, which is possible where
/// lists are apart or one within the other. Those of lists that are apart stand as in the file.
pub(in crate::agent) fn source_addresses(services: &[Service]) -> Vec<IpAddr> {
    let mut lists: Vec<&[IpAddr]> = services
        .iter()
        .filter(|service| service.forwarding == Forwarding::FullNat)
        .map(|service| service.source_addresses.as_slice())
        .collect();
    let mut all: Vec<IpAddr> = Vec::new();
    for address in lists.iter().copied().flatten() {
        if !all.contains(address) {
            all.push(*address);
        }
    }
    // From the outermost list that an address is in to the innermost and the address itself; a list
    // stands where the first of its addresses does.
    lists.sort_by_key(|list| Reverse(list.len()));
    let rank = |list: &[IpAddr]| all.iter().position(|address| list.contains(address));
    let mut ranked: Vec<(Vec<Option<usize>>, IpAddr)> = all
        .iter()
        .map(|address| {
            let own: &[IpAddr] = std::slice::from_ref(address);
            let within = lists.iter().copied().filter(|list| list.contains(address));
            (within.chain([own]).map(rank).collect(), *address)
        })
        .collect();
    ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
    ranked.into_iter().map(|(_, address)| address).collect()
}

/// Where the addresses of a list stand in a longer one, in whichever order, if next to each other.
fn find(all: &[IpAddr], list: &[IpAddr]) -> Option<usize> {
    let first = all.iter().position(|address| list.contains(address))?;
    let run = all.get(first..first + list.len())?;
    run.iter()
        .all(|address| list.contains(address))
        .then_some(first)
}

/// Most slots that a service may need.
pub(in crate::agent) fn most_slots(service: &Service) -> usize {
    match service.scheduler {
        Scheduler::Maglev | Scheduler::SourceHash => service.maglev_table_size as usize,
        Scheduler::LeastConnections => service.backends.len(),
        Scheduler::RoundRobin => {
            let weights = service.backends.iter().map(|backend| backend.weight);
            slots::length(&weights.collect::<Vec<_>>()) * most_scale(service)
        }
    }
}

/// What weights of round robin are multiplied by at most, so that a part of them can be had.
pub(in crate::agent) fn most_scale(service: &Service) -> usize {
    let has_parts = [
        !service.slow_start.is_zero(),
        service.health_check.agent_port.is_some(),
    ];
    has_parts
        .into_iter()
        .filter(|has| *has)
        .map(|_| usize::from(slow_start::STEPS))
        .product()
}

/// The slots of a service whose backends have these weights now: indexes of backends.
pub(in crate::agent) fn slots(service: &Service, weights: &[u16]) -> Vec<usize> {
    match service.scheduler {
        Scheduler::RoundRobin => smooth_weighted(weights),
        Scheduler::LeastConnections => (0..weights.len())
            .filter(|&index| weights[index] > 0)
            .collect(),
        Scheduler::Maglev | Scheduler::SourceHash => {
            // The endpoint, because balancers that share backends may name them differently.
            let names: Vec<String> = service
                .backends
                .iter()
                .map(|backend| std::net::SocketAddr::new(backend.address, backend.port).to_string())
                .collect();
            // Who comes first takes the first slot, so in an order that all of them have, too.
            let mut order: Vec<usize> = (0..names.len()).collect();
            order.sort_unstable_by_key(|index| &names[*index]);
            let members: Vec<maglev::Member<'_>> = order
                .iter()
                .map(|index| (names[*index].as_bytes(), weights[*index]))
                .collect();
            let table = maglev::table(&members, service.maglev_table_size);
            table.into_iter().map(|member| order[member]).collect()
        }
    }
}

/// Whether connections that began by another balancer go on here without a word: all balancers agree on
/// their backend, and replies need nobody who knows them.
fn takes_up(service: &Service) -> bool {
    service.protocol == Protocol::Tcp
        && matches!(service.scheduler, Scheduler::Maglev | Scheduler::SourceHash)
        && !Forwarding::sees_replies(service.forwarding as u8)
}

/// What a service's entry says of its scheduling; ids and slots are not filled in.
pub(in crate::agent) fn service_value(service: &Service) -> abi::Service {
    let id_length = service
        .backends
        .iter()
        .find_map(|backend| backend.server_id.as_ref())
        .filter(|_| service.quic_server_id)
        .map_or(0, Vec::len);
    abi::Service {
        on_no_backend: service.on_no_backend as u8,
        scheduler: service.scheduler as u8,
        flags: (u8::from(service.one_packet) * service_flags::ONE_PACKET)
            | (u8::from(takes_up(service)) * service_flags::TAKES_UP),
        server_id_length: id_length as u8,
        affinity: super::plan::ticks(service.affinity).0,
        ..abi::Service::default()
    }
}

/// Fills in what a backend's entry says of forwarding.
pub(in crate::agent) fn complete(
    value: &mut abi::Backend,
    service: &Service,
    backend: &Backend,
    (way, client_mtu): (Way, u32),
    sources: &[IpAddr],
) {
    value.mss = if service.protocol == Protocol::Tcp {
        segment_size(service, backend, way, client_mtu)
    } else {
        0
    };
    if service.forwarding == Forwarding::FullNat
        && let Some(first) = find(sources, &service.source_addresses)
    {
        value.first_source = first as u16;
        value.sources = service.source_addresses.len() as u16;
    }
    if matches!(service.forwarding, Forwarding::DsrIpip | Forwarding::DsrGue) {
        let default = TUNNEL_SOURCE[usize::from(backend.address.is_ipv6())];
        let prefix = service.tunnel_source.unwrap_or(default);
        value.tunnel_source = Address::from(prefix.address);
        let mask = 1u64
            .checked_shl(prefix.host_bits())
            .map_or(0, |bit| bit - 1) as u32;
        value.tunnel_source_mask = mask.to_be();
    }
}

fn segment_size(service: &Service, backend: &Backend, way: Way, client_mtu: u32) -> u16 {
    match (service.mss_clamp, way) {
        (Mss::Off, _) | (Mss::Auto, Way::Open | Way::None) => 0,
        (Mss::Most(size), _) => size,
        (Mss::Auto, Way::Known(hop)) => {
            const TCP: u32 = 20;
            let inner = if service.address.is_ipv4() { 20 } else { 40 };
            let outer = Forwarding::overhead(service.forwarding as u8, backend.address.is_ipv4());
            // A SYN-ACK tells the client, a SYN the backend, and both keep to the same.
            let replies = if Forwarding::sees_replies(service.forwarding as u8) {
                client_mtu
            } else {
                u32::MAX
            };
            let room = hop.mtu.saturating_sub(outer).min(replies);
            let room = room.saturating_sub(inner + TCP);
            u16::try_from(room).unwrap_or(u16::MAX)
        }
    }
}

/// What a QUIC connection id of a backend says, as tables hold it.
pub(in crate::agent) fn server_id(service: &Service, backend: &Backend) -> Option<[u64; 2]> {
    let id = backend
        .server_id
        .as_ref()
        .filter(|_| service.quic_server_id)?;
    let mut bytes = [0; 16];
    bytes.get_mut(..id.len())?.copy_from_slice(id);
    let [low, high] = [0, 8].map(|at| {
        let mut half = [0; 8];
        half.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(half)
    });
    Some([low, high])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[u8]) -> Vec<IpAddr> {
        let address = |n: &u8| Ipv4Addr::new(10, 0, 0, *n).into();
        list.iter().map(address).collect()
    }

    #[test]
    fn maglev_agrees_whatever_the_order_of_backends() {
        let service = |hosts: &[u8]| {
            let mut text = String::from(
                "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\n\
                 address = \"203.0.113.10\"\nport = 80\nscheduler = \"maglev\"\n",
            );
            for host in hosts {
                text += &format!(
                    "[[service.backend]]\nname = \"b{host}\"\naddress = \"10.0.0.{host}\"\n"
                );
            }
            let mut model = crate::config::parse(text.as_bytes()).unwrap().model;
            model.services.remove(0)
        };
        let addresses = |hosts: &[u8], weights: &[u16]| {
            let service = service(hosts);
            let slots = slots(&service, weights).into_iter();
            slots
                .map(|index| service.backends[index].address)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            addresses(&[1, 2, 3, 10], &[1, 2, 0, 4]),
            addresses(&[10, 3, 1, 2], &[4, 0, 1, 2])
        );
    }

    #[test]
    fn a_list_is_found_in_any_order_and_only_as_a_whole() {
        let all = addresses(&[1, 2, 3]);
        assert_eq!(find(&all, &addresses(&[2, 3])), Some(1));
        assert_eq!(find(&all, &addresses(&[3, 2])), Some(1));
        assert_eq!(find(&all, &addresses(&[1, 3])), None);
        assert_eq!(find(&all, &addresses(&[3, 4])), None);
        assert_eq!(find(&all, &[]), None);
    }

    #[test]
    fn segments_fit_on_both_sides_and_into_the_tunnel() {
        let way = |mtu| {
            Way::Known(abi::NextHop {
                ifindex: 2,
                mtu,
                ..abi::NextHop::default()
            })
        };
        let [v4, v6]: [[IpAddr; 2]; 2] = [
            [[203, 0, 113, 10].into(), [10, 0, 0, 11].into()],
            [
                [0xfd00, 0, 0, 0, 0, 0, 0, 10].into(),
                [0xfd00, 0, 0, 0, 0, 0, 0, 11].into(),
            ],
        ];
        let rows = [
            (v4, Forwarding::Nat, Mss::Auto, way(1500), 1500, 1460),
            (v6, Forwarding::Nat, Mss::Auto, way(1500), 1500, 1440),
            // The smaller side counts if replies pass here; a tunnel is on that of the backend only.
            (v4, Forwarding::Nat, Mss::Auto, way(1500), 1300, 1260),
            (v4, Forwarding::Nat, Mss::Auto, way(1300), 1500, 1260),
            (v4, Forwarding::DsrIpip, Mss::Auto, way(1500), 1500, 1440),
            (v4, Forwarding::DsrIpip, Mss::Auto, way(1500), 1300, 1440),
            (v6, Forwarding::DsrIpip, Mss::Auto, way(1500), 1300, 1400),
            // Nothing is attached yet.
            (v4, Forwarding::Nat, Mss::Auto, way(1500), u32::MAX, 1460),
            (v4, Forwarding::Nat, Mss::Auto, way(40), 1500, 0),
            (v4, Forwarding::Nat, Mss::Auto, Way::None, 1300, 0),
            // What the config says is taken as it is.
            (v4, Forwarding::Nat, Mss::Most(9000), way(1500), 1300, 9000),
            (v4, Forwarding::Nat, Mss::Off, way(1500), 1300, 0),
        ];
        for ([vip, address], forwarding, mss_clamp, way, client_mtu, expected) in rows {
            let backend = Backend {
                address,
                ..crate::agent::tests::actives(&[1]).remove(0)
            };
            let service = Service {
                address: vip,
                forwarding,
                mss_clamp,
                ..crate::agent::tests::service(1, Vec::new())
            };
            let size = segment_size(&service, &backend, way, client_mtu);
            assert_eq!(size, expected, "{forwarding:?} {way:?} {client_mtu}");
        }
    }

    #[test]
    fn services_share_source_addresses_and_each_address_has_one_index() {
        let cases: [(&[&[u8]], &[u8]); 6] = [
            (&[&[3, 1], &[2]], &[3, 1, 2]),
            (&[&[1, 2], &[2, 1]], &[1, 2]),
            (&[&[1], &[1, 2]], &[1, 2]),
            (&[&[9], &[2], &[1, 2, 3], &[3, 1]], &[9, 2, 1, 3]),
            (&[&[1, 2, 3, 4, 5], &[1, 4], &[5, 2]], &[1, 4, 2, 5, 3]),
            (&[&[2, 3], &[1], &[4, 3, 2, 1]], &[2, 3, 1, 4]),
        ];
        for (lists, expected) in cases {
            let services: Vec<Service> = lists
                .iter()
                .map(|list| Service {
                    forwarding: Forwarding::FullNat,
                    source_addresses: addresses(list),
                    ..crate::agent::tests::service(1, Vec::new())
                })
                .collect();
            let all = source_addresses(&services);
            assert_eq!(all, addresses(expected));
            for service in &services {
                assert!(find(&all, &service.source_addresses).is_some(), "{all:?}");
            }
        }
    }
}
