//! ICMP: pings of a service's address, and errors about flows, which are translated back.

use std::net::SocketAddr;

use lb_common::{abi::Forwarding, host::MAC_CLIENT, verdict::Verdict};
use lb_packets::{ACK, PSH, Packet, SYN, Transport};

use super::{
    Expect, Row,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([
            ping(&world),
            other_messages(&world),
            about_nothing(&world),
            error_for_a_backend(&world),
        ]);
        if world.forwarding == Forwarding::Nat {
            rows.extend([
                error_for_a_client(&world),
                half_open(&world),
                no_life(&world),
                cut(&world),
            ]);
        }
    }
    rows
}

/// "Fragmentation needed", "packet too big".
const fn too_big(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (3, 4),
        Family::V6 => (2, 0),
    }
}

/// A message from anybody to anybody.
pub(super) fn message(
    world: &World,
    from: SocketAddr,
    to: SocketAddr,
    (kind, code): (u8, u8),
) -> Packet {
    Packet {
        source: from,
        destination: to,
        transport: Transport::Icmp { kind, code },
        ..world.from_client(world.client(1), SYN)
    }
}

/// The beginning of a packet as an error quotes it: its headers and eight bytes.
fn quote(packet: &Packet) -> Vec<u8> {
    let headers = if packet.source.is_ipv4() { 20 } else { 40 };
    packet.bytes()[14..14 + headers + 8].to_vec()
}

/// An error about a packet.
fn error(world: &World, from: SocketAddr, to: SocketAddr, about: &Packet) -> Packet {
    message(world, from, to, too_big(world.family)).payload(quote(about))
}

/// A router's error about what the client was sent, and what the backend gets of it; `packet` is what
/// the backend sent.
pub(super) fn about_reply(
    world: &World,
    seen: &Packet,
    packet: &Packet,
    backend: usize,
) -> (Packet, Packet) {
    let arrives = error(world, router(world), world.service, seen);
    let mut leaves = world.to_backend(&arrives, backend);
    leaves.destination = world.backends[backend];
    leaves.payload = quote(&Packet {
        // The balancer took one on the way.
        hop_limit: seen.hop_limit,
        ..packet.clone()
    });
    (arrives, leaves)
}

/// A router on the way.
fn router(world: &World) -> SocketAddr {
    world.family.client(77_777)
}

fn ping(world: &World) -> Row {
    let (request, reply) = match world.family {
        Family::V4 => ((8, 0), (0, 0)),
        Family::V6 => ((128, 0), (129, 0)),
    };
    let client = world.client(1);
    let mut row = world.row("a ping is answered, whatever its size");
    // Two of them make the checksum carry.
    for payload in [
        vec![],
        vec![0xff; 1],
        vec![0xfe; 56],
        vec![0xfe; 1400],
        vec![0; 1458],
    ] {
        let question = message(world, client, world.service, request).payload(payload.clone());
        let mut answer = message(world, world.service, client, reply).payload(payload);
        (answer.source_mac, answer.destination_mac) =
            (question.destination_mac, question.source_mac);
        row = row.send(&question, Expect::answered(Verdict::AnsweredEcho, answer));
    }
    let elsewhere = message(world, client, world.backends[0], request);
    let row = row.send(&elsewhere, Expect::passed(Verdict::PassNotOurs));
    let mut other_mac = message(world, client, world.service, request);
    other_mac.destination_mac[5] ^= 1;
    let row = row.send(&other_mac, Expect::passed(Verdict::PassOtherHost));
    let looped = message(world, world.service, world.service, request);
    row.send(&looped, Expect::dropped(Verdict::DropReflected))
}

fn other_messages(world: &World) -> Row {
    let kinds: &[(u8, u8)] = match world.family {
        // An answer, a timestamp request.
        Family::V4 => &[(0, 0), (13, 0)],
        // An answer, neighbour solicitation and advertisement.
        Family::V6 => &[(129, 0), (135, 0), (136, 0)],
    };
    let mut row = world.row("other messages for a service's address reach the kernel");
    for kind in kinds {
        let packet = message(world, world.client(1), world.service, *kind);
        row = row.send(&packet, Expect::passed(Verdict::PassProtocol));
    }
    row
}

