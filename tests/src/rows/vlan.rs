//! IEEE 802.1Q tags: the next hop's towards the backend, and the client's own on the way back.

use lb_common::verdict::Verdict;
use lb_packets::{ACK, PSH, Packet, SYN};

use super::{
    Expect, Row,
    world::{ELSEWHERE, World},
};

/// Priority 3, VLAN 100.
const TAG: u16 = 0x0064;
/// VLAN 200, drop eligible.
const OTHER: u16 = 0x00c8;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat() {
        rows.extend([
            kept(&world),
            pushed_for_the_client(&world),
            popped_for_the_client(&world),
            changed_for_the_client(&world),
            client_moves(&world),
            client_moves_at_once(&world),
        ]);
    }
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([
            to_the_backend(&world),
            priority_tag(&world),
            redirected(&world),
            two_tags(&world),
            cut_off(&world),
        ]);
    }
    rows
}

fn retagged(packet: &Packet, tag: Option<u16>) -> Packet {
    Packet {
        tag,
        ..packet.clone()
    }
}

/// The row, with that tag on the way to every backend.
fn behind_tag(row: Row, tag: Option<u16>) -> Row {
    row.given(move |fixture| {
        for hop in &mut fixture.tables.next_hops {
            hop.vlan = tag.unwrap_or(0);
        }
    })
}

/// A client with one tag, whose backends are behind another. `None` is untagged.
fn conversation(world: &World, row: Row, client_tag: Option<u16>, backend_tag: Option<u16>) -> Row {
    let client = world.client(1);
    let client_packet = |flags| retagged(&world.from_client(client, flags), client_tag);
    let forward = |row: Row, packet: &Packet| {
        let expected = retagged(&world.to_backend(packet, 0), backend_tag);
        row.send(packet, Expect::steered(expected))
    };
    let mut row = forward(behind_tag(row, backend_tag), &client_packet(SYN));
    for flags in [SYN | ACK, ACK | PSH] {
        let reply = retagged(&world.from_backend(0, client, flags), backend_tag);
        let expected = retagged(&world.to_client(&reply), client_tag);
        row = row.send(reply, Expect::replied(expected));
        row = forward(row, &client_packet(ACK));
    }
    row
}

fn kept(world: &World) -> Row {
    let row = world.row("a tag is kept both ways");
    conversation(world, row, Some(TAG), Some(TAG))
}

fn pushed_for_the_client(world: &World) -> Row {
    let row = world.row("a tagged client of an untagged backend");
    conversation(world, row, Some(TAG), None)
}

fn popped_for_the_client(world: &World) -> Row {
    let row = world.row("an untagged client of a tagged backend");
    conversation(world, row, None, Some(TAG))
}

fn changed_for_the_client(world: &World) -> Row {
    let row = world.row("client and backend in two VLANs");
    conversation(world, row, Some(TAG), Some(OTHER))
}

/// A router failed over: the client's packets come by another MAC and another VLAN.
fn client_moves(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("replies follow a client that moves");
    let row = world.establish(row, client, 0);
    let mut moved = world.from_client(client, ACK).tagged(OTHER);
    moved.source_mac = [2, 0, 0, 0, 0, 0xc2];
    let row = world.forward(row, &moved, 0);
    let reply = world.from_backend(0, client, ACK);
    let mut expected = world.to_client(&reply).tagged(OTHER);
    expected.destination_mac = moved.source_mac;
    row.send(reply, Expect::replied(expected))
}

/// Two routers share the client's packets, and the second one has the handshake's end.
fn client_moves_at_once(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("replies follow a client that moves within the handshake");
    let row = world.open(row, client, 0);
    let row = world.reply(row, &world.from_backend(0, client, SYN | ACK));
    let mut moved = world.from_client(client, ACK).tagged(OTHER);
    moved.source_mac = [2, 0, 0, 0, 0, 0xc2];
    let row = world.forward(row, &moved, 0);
    let reply = world.from_backend(0, client, ACK);
    let mut expected = world.to_client(&reply).tagged(OTHER);
    expected.destination_mac = moved.source_mac;
    row.send(reply, Expect::replied(expected))
}

fn to_the_backend(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN).tagged(TAG);
    let expected = retagged(&world.to_backend(&packet, 0), Some(OTHER));
    behind_tag(world.row("the tag of the way to the backend"), Some(OTHER))
        .send(packet, Expect::steered(expected))
}

/// VLAN 0 says nothing but a priority.
fn priority_tag(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN).tagged(0);
    let expected = retagged(&world.to_backend(&packet, 0), None);
    world
        .row("an empty tag is taken off")
        .send(packet, Expect::steered(expected))
}

fn redirected(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN).tagged(TAG);
    let expected = retagged(&world.to_backend(&packet, 0), None);
    world
        .row("another interface has no tag")
        .given(|fixture| fixture.tables.next_hops[1].ifindex = ELSEWHERE)
        .send(packet, Expect::steered(expected).by(ELSEWHERE))
}

/// Two tags are looked into, and only those that have a standard.
fn two_tags(world: &World) -> Row {
    let mut row = world.row("two tags, three, and tags before their standard");
    for (outer, count) in [(0x88a8u16, 1), (0x8100, 1), (0x9100, 1), (0x8100, 2)] {
        let mut frame = world.from_client(world.client(1), SYN).tagged(TAG).bytes();
        let [high, low] = outer.to_be_bytes();
        for _ in 0..count {
            frame.splice(12..12, [high, low, 0, 7]);
        }
        let expect = match (outer, count) {
            (0x9100, _) | (_, 2) => Expect::passed(Verdict::PassNotIp),
            _ => Expect::steered_somewhere(),
        };
        row = row.send(frame, expect);
    }
    row
}

fn cut_off(world: &World) -> Row {
    let frame = world.from_client(world.client(1), SYN).tagged(TAG).bytes();
    let mut row = world.row("a frame that ends within its tag");
    for length in 14..18 {
        row = row.send(&frame[..length], Expect::passed(Verdict::PassNotOurs));
    }
    row
}
