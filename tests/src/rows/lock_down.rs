//! A host that is locked down: what it sees all the same, and what it does not.

use std::net::SocketAddr;

use lb_common::{
    abi::{Protocol, features},
    firewall::Prefix,
    host::{HostTables, MAC_BALANCER, MAC_CLIENT},
    verdict::{Event, Verdict},
};
use lb_packets::{ACK, FIN, Packet, RST, SYN, Transport};

use super::{
    Expect, Row,
    world::{Family, World},
};

const SSH: u16 = 22;
const DNS: u16 = 53;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat() {
        rows.extend([services_go_on(&world), only_named_ports(&world)]);
    }
    for family in [Family::V4, Family::V6] {
        rows.extend([
            established_connections_of_the_host(family),
            trusted_sources_reach_everything(family),
            control_messages_that_ip_needs(family),
            protocols_of_routers(family),
            what_cannot_be_looked_into(family),
            a_dry_run_only_counts(family),
            the_other_ip_version_too(family),
            a_cut_header_names_no_port(family),
        ]);
    }
    rows
}

fn lock(tables: &mut HostTables, trusted: &[Prefix]) {
    tables.firewall.set(tables.settings.hash_seed, 7, &[]);
    let ports = [(Protocol::Tcp, SSH), (Protocol::Udp, DNS)];
    tables.firewall.lock_down(&ports, trusted);
}

/// The row of a host that is locked down and trusts a client.
fn locked(world: &World, description: &str) -> Row {
    let whole = if world.family == Family::V4 { 32 } else { 128 };
    let trusted = Prefix::new(world.client(9).ip(), whole);
    world
        .row(description)
        .given(move |fixture| lock(&mut fixture.tables, &[trusted]))
}

fn dropped() -> Expect {
    Expect::dropped(Verdict::DropLockedDown)
}

fn passed() -> Expect {
    Expect::passed(Verdict::PassNotOurs)
}

/// From a client to a port of the host itself.
fn to_host(world: &World, flags: u8, port: u16) -> Packet {
    let mut packet = world.from_client(world.client(1), flags);
    packet.destination = world.family.service(99, port);
    packet
}

fn services_go_on(world: &World) -> Row {
    let row = locked(world, "services of a host that is locked down");
    world.establish(row, world.client(1), 0)
}

fn only_named_ports(world: &World) -> Row {
    let (open, other) = if world.is_tcp() {
        (SSH, DNS)
    } else {
        (DNS, SSH)
    };
    locked(world, "only ports that are named are reached")
        .send(to_host(world, SYN, open), passed())
        .send(to_host(world, SYN, other), dropped())
        .send(to_host(world, SYN, 0), dropped())
        .send(to_host(world, SYN, 65_535), dropped())
        .change(|tables| tables.firewall.set(tables.settings.hash_seed, 8, &[]))
        .send(to_host(world, SYN, other), passed())
}

fn established_connections_of_the_host(family: Family) -> Row {
    let world = World::nat(family, Protocol::Tcp);
    let mut row = locked(&world, "established connections of the host");
    for flags in [ACK, SYN | ACK, FIN | ACK, RST] {
        row = row.send(to_host(&world, flags, 40_000), passed());
    }
    row.send(to_host(&world, SYN, 40_000), dropped())
}

fn trusted_sources_reach_everything(family: Family) -> Row {
    let world = World::nat(family, Protocol::Tcp);
    let from = |client: SocketAddr| Packet {
        source: client,
        ..to_host(&world, SYN, 9_999)
    };
    locked(&world, "a trusted source reaches every port")
        .send(from(world.client(9)), passed())
        .send(from(world.client(10)), dropped())
}

fn control_messages_that_ip_needs(family: Family) -> Row {
    let world = World::nat(family, Protocol::Tcp);
    let mut row = locked(&world, "control messages that IP needs");
    let kinds: (&[u8], &[u8]) = match family {
        Family::V4 => (&[0, 8], &[5, 9, 13, 17, 255]),
        Family::V6 => (&[128, 129, 133, 134, 135, 136, 143], &[0, 137, 139, 255]),
    };
    for (kinds, passes) in [(kinds.0, true), (kinds.1, false)] {
        for kind in kinds {
            let expect = if passes { passed() } else { dropped() };
            let (from, to) = (world.client(1), family.service(99, 0));
            let message = Packet::new(
                from,
                to,
                Transport::Icmp {
                    kind: *kind,
                    code: 0,
                },
            );
            let message = message.payload([0; 24]).macs(MAC_CLIENT, MAC_BALANCER);
            row = row.send(&message, expect);
        }
    }
    row
}

