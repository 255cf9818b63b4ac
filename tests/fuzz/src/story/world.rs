//! Small tables with services of every kind.

use std::net::SocketAddr;

use lb_common::{
    abi::{
        Backend, Forwarding, OnBackendDown, OnNoBackend, Protocol, Scheduler, ServerIdKey, Service,
        Ticks, backend_flags, service_flags,
    },
    firewall::{Action, Prefix},
    host::{Fixture, HostTables, INGRESS},
};
use lb_packets::{GUE_PORT, Mac};

/// Another interface than [`INGRESS`].
pub const OTHER_INTERFACE: u32 = 2;
/// Its MAC.
pub(super) const MAC_OTHER: Mac = [2, 0, 0, 0, 0, 0x2b];
/// Backends of a service.
pub(super) const BACKENDS: usize = 2;
/// Bytes of a server id in a QUIC connection id.
pub(super) const SERVER_ID_LENGTH: u8 = 1;
/// ICMP errors that may be sent in a tick, where there is a limit.
const FEW_ERRORS: u32 = 2;
/// What changes the firewall, from here on.
const FIREWALL: u8 = 250;
/// The scope of lists of services.
const LISTS: u32 = 3;

const SOURCE_HASH: u8 = Scheduler::SourceHash as u8;
const MAGLEV: u8 = Scheduler::Maglev as u8;

/// Forwarding, IP version of the backends if it is not the service's, and by what number the
/// backends go.
type Kind = (Forwarding, Option<u8>, u8);

const KINDS: [Kind; 8] = [
    (Forwarding::Nat, None, 1),
    // It shares its backends with the first.
    (Forwarding::Nat, None, 1),
    (Forwarding::DsrL2, None, 2),
    (Forwarding::FullNat, None, 3),
    (Forwarding::DsrIpip, Some(4), 4),
    (Forwarding::DsrIpip, Some(6), 4),
    (Forwarding::DsrGue, Some(4), 5),
    (Forwarding::DsrGue, Some(6), 5),
];

/// A service as a client sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The service.
    pub(super) address: SocketAddr,
    /// Its protocol.
    pub(super) protocol: Protocol,
}

/// The tables; the bytes choose among policies.
pub(super) fn build(policies: u8, more: u8) -> (HostTables, Vec<Target>) {
    let mut fixture = Fixture::with_limits(16, 16);
    let mut targets = Vec::new();
    let ways = [
        (Protocol::Tcp, 4),
        (Protocol::Udp, 4),
        (Protocol::Tcp, 6),
        (Protocol::Udp, 6),
    ];
    for version in [4, 6] {
        let source = super::endpoint(version, 2, 200, 1).ip();
        // Four ports and no more, in words of the bitmap that are looked at soon or late.
        let scarce = more & 1 != 0;
        fixture.tables.add_source(source.into(), |port| {
            port % 64 == 0 && (!scarce || port / 64 % 256 == 0)
        });
    }
    for (number, (forwarding, family, hosts)) in KINDS.into_iter().enumerate() {
        for (protocol, version) in ways {
            let port = match (forwarding, protocol) {
                (Forwarding::DsrGue, Protocol::Udp) => GUE_PORT,
                _ => 80,
            };
            let is_translated = matches!(forwarding, Forwarding::Nat | Forwarding::FullNat);
            let backends: Vec<_> = (0..BACKENDS as u8)
                .map(|n| {
                    let port = if is_translated { 8080 } else { port };
                    super::endpoint(family.unwrap_or(version), 2, 10 * hosts + n, port)
                })
                .collect();
            let address = super::endpoint(version, 1, number as u8 + 1, port);
            let ids = fixture.service(address, protocol, forwarding, &backends);
            for id in ids {
                let index = u16::from(version == 6);
                finish(
                    &mut fixture.tables.backends[id as usize],
                    id,
                    policies,
                    index,
                );
            }
            targets.push(Target { address, protocol });
        }
    }
    let mut tables = fixture.tables;
    if more & 2 != 0 {
        tables.settings.errors_per_tick = FEW_ERRORS;
    }
    let is_udp = |service: &Service| service.id % 2 == 1;
    // The config refuses one_packet where replies are translated.
    let is_one_sided = |service: &Service| {
        let (forwarding, ..) = KINDS[service.id as usize / ways.len()];
        !Forwarding::sees_replies(forwarding as u8)
    };
    let may_be_stateless = |service: &Service| is_udp(service) && is_one_sided(service);
    let mut ids = Vec::new();
    for service in tables.services.values_mut() {
        service.on_no_backend = match (u32::from(policies) / 3 + service.id) % 3 {
            0 => OnNoBackend::Reset,
            1 => OnNoBackend::Unreachable,
            _ => OnNoBackend::Drop,
        } as u8;
        service.scheduler = match (u32::from(more >> 2) + service.id / 4) % 4 {
            0 => Scheduler::RoundRobin,
            1 => Scheduler::SourceHash,
            2 => Scheduler::Maglev,
            _ => Scheduler::LeastConnections,
        } as u8;
        if (service.id + u32::from(more >> 4)).is_multiple_of(3) {
            service.affinity = Ticks::from_seconds(30).0;
        }
        if may_be_stateless(service) && (service.id / 2 + u32::from(more >> 5)).is_multiple_of(4) {
            service.flags |= service_flags::ONE_PACKET;
        }
        if !is_udp(service)
            && is_one_sided(service)
            && matches!(service.scheduler, SOURCE_HASH | MAGLEV)
        {
            service.flags |= service_flags::TAKES_UP;
        }
        if is_udp(service) && service.id % 4 == 1 {
            service.server_id_length = SERVER_ID_LENGTH;
            ids.push((service.id, service.slots_offset));
        }
    }
    for (service, offset) in ids {
        for name in 0..BACKENDS as u8 {
            let key = server_id(service, name);
            let id = tables.slots[offset as usize + usize::from(name)];
            tables.server_ids.insert(key, id);
        }
    }
    // Some ways lead elsewhere.
    for (index, hop) in tables.next_hops.iter_mut().enumerate().skip(1) {
        if policies >> 4 & 3 == index as u8 & 3 {
            (hop.ifindex, hop.mtu, hop.source) = (OTHER_INTERFACE, 1000, MAC_OTHER);
        }
        match index % 11 {
            3 => hop.vlan = 7,
            8 => (hop.vlan, hop.outer_vlan) = (8, 9),
            _ => {}
        }
    }
    let mut interface = tables.interfaces[&INGRESS];
    interface.mac = MAC_OTHER;
    interface.mtu = 1000;
    tables.interfaces.insert(OTHER_INTERFACE, interface);
    (tables, targets)
}