fn about_nothing(world: &World) -> Row {
    let row = world.row("an error about no flow, or about nothing at all");
    let stranger = world.to_client(&world.from_backend(0, world.client(9), ACK));
    let row = row.send(
        error(world, router(world), world.service, &stranger),
        Expect::dropped(Verdict::DropErrorNoFlow),
    );
    let empty = message(world, router(world), world.service, too_big(world.family));
    let row = row.send(&empty, Expect::dropped(Verdict::DropErrorNoFlow));
    let noise = empty.payload(vec![0x45; 64]);
    let row = row.send(&noise, Expect::dropped(Verdict::DropErrorNoFlow));
    let other = error(world, router(world), world.backends[1], &stranger);
    row.send(&other, Expect::passed(Verdict::PassNotOurs))
}

/// A packet of a backend did not get through to its client.
fn error_for_a_backend(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("an error about a reply goes to the flow's backend");
    let row = world.establish(row, client, 0);
    let sent = match world.forwarding {
        Forwarding::Nat => world.to_client(&world.from_backend(0, client, ACK | PSH)),
        Forwarding::FullNat | Forwarding::DsrL2 | Forwarding::DsrIpip | Forwarding::DsrGue => {
            Packet {
                source: world.service,
                ..world.from_backend(0, client, ACK | PSH)
            }
        }
    };
    let arrives = error(world, router(world), world.service, &sent);
    let mut leaves = world.to_backend(&arrives, 0);
    if world.forwarding == Forwarding::Nat {
        leaves.destination = world.backends[0];
        leaves.payload = quote(&Packet {
            source: world.backends[0],
            ..sent
        });
    }
    row.send(&arrives, Expect::leaving(Verdict::SteeredError, leaves))
}

/// A packet of a client did not get through to its backend.
fn error_for_a_client(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("an error about a client's packet goes to the client, from the service");
    let row = world.establish(row, client, 0);
    let asked = world.from_client(client, ACK | PSH);
    let sent = world.to_backend(&asked, 0);
    let quoted = quote(&Packet {
        destination: world.service,
        ..sent.clone()
    });
    let mut row = row;
    // A router's error keeps its sender; a backend's own comes from the service.
    for (from, seen_from) in [
        (router(world), router(world)),
        (world.backends[0], world.service),
    ] {
        let mut arrives = error(world, from, client, &sent);
        arrives.source_mac = world.backend_mac(0);
        let leaves = Packet {
            source: seen_from,
            payload: quoted.clone(),
            ..world.to_client(&arrives)
        };
        row = row.send(&arrives, Expect::leaving(Verdict::SteeredError, leaves));
    }
    row
}

fn half_open(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("also in the middle of a handshake");
    let row = world.open(row, client, 0);
    let sent = world.to_backend(&world.from_client(client, SYN), 0);
    let arrives = error(world, world.backends[0], client, &sent);
    let leaves = Packet {
        source: world.service,
        payload: quote(&Packet {
            destination: world.service,
            ..sent
        }),
        ..world.to_client(&arrives)
    };
    row.send(&arrives, Expect::leaving(Verdict::SteeredError, leaves))
}

fn no_life(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("an error whose TTL ends here");
    let row = world.establish(row, client, 0);
    let sent = world.to_client(&world.from_backend(0, client, ACK));
    let arrives = error(world, router(world), world.service, &sent).hop_limit(1);
    row.send(&arrives, Expect::dropped(Verdict::DropTtlExceeded))
}

fn cut(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("an error with less than eight bytes of TCP or UDP");
    let mut row = world.establish(row, client, 0);
    let sent = world.to_client(&world.from_backend(0, client, ACK));
    let whole = quote(&sent);
    for length in 0..whole.len() {
        let arrives = message(world, router(world), world.service, too_big(world.family))
            .payload(whole[..length].to_vec());
        row = row.send(&arrives, Expect::dropped(Verdict::DropErrorNoFlow));
    }
    let mut from_client_s_side = error(world, router(world), world.service, &sent);
    from_client_s_side.source_mac = MAC_CLIENT;
    row.send(&from_client_s_side, Expect::sound(Verdict::SteeredError))
}
