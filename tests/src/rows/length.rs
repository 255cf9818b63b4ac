//! Packets that are truncated, padded, or lie about their length.

use lb_common::verdict::Verdict;
use lb_packets::{ACK, SYN};

use super::{
    Expect, Row,
    stray::reset_for,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([
            cut_off(&world),
            short(&world),
            short_with_padding(&world),
            longer_than_the_frame(&world),
            wrong_version(&world),
            padded(&world),
        ]);
        if world.family == Family::V4 {
            rows.push(header_length(&world));
        }
        if world.is_tcp() {
            rows.push(padding_is_no_data(&world));
        }
    }
    for world in World::all_nat() {
        rows.push(short_reply(&world));
    }
    rows
}

/// The frame with the length of its IP packet set to what is there, and for IPv4 the checksum.
pub(super) fn with_true_length(frame: Vec<u8>, family: Family, offset: usize) -> Vec<u8> {
    let length = frame.len() - offset;
    with_length(frame, family, offset, length as u16)
}

/// The frame with another length of its IP packet.
fn with_length(mut frame: Vec<u8>, family: Family, offset: usize, length: u16) -> Vec<u8> {
    match family {
        Family::V4 => {
            frame[offset + 2..offset + 4].copy_from_slice(&length.to_be_bytes());
            frame[offset + 10..offset + 12].fill(0);
            let header = usize::from(frame[offset] & 15) * 4;
            let sum = etherparse::checksum::Sum16BitWords::new()
                .add_slice(&frame[offset..offset + header])
                .ones_complement();
            frame[offset + 10..offset + 12].copy_from_slice(&sum.to_ne_bytes());
        }
        Family::V6 => {
            let length = length.saturating_sub(40);
            frame[offset + 4..offset + 6].copy_from_slice(&length.to_be_bytes());
        }
    }
    frame
}

/// Bytes of the IP header.
fn header(family: Family) -> usize {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// The wire lost the end: the IP length says so.
fn cut_off(world: &World) -> Row {
    let frame = world
        .from_client(world.client(1), SYN)
        .payload(*b"12345")
        .bytes();
    let mut row = world.row("cut off anywhere");
    for length in 14..frame.len() {
        row = row.send(&frame[..length], Expect::passed(Verdict::PassNotOurs));
    }
    row
}

/// The sender made it too short for its own header.
fn short(world: &World) -> Row {
    let frame = world.from_client(world.client(1), SYN).bytes();
    let start = 14 + header(world.family);
    let needed = if world.is_tcp() { 20 } else { 8 };
    let mut row = world.row("too short for a TCP or UDP header");
    for length in start..start + needed {
        row = row.send(
            with_true_length(frame[..length].to_vec(), world.family, 14),
            Expect::dropped(Verdict::DropMalformed),
        );
    }
    row
}

/// The same on a medium that pads frames to 60 bytes: what looks like a header is padding.
fn short_with_padding(world: &World) -> Row {
    let frame = world
        .from_client(world.client(1), SYN)
        .payload(vec![0; 40])
        .bytes();
    let packet = header(world.family) as u16;
    let needed = if world.is_tcp() { 20 } else { 8 };
    let mut row = world.row("too short for a TCP or UDP header, but padded");
    for length in packet..packet + needed {
        row = row.send(
            with_length(frame.clone(), world.family, 14, length),
            Expect::dropped(Verdict::DropMalformed),
        );
    }
    row
}

fn short_reply(world: &World) -> Row {
    let client = world.client(1);
    // Nobody can say whose it is, and its destination is not ours.
    let row = world.open(world.row("a reply too short for its header"), client, 0);
    let frame = world.from_backend(0, client, SYN | ACK).bytes();
    let end = 14 + header(world.family) + 6;
    row.send(
        with_true_length(frame[..end].to_vec(), world.family, 14),
        Expect::passed(Verdict::PassNotOurs),
    )
}

fn longer_than_the_frame(world: &World) -> Row {
    let frame = world.from_client(world.client(1), SYN).bytes();
    let mut row = world.row("an IP length beyond the frame");
    let true_length = (frame.len() - 14) as u16;
    for length in [true_length + 1, 1500, u16::MAX] {
        row = row.send(
            with_length(frame.clone(), world.family, 14, length),
            Expect::passed(Verdict::PassNotOurs),
        );
    }
    row
}

/// IPv4 says how long its header is.
fn header_length(world: &World) -> Row {
    let frame = world.from_client(world.client(1), SYN).bytes();
    let mut row = world.row("an IPv4 header shorter than it can be, or longer than the packet");
    for words in [0, 1, 4, 15] {
        let mut frame = with_length(frame.clone(), world.family, 14, 36);
        frame[14] = 0x40 | words;
        row = row.send(frame, Expect::passed(Verdict::PassNotOurs));
    }
    let frame = with_length(frame, world.family, 14, 19);
    row.send(frame, Expect::passed(Verdict::PassNotOurs))
}

fn wrong_version(world: &World) -> Row {
    let mut row = world.row("an IP version other than the EtherType's");
    for version in [0x00, 0x50, 0x40, 0x60, 0xf0] {
        let mut frame = world.from_client(world.client(1), SYN).bytes();
        if frame[14] & 0xf0 != version {
            frame[14] = version | (frame[14] & 0x0f);
            row = row.send(frame, Expect::passed(Verdict::PassNotOurs));
        }
    }
    row
}

/// Ethernet pads to 60 bytes. The padding goes along.
fn padded(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN);
    let pad = |frame: Vec<u8>| [frame, vec![0x55; 31]].concat();
    let row = world.row("padding goes along untouched");
    let row = row.send(
        pad(packet.bytes()),
        Expect::steered(pad(world.to_backend(&packet, 0).bytes())),
    );
    if world.forwarding != lb_common::abi::Forwarding::Nat {
        return row;
    }
    let reply = world.from_backend(0, world.client(1), SYN | ACK);
    row.send(
        pad(reply.bytes()),
        Expect::replied(pad(world.to_client(&reply).bytes())),
    )
}

fn padding_is_no_data(world: &World) -> Row {
    let packet = world.from_client(world.client(1), 0).payload(*b"x");
    let mut frame = packet.bytes();
    frame.resize(frame.len() + 10, 0);
    world.row("a RST does not acknowledge padding").send(
        frame,
        Expect::answered(Verdict::AnsweredResetNoFlow, reset_for(&packet)),
    )
}
