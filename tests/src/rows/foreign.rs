//! What is not ours is left alone, to the byte.

use std::net::{IpAddr, SocketAddr};

use lb_common::{abi::Forwarding, host::MAC_CLIENT, verdict::Verdict};
use lb_packets::{ACK, Mac, Packet, RST, SYN, Transport};

use super::{
    Expect, Row,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([
            other_endpoints(&world),
            other_protocols(&world),
            other_hosts(&world),
            flooded_flows(&world),
            virtual_macs(&world),
            backends_own_traffic(&world),
            mapped_addresses(&world),
        ]);
        if world.forwarding == Forwarding::Nat {
            rows.extend([flooded_replies(&world), replies_to_an_upper_mac(&world)]);
        }
    }
    rows.push(other_ethertypes(&World::all_nat()[0]));
    rows
}

fn passed() -> Expect {
    Expect::passed(Verdict::PassNotOurs)
}

fn other_endpoints(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN);
    let mut row = world.row("another address, another port");
    for destination in [
        world.family.service(10, 81),
        world.family.service(11, 80),
        world.family.backend(11, 8080),
        world.family.client(5),
    ] {
        row = row.send(
            Packet {
                destination,
                ..packet.clone()
            },
            passed(),
        );
    }
    row
}

fn other_protocols(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("the other of TCP and UDP");
    let other = match world.from_client(client, SYN).transport {
        Transport::Tcp(_) => Packet::udp(client, world.service),
        Transport::Udp { .. } | Transport::Icmp { .. } => {
            Packet::tcp(client, world.service, lb_packets::Fields::default())
        }
    };
    let base = world.from_client(client, SYN);
    row.send(other.macs(base.source_mac, base.destination_mac), passed())
}

/// A switch floods what it does not know; a promiscuous interface sees all of it.
fn other_hosts(world: &World) -> Row {
    const MACS: [Mac; 4] = [
        [2, 0, 0, 0, 0, 0x1c],
        [0xff; 6],
        [1, 0, 0x5e, 1, 2, 3],
        // Almost that of VRRP.
        [0, 0, 0x5e, 0, 3, 1],
    ];
    let mut row = world.row("frames to other MACs");
    for destination in MACS {
        let packet = world
            .from_client(world.client(1), SYN)
            .macs(MAC_CLIENT, destination);
        row = row.send(packet, Expect::passed(Verdict::PassOtherHost));
    }
    world.open(row, world.client(1), 0)
}

/// Another balancer took the flow over, and a switch shows us its frames. Were both to forward
/// them, the backend would get everything twice.
fn flooded_flows(world: &World) -> Row {
    const THEIRS: Mac = [2, 0, 0, 0, 0, 0x1c];
    let client = world.client(1);
    let flooded = || Expect::passed(Verdict::PassOtherHost);
    let row = world.row("frames of known flows to other MACs");
    let row = world.open(row, client, 0);
    let beginning = world.from_client(client, SYN).macs(MAC_CLIENT, THEIRS);
    let row = row.send(beginning, flooded());
    let row = world.establish(row, client, 0);
    let later = world.from_client(client, ACK).macs(MAC_CLIENT, THEIRS);
    let row = row.send(later, flooded());
    // It may come to another MAC of ours, there and back.
    let ours = world
        .from_client(client, ACK)
        .macs(MAC_CLIENT, [0, 0, 0x5e, 0, 1, 51]);
    let row = world.forward(row, &ours, 0);
    let row = world.forward(row, &world.from_client(client, ACK), 0);
    row.send(
        world.from_client(client, ACK).macs(MAC_CLIENT, THEIRS),
        flooded(),
    )
}

/// So it is with replies: two balancers would send the client everything twice.
fn flooded_replies(world: &World) -> Row {
    const THEIRS: Mac = [2, 0, 0, 0, 0, 0x1c];
    let client = world.client(1);
    let flooded = |row: Row, flags: u8| {
        let reply = world.from_backend(0, client, flags);
        let reply = reply.clone().macs(reply.source_mac, THEIRS);
        row.send(reply, Expect::passed(Verdict::PassOtherHost))
    };
    let mut row = world.row("replies to other MACs");
    row = flooded(world.open(row, client, 0), SYN | ACK);
    row = world.establish(row, client, 0);
    // What they say is theirs: it does not end the flow here.
    row = flooded(row, ACK);
    row = flooded(row, RST);
    row = world.open(row, client, 0);
    world.reply(row, &world.from_backend(0, client, ACK))
}

