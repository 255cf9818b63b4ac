//! Fragments: without ports they cannot be steered, and what is not ours is left alone.

use std::net::SocketAddr;

use lb_common::verdict::Verdict;
use lb_packets::{Packet, SYN};

use super::{
    Expect, Row,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([to_the_service(&world), to_others(&world), atomic(&world)]);
        if world.family == Family::V6 {
            rows.push(behind_other_extensions(&world));
        }
    }
    rows
}

/// The same as a fragment at an offset in units of 8 bytes.
fn fragment(packet: Packet, offset: u16, more: bool) -> Packet {
    if packet.source.is_ipv4() {
        return Packet {
            fragment: Some((offset, more)),
            ..packet
        };
    }
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    let mut extensions = packet.extensions.clone();
    extensions.push((44, vec![0, 0, high, low, 0xde, 0xad, 0xbe, 0xef]));
    Packet {
        extensions,
        ..packet
    }
}

const PIECES: [(u16, bool); 3] = [(1, true), (185, false), (0x1fff, false)];

fn to_the_service(world: &World) -> Row {
    let mut row = world.row("fragments to a service's address whose first one was not seen");
    for (offset, more) in PIECES {
        let packet = world.from_client(world.client(1), SYN).payload(vec![0; 24]);
        let packet = fragment(packet, offset, more);
        row = row.send(packet, Expect::dropped(Verdict::DropFragment));
    }
    // A later fragment may be smaller than any header.
    let mut packet = fragment(world.from_client(world.client(1), SYN), 185, false).bytes();
    let last = packet.len() - if world.is_tcp() { 19 } else { 15 };
    packet.truncate(last);
    row.send(
        super::length::with_true_length(packet, world.family, 14),
        Expect::dropped(Verdict::DropFragment),
    )
}

fn to_others(world: &World) -> Row {
    let mut row = world.row("fragments to other addresses");
    let other: SocketAddr = world.family.service(99, 80);
    for (offset, more) in PIECES {
        let packet = Packet {
            destination: other,
            ..world.from_client(world.client(1), SYN)
        };
        let packet = fragment(packet.payload(vec![0; 16]), offset, more);
        row = row.send(packet, Expect::passed(Verdict::PassNotOurs));
    }
    row
}

/// RFC 6946: a fragment header without fragmentation. IPv4 knows only "don't fragment".
fn atomic(world: &World) -> Row {
    let packet = match world.family {
        Family::V4 => Packet {
            dont_fragment: false,
            ..world.from_client(world.client(1), SYN)
        },
        Family::V6 => fragment(world.from_client(world.client(1), SYN), 0, false),
    };
    world.forward(
        world.row("a packet that may be or seems fragmented"),
        &packet,
        0,
    )
}

fn behind_other_extensions(world: &World) -> Row {
    let mut packet = world.from_client(world.client(1), SYN);
    packet.extensions = vec![
        (0, vec![0, 0, 1, 4, 0, 0, 0, 0]),
        (60, vec![0, 0, 1, 4, 0, 0, 0, 0]),
    ];
    let row = world.row("a fragment header behind other extension headers");
    row.send(
        fragment(packet, 3, true),
        Expect::dropped(Verdict::DropFragment),
    )
}