/// The packet with another protocol number; IPv4's checksum is not looked at.
fn with_protocol(packet: &Packet, number: u8) -> Vec<u8> {
    let mut bytes = packet.bytes();
    let offset = packet.network_offset();
    let field = if packet.source.is_ipv4() { 9 } else { 6 };
    bytes[offset + field] = number;
    bytes
}

fn protocols_of_routers(family: Family) -> Row {
    let world = World::nat(family, Protocol::Udp);
    let mut to_group = to_host(&world, 0, 0);
    let group: std::net::IpAddr = match family {
        Family::V4 => [224, 0, 0, 18].into(),
        Family::V6 => [0xff02, 0, 0, 0, 0, 0, 0, 0x12].into(),
    };
    to_group.destination.set_ip(group);
    let to_host = to_host(&world, 0, 0);
    let (vrrp, igmp, ospf) = (112, 2, 89);
    let igmp_expect = match family {
        Family::V4 => passed(),
        Family::V6 => dropped(),
    };
    locked(&world, "VRRP to its group, IGMP, and no other protocol")
        .send(with_protocol(&to_group, vrrp), passed())
        .send(with_protocol(&to_host, vrrp), dropped())
        .send(with_protocol(&to_group, igmp), igmp_expect)
        .send(with_protocol(&to_group, ospf), dropped())
}

fn what_cannot_be_looked_into(family: Family) -> Row {
    let world = World::nat(family, Protocol::Tcp);
    let ethertype = |number: u16| {
        let mut bytes = to_host(&world, SYN, 80).bytes();
        bytes[12..14].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    let (arp, lldp, mpls, pppoe) = (0x0806, 0x88cc, 0x8847, 0x8864);
    let tagged = to_host(&world, SYN, 80).tagged(7);
    let mut thrice = tagged.clone().tagged(8).bytes();
    let tag = thrice[12..16].to_vec();
    thrice.splice(12..12, tag);
    locked(&world, "neighbours and links, and what hides IP")
        .send(ethertype(arp), Expect::passed(Verdict::PassArp))
        .send(ethertype(lldp), Expect::passed(Verdict::PassNotIp))
        .send(ethertype(mpls), dropped())
        .send(ethertype(pppoe), dropped())
        .send(&tagged, dropped())
        .send(thrice, dropped())
}

fn a_dry_run_only_counts(family: Family) -> Row {
    let world = World::nat(family, Protocol::Tcp);
    locked(
        &world,
        "a dry run of the lock-down counts and drops nothing",
    )
    .given(|fixture| fixture.tables.firewall.set_dry_run(true))
    .send(to_host(&world, SYN, 80), passed())
    .send(to_host(&world, SYN, SSH), passed())
    .event(Event::FirewallWouldDrop, 1)
}

/// Even where no service is of that version.
fn the_other_ip_version_too(family: Family) -> Row {
    let world = World::nat(family, Protocol::Tcp);
    let others = match family {
        Family::V4 => features::IPV6,
        Family::V6 => features::IPV4,
    };
    locked(&world, "the IP version that no service has is locked too")
        .given(move |fixture| {
            fixture.tables.settings.features = others | features::LOCK_DOWN;
        })
        .send(to_host(&world, SYN, 80), dropped())
        .send(to_host(&world, SYN, SSH), passed())
}

fn a_cut_header_names_no_port(family: Family) -> Row {
    let world = World::nat(family, Protocol::Tcp);
    let whole = to_host(&world, SYN, SSH);
    let mut cut = whole.bytes();
    let (network, transport) = (whole.network_offset(), whole.transport_offset());
    cut.truncate(transport + 8);
    let length = match family {
        Family::V4 => (cut.len() - network) as u16,
        Family::V6 => 8,
    };
    let field = network + if family == Family::V4 { 2 } else { 4 };
    cut[field..field + 2].copy_from_slice(&length.to_be_bytes());
    let mut lying = whole.bytes();
    lying.truncate(transport + 20);
    lying[field..field + 2].copy_from_slice(&900_u16.to_be_bytes());
    locked(&world, "a header that is cut names no port")
        .send(cut, dropped())
        .send(lying, dropped())
}
