//! IPv6 extension headers: the common ones are skipped, and not too many.

use lb_common::{abi::Forwarding, ip::MAX_EXTENSIONS, verdict::Verdict};
use lb_packets::{ACK, PSH, Packet, SYN};

use super::{
    Expect, Row,
    stray::reset_for,
    world::{Family, World},
};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let worlds = World::all_nat().into_iter().chain(World::all_dsr());
    for world in worlds.filter(|world| world.family == Family::V6) {
        rows.extend([
            each_alone(&world),
            all_at_once(&world),
            too_many(&world),
            long(&world),
            unknown(&world),
            on_its_way(&world),
            cut_off(&world),
        ]);
        if world.forwarding == Forwarding::Nat {
            rows.push(replies(&world));
        }
        if world.is_tcp() {
            rows.push(answered(&world));
        }
    }
    rows
}

/// An extension header of `units` times 8 bytes beyond the first 8, empty.
fn extension(number: u8, units: u8) -> (u8, Vec<u8>) {
    let mut bytes = vec![0; 8 + 8 * usize::from(units)];
    if number != FRAGMENT {
        bytes[1] = units;
    }
    if matches!(number, HOP_BY_HOP | DESTINATION_OPTIONS) {
        // PadN over all of it, or over what one byte can say.
        bytes[2] = 1;
        bytes[3] = (bytes.len() - 4).min(255) as u8;
    }
    (number, bytes)
}

fn with(packet: Packet, numbers: &[u8]) -> Packet {
    let extensions = numbers.iter().map(|number| extension(*number, 0)).collect();
    Packet {
        extensions,
        ..packet
    }
}

fn each_alone(world: &World) -> Row {
    let mut row = world.row("each kind alone");
    let kinds = [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS];
    for (turn, number) in kinds.into_iter().enumerate() {
        let packet = world.from_client(world.client(turn as u32), SYN);
        row = world.forward(row, &with(packet, &[number]), turn % 3);
    }
    row
}

const ALL: [u8; 5] = [
    HOP_BY_HOP,
    DESTINATION_OPTIONS,
    ROUTING,
    FRAGMENT,
    DESTINATION_OPTIONS,
];

fn all_at_once(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN).payload(*b"deep");
    world.forward(
        world.row("every kind in the order of RFC 8200"),
        &with(packet, &ALL),
        0,
    )
}

fn replies(world: &World) -> Row {
    let client = world.client(1);
    let row = world.establish(world.row("extension headers of replies"), client, 0);
    let reply = world.from_backend(0, client, ACK | PSH).payload(*b"deep");
    world.reply(row, &with(reply, &ALL))
}

fn too_many(world: &World) -> Row {
    let row = world.row("as many as are skipped, and one more");
    let packet = world.from_client(world.client(1), SYN);
    let row = world.forward(
        row,
        &with(packet.clone(), &[DESTINATION_OPTIONS; MAX_EXTENSIONS]),
        0,
    );
    row.send(
        with(packet, &[DESTINATION_OPTIONS; MAX_EXTENSIONS + 1]),
        Expect::passed(Verdict::PassProtocol),
    )
}

fn long(world: &World) -> Row {
    let mut row = world.row("long ones, of up to 2,048 bytes");
    for (turn, units) in [1, 7, 31, 63, 127, 255].into_iter().enumerate() {
        let packet = Packet {
            extensions: vec![extension(ROUTING, units)],
            ..world.from_client(world.client(turn as u32), SYN)
        };
        row = world.forward(row, &packet, turn % 3);
    }
    row
}

/// What is not skipped hides the ports.
fn unknown(world: &World) -> Row {
    let row = world.row("an authentication header is not skipped");
    let packet = with(
        world.from_client(world.client(1), SYN),
        &[HOP_BY_HOP, AUTHENTICATION],
    );
    row.send(packet, Expect::passed(Verdict::PassProtocol))
}

/// The destination is a host on the way of such a packet and not its end (RFC 8200, section 4.4).
fn on_its_way(world: &World) -> Row {
    let mut row = world.row("a routing header with segments left");
    for before in [&[][..], &[HOP_BY_HOP], &[HOP_BY_HOP, DESTINATION_OPTIONS]] {
        let numbers = [before, &[ROUTING, FRAGMENT]].concat();
        for segments_left in [1, 255] {
            let mut packet = with(world.from_client(world.client(1), SYN), &numbers);
            packet.extensions[before.len()].1[3] = segments_left;
            row = row.send(packet, Expect::passed(Verdict::PassProtocol));
        }
    }
    // That byte says it in a routing header only, and nothing has begun.
    let mut packet = with(world.from_client(world.client(1), SYN), &[HOP_BY_HOP]);
    packet.extensions[0].1[3] = 4;
    world.forward(row, &packet, 0)
}

fn cut_off(world: &World) -> Row {
    let row = world.row("an extension header that ends behind the packet");
    let mut packet = with(world.from_client(world.client(1), SYN), &[ROUTING]);
    packet.extensions[0].1[1] = 200;
    row.send(packet, Expect::dropped(Verdict::DropMalformed))
}

fn answered(world: &World) -> Row {
    let packet = world.from_client(world.client(1), ACK).payload(vec![1; 99]);
    let packet = with(packet, &ALL);
    let row = world.row("a RST has no extension headers");
    row.send(
        &packet,
        Expect::answered(Verdict::AnsweredResetNoFlow, reset_for(&packet)),
    )
}
