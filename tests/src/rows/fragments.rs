//! Fragments: they follow the first one, which has the ports, and what is not ours is left alone.

use std::net::SocketAddr;

use lb_common::{abi::Forwarding, verdict::Verdict};
use lb_packets::{Packet, SYN};

use super::{
    Expect, Row,
    world::{ELSEWHERE, Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([to_the_service(&world), to_others(&world), atomic(&world)]);
        if !world.is_tcp() {
            rows.extend([
                followed(&world),
                another_packet(&world),
                overlapping(&world),
                another_soon_after(&world),
                too_big(&world),
            ]);
            if world.forwarding == Forwarding::Nat {
                rows.push(answered_in_pieces(&world));
            }
        }
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

/// The pieces of a datagram of 2,000 bytes, as a host sends them.
fn pieces(whole: &Packet, identification: u16) -> Vec<Vec<u8>> {
    const FIRST: usize = 1000;
    let bytes = whole.bytes();
    let headers = if whole.source.is_ipv4() { 34 } else { 54 };
    let datagram = &bytes[headers..];
    [(0, FIRST), (FIRST, datagram.len())]
        .into_iter()
        .map(|(from, to)| {
            let more = to < datagram.len();
            piece(whole, identification, from, more, &datagram[from..to])
        })
        .collect()
}

/// A frame with that part of a datagram.
fn piece(whole: &Packet, identification: u16, from: usize, more: bool, data: &[u8]) -> Vec<u8> {
    let headers = if whole.source.is_ipv4() { 34 } else { 54 };
    let mut packet = Packet {
        identification,
        dont_fragment: false,
        ..whole.clone()
    };
    packet = fragment(packet, (from / 8) as u16, more);
    if let Some((_, extension)) = packet.extensions.last_mut() {
        extension[6..8].copy_from_slice(&identification.to_be_bytes());
    }
    let mut frame = packet.payload(Vec::new()).bytes();
    let extension = if whole.source.is_ipv4() { 0 } else { 8 };
    frame.truncate(headers + extension);
    frame.extend_from_slice(data);
    let length = (frame.len() - 14) as u16;
    if whole.source.is_ipv4() {
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame[24..26].fill(0);
        let sum = etherparse::checksum::Sum16BitWords::new()
            .add_slice(&frame[14..34])
            .ones_complement();
        frame[24..26].copy_from_slice(&sum.to_ne_bytes());
    } else {
        frame[18..20].copy_from_slice(&(length - 40).to_be_bytes());
    }
    frame
}

fn datagram(world: &World, client: u32) -> Packet {
    world
        .from_client(world.client(client), 0)
        .payload((0..2000).map(|n| n as u8).collect::<Vec<_>>())
}

/// All of them are what a host would have sent to the backend: checksums included.
fn followed(world: &World) -> Row {
    let mut row = world.row("the pieces of a packet follow the first one");
    for (client, backend) in [(1, 0), (2, 1), (1, 0)] {
        let whole = datagram(world, client);
        let arrive = pieces(&whole, 7 + client as u16);
        let leave = pieces(&world.to_backend(&whole, backend), 7 + client as u16);
        for (arrives, leaves) in arrive.into_iter().zip(leave) {
            row = row.send(
                arrives,
                Expect::checked(Verdict::Steered, move |frame| {
                    lb_packets::difference(&leaves, frame).map_or(Ok(()), Err)
                }),
            );
        }
    }
    row
}

fn answered_in_pieces(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("the pieces of an answer follow the first one");
    let mut row = world.open(row, client, 0);
    let whole = world
        .from_backend(0, client, 0)
        .payload((0..2000).map(|n| n as u8).collect::<Vec<_>>());
    let leave = pieces(&world.to_client(&whole), 9);
    for (arrives, leaves) in pieces(&whole, 9).into_iter().zip(leave) {
        row = row.send(
            arrives,
            Expect::checked(Verdict::SteeredReply, move |frame| {
                lb_packets::difference(&leaves, frame).map_or(Ok(()), Err)
            }),
        );
    }
    row
}

fn another_packet(world: &World) -> Row {
    let row = world.row("a piece of another packet of the same client does not follow");
    let [first, _] = <[_; 2]>::try_from(pieces(&datagram(world, 1), 1)).expect("two pieces");
    let [_, later] = <[_; 2]>::try_from(pieces(&datagram(world, 1), 2)).expect("two pieces");
    row.send(first, Expect::checked(Verdict::Steered, |_| Ok(())))
        .send(later, Expect::dropped(Verdict::DropFragment))
}

/// RFC 5722: a second first piece with other ports is an attack.
fn overlapping(world: &World) -> Row {
    let row = world.row("a second first piece cannot take the others elsewhere");
    let whole = datagram(world, 1);
    let mut forged = whole.clone();
    forged.source.set_port(whole.source.port() ^ 1);
    let [first, later] = <[_; 2]>::try_from(pieces(&whole, 1)).expect("two pieces");
    let [second, _] = <[_; 2]>::try_from(pieces(&forged, 1)).expect("two pieces");
    let sent = || Expect::checked(Verdict::Steered, |_| Ok(()));
    row.send(first.clone(), sent())
        .send(second, Expect::dropped(Verdict::DropFragmentMismatch))
        .send(first, sent())
        .send(later, sent())
}

/// Busy senders use an identification again after a while.
fn another_soon_after(world: &World) -> Row {
    let row = world.row("a first piece that is not of the same moment begins another packet");
    let whole = datagram(world, 1);
    let mut later_one = whole.clone();
    later_one.source.set_port(whole.source.port() ^ 1);
    let [first, _] = <[_; 2]>::try_from(pieces(&whole, 1)).expect("two pieces");
    let [second, rest] = <[_; 2]>::try_from(pieces(&later_one, 1)).expect("two pieces");
    let sent = || Expect::checked(Verdict::Steered, |_| Ok(()));
    row.send(first, sent())
        .wait(3)
        .send(second, sent())
        .send(rest, sent())
}

fn too_big(world: &World) -> Row {
    let row = world
        .row("a piece too big for its way is not answered, but counted")
        .given(|fixture| {
            for hop in &mut fixture.tables.next_hops {
                hop.ifindex = ELSEWHERE;
                hop.mtu = 900;
            }
        });
    let [first, _] = <[_; 2]>::try_from(pieces(&datagram(world, 1), 1)).expect("two pieces");
    row.send(first, Expect::dropped(Verdict::DropTooBig))
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