/// The interface towards the backends may have a MAC of its own, as a VLAN may.
fn replies_to_an_upper_mac(world: &World) -> Row {
    const UPPER: Mac = [2, 0, 0, 0, 0, 0x1d];
    let client = world.client(1);
    let mut row = world
        .row("replies to the MAC that packets to backends come from")
        .given(|fixture| {
            for hop in &mut fixture.tables.next_hops {
                hop.source = UPPER;
            }
        });
    let to_upper = |flags: u8| {
        let reply = world.from_backend(0, client, flags);
        reply.clone().macs(reply.source_mac, UPPER)
    };
    let opening = world.from_client(client, SYN);
    let steered = world.to_backend(&opening, 0);
    let steered = steered.clone().macs(UPPER, steered.destination_mac);
    row = row.send(opening, Expect::steered(steered));
    let reply = to_upper(SYN | ACK);
    let replied = world.to_client(&reply);
    // It leaves by the interface it came in by, from the MAC it was for.
    let replied = replied.clone().macs(UPPER, replied.destination_mac);
    row.send(reply, Expect::replied(replied))
}

fn virtual_macs(world: &World) -> Row {
    let mut row = world.row("the virtual MACs of VRRP are ours");
    for (turn, version) in [1, 2].into_iter().enumerate() {
        let packet = world
            .from_client(world.client(turn as u32), SYN)
            .macs(MAC_CLIENT, [0, 0, 0x5e, 0, version, 51]);
        row = world.forward(row, &packet, turn);
    }
    if world.forwarding != Forwarding::Nat {
        return row;
    }
    // The reply leaves by the MAC that it came to.
    let reply = world.from_backend(0, world.client(0), SYN | ACK);
    let reply = reply.clone().macs(reply.source_mac, [0, 0, 0x5e, 0, 1, 51]);
    let expected = world
        .to_client(&reply)
        .macs(reply.destination_mac, MAC_CLIENT);
    row.send(reply, Expect::replied(expected))
}

fn backends_own_traffic(world: &World) -> Row {
    let client = world.client(1);
    let row = world.open(world.row("what backends send otherwise"), client, 0);
    // To a client that has no flow, from another port, and to a client of another backend.
    let stranger = world.from_backend(0, world.client(2), ACK);
    let row = row.send(stranger, passed());
    let mut other_port = world.from_backend(0, client, ACK);
    other_port.source.set_port(22);
    let row = row.send(other_port, passed());
    row.send(world.from_backend(1, client, ACK), passed())
}

/// IPv6 packets whose addresses are IPv4 ones in disguise must not reach flows of IPv4; RFC 4291
/// gives such addresses no place on the wire, and hosts drop them.
fn mapped_addresses(world: &World) -> Row {
    let mapped = |endpoint: SocketAddr| -> SocketAddr {
        match endpoint.ip() {
            IpAddr::V4(address) => (address.to_ipv6_mapped(), endpoint.port()).into(),
            IpAddr::V6(_) => endpoint,
        }
    };
    let six = Family::V6.client(1);
    let four = mapped(Family::V4.client(1));
    let destination = mapped(world.service);
    let mut row = world.row("IPv4-mapped addresses in IPv6 packets");
    for source in [four, six] {
        // Between two of IPv6 everything is as it should be.
        if (source, destination) != (six, world.service) {
            let disguised = Packet {
                source,
                destination,
                ..world.from_client(world.client(1), SYN)
            };
            row = row.send(disguised, passed());
        }
    }
    row
}

fn other_ethertypes(world: &World) -> Row {
    let client = world.from_client(world.client(1), SYN);
    let mut row = Row::new("ARP, MPLS, PPPoE, LLDP, nothing, noise".to_owned(), {
        let world = world.clone();
        move || world.fixture()
    });
    for (ethertype, length) in [
        (0x0806u16, 28),
        (0x0806, 0),
        (0x8847, 46),
        (0x8848, 46),
        (0x8863, 46),
        (0x8864, 46),
        (0x88cc, 46),
        (0x0026, 38),
        (0xffff, 100),
        (0x0800, 0),
        (0x86dd, 0),
        (0x0800, 19),
        (0x86dd, 39),
    ] {
        let mut frame = [client.destination_mac, client.source_mac].concat();
        frame.extend(ethertype.to_be_bytes());
        frame.resize(14 + length, 0x45);
        let verdict = match ethertype {
            0x0806 => Verdict::PassArp,
            0x8847 | 0x8848 => Verdict::PassMpls,
            0x8863 | 0x8864 => Verdict::PassPppoe,
            0x0800 | 0x86dd => Verdict::PassNotOurs,
            _ => Verdict::PassNotIp,
        };
        row = row.send(frame, Expect::passed(verdict));
    }
    row
}
