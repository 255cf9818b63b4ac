//! UDP checksums: 0 means "none" and stays 0; a sum that comes out as 0 is written as 0xffff
//! (RFC 768).

use lb_packets::{Packet, Transport};

use super::{Expect, Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::udp_nat() {
        rows.extend([
            none_stays_none(&world),
            zero_becomes_ffff_forward(&world),
            zero_becomes_ffff_backward(&world),
            ffff_is_a_checksum(&world),
        ]);
    }
    rows
}

fn without(packet: Packet) -> Packet {
    Packet {
        transport: Transport::Udp {
            has_checksum: false,
        },
        ..packet
    }
}

fn none_stays_none(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("no checksum stays no checksum");
    let row = world.forward(row, &without(world.from_client(client, 0)), 0);
    let row = world.reply(row, &without(world.from_backend(0, client, 0)));
    world.forward(row, &without(world.from_client(client, 0)), 0)
}

/// The same with a payload of two bytes that makes the checksum 0xffff, which is -0.
fn with_checksum_ffff(packet: &Packet) -> Packet {
    let with = |payload: u16| packet.clone().payload(payload.to_be_bytes());
    let offset = packet.transport_offset() + 6;
    let checksum = |packet: &Packet| {
        let frame = packet.bytes();
        u16::from_be_bytes([frame[offset], frame[offset + 1]])
    };
    // The checksum of payload 0 is what is missing to 0xffff.
    let found = with(checksum(&with(0)));
    debug_assert_eq!(checksum(&found), 0xffff);
    found
}

fn zero_becomes_ffff_forward(world: &World) -> Row {
    let client = world.client(2);
    // Chosen so that it is right behind the balancer, where destination and TTL are others.
    let payload = with_checksum_ffff(&world.to_backend(&world.from_client(client, 0), 0)).payload;
    let packet = world.from_client(client, 0).payload(payload);
    let expected = world.to_backend(&packet, 0).bytes();
    let offset = packet.transport_offset() + 6;
    let row = world.row("a checksum that comes out as 0 is written as 0xffff, to the backend");
    row.send(packet, written_as_ffff(expected, offset))
}

fn zero_becomes_ffff_backward(world: &World) -> Row {
    let client = world.client(3);
    let payload = with_checksum_ffff(&world.to_client(&world.from_backend(0, client, 0))).payload;
    let packet = world.from_backend(0, client, 0).payload(payload);
    let expected = world.to_client(&packet).bytes();
    let offset = packet.transport_offset() + 6;
    let row = world.row("a checksum that comes out as 0 is written as 0xffff, to the client");
    let row = world.open(row, client, 0);
    let expect = written_as_ffff(expected, offset);
    row.send(
        packet,
        Expect {
            verdict: lb_common::verdict::Verdict::SteeredReply,
            ..expect
        },
    )
}

fn written_as_ffff(frame: Vec<u8>, offset: usize) -> Expect {
    let found = u16::from_be_bytes([frame[offset], frame[offset + 1]]);
    assert_eq!(found, 0xffff, "the row is made wrong");
    Expect::steered(frame)
}

/// A datagram whose checksum is 0xffff has one, and it must change.
fn ffff_is_a_checksum(world: &World) -> Row {
    let packet = with_checksum_ffff(&world.from_client(world.client(4), 0));
    world.forward(world.row("a checksum of 0xffff is one"), &packet, 0)
}