fn finish(backend: &mut Backend, id: u32, policies: u8, source: u16) {
    backend.on_backend_down = match (u32::from(policies) + id) % 3 {
        0 => OnBackendDown::Reschedule,
        1 => OnBackendDown::Reset,
        _ => OnBackendDown::Hold,
    } as u8;
    backend.weight = 1 + (id % 3) as u16;
    backend.mss = [0, 1220, 500][id as usize % 3];
    (backend.first_source, backend.sources) = (source, 1);
    backend.tunnel_source = if backend.address.is_v4() {
        std::net::IpAddr::from([172, 16, 0, 0]).into()
    } else {
        std::net::IpAddr::from([0x100, 0, 0, 0, 0, 0, 0, 0]).into()
    };
    backend.tunnel_source_mask = 0xffff_u32.to_be();
}

/// The key of a server id of one byte.
fn server_id(service: u32, name: u8) -> ServerIdKey {
    ServerIdKey {
        id: [u64::from_ne_bytes([name, 0, 0, 0, 0, 0, 0, 0]), 0],
        service,
        reserved: 0,
    }
}

/// What an agent might do.
pub(super) fn change(tables: &mut HostTables, what: u8, whom: usize) {
    let id = 1 + whom % (tables.backends.len() - 1);
    let service = (whom / BACKENDS) as u32 % (tables.backends.len() / BACKENDS) as u32;
    if what >= FIREWALL {
        return change_firewall(tables, whom);
    }
    match what % 10 {
        0 => tables.backends[id].flags ^= backend_flags::DOWN,
        1 => tables.backends[id].flags ^= backend_flags::USED,
        2 => tables.backends[id].next_hop = 0,
        3 => tables.backends[id].next_hop = id as u32,
        4 => {
            for one in tables.services.values_mut().filter(|one| one.id == service) {
                one.slots_len = BACKENDS as u32 - one.slots_len.min(BACKENDS as u32);
            }
        }
        5 => tables.backends[id].idle_timeout = whom as u32,
        // With full NAT, a flow that began here has no source elsewhere, and its server is gone.
        6 if tables.backends[id].forwarding != Forwarding::FullNat as u8 => {
            let hop = &mut tables.next_hops[id];
            hop.ifindex = if hop.ifindex == 0 { INGRESS } else { 0 };
        }
        7 => tables.next_hops[id].mtu = 200 + whom as u32 * 8,
        8 => give_away(tables, id, whom),
        _ => tables.backends[id].mss = (whom as u16) << 4,
    }
}

/// Some of the few clients are denied, or the host is locked down, or both.
fn change_firewall(tables: &mut HostTables, whom: usize) {
    let client = |version| super::endpoint(version, 3, whom as u8 & 1, 1).ip();
    let denied: Vec<_> = [4, 6]
        .into_iter()
        .filter(|version| whom & *version as usize != 0)
        .map(|version| (Prefix::new(client(version), 128), Action::Deny))
        .collect();
    let seed = tables.settings.hash_seed;
    tables.firewall.set(seed, whom as u8, &denied);
    if whom & 8 != 0 {
        let trusted = Prefix::new(super::endpoint(4, 2, 0, 1).ip(), 24);
        tables
            .firewall
            .lock_down(&[(Protocol::Tcp, whom as u16)], &[trusted]);
    }
    tables
        .firewall
        .set_service(LISTS, &[(Prefix::new(client(4), 128), Action::Deny)]);
    for service in tables.services.values_mut() {
        service.lists = if whom & 32 != 0 { LISTS } else { 0 };
    }
    tables.firewall.set_dry_run(whom & 16 != 0);
}

/// A backend was removed, and its number given to one of another service.
fn give_away(tables: &mut HostTables, id: usize, whom: usize) {
    let other = 1 + (whom * 7 + 13) % (tables.backends.len() - 1);
    let sibling = (id - 1) / BACKENDS * BACKENDS + 1 + id % BACKENDS;
    let own = ((id - 1) / BACKENDS) as u32;
    let is_own = |one: usize| tables.backends[one].service == own;
    if !is_own(id) || !is_own(sibling) || is_own(other) {
        return;
    }
    let next_hop = tables.backends[id].next_hop;
    let mut new = tables.backends[other];
    new.next_hop = next_hop;
    // Nobody else listens there.
    new.port = new.port.wrapping_add(1_u16.to_be());
    tables.backends[id] = new;
    for slot in &mut tables.slots {
        if *slot == id as u32 {
            *slot = sibling as u32;
        }
    }
    tables.server_ids.retain(|_, one| *one != id as u32);
}
