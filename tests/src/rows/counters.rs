//! What is counted for a backend.

use lb_common::abi::Forwarding;
use lb_packets::{ACK, PSH, SYN};

use super::{Expect, Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([steered(&world), not_steered(&world)]);
    }
    rows
}

/// Bytes are those of the IP packet.
fn steered(world: &World) -> Row {
    let client = world.client(1);
    let mut row = world.row("flows, packets, bytes, replies");
    let mut packets = 0;
    let mut bytes = 0;
    for length in [0u64, 1, 700, 1400] {
        let packet = world
            .from_client(client, SYN)
            .payload(vec![0; length as usize]);
        let mut frame = packet.bytes();
        packets += 1;
        bytes += frame.len() as u64 - 14;
        // Padding and a tag do not count.
        frame.extend([0; 20]);
        row = row.send(frame, Expect::steered_somewhere());
    }
    let mut replies = [0, 0];
    if world.forwarding == Forwarding::Nat {
        let reply = world
            .from_backend(0, client, ACK | PSH)
            .payload(vec![0; 99])
            .tagged(9);
        replies = [1, reply.bytes().len() as u64 - 18];
        let expected = world.to_client(&reply);
        row = row.send(
            reply,
            Expect::replied(lb_packets::Packet {
                tag: None,
                ..expected
            }),
        );
    }
    row.backend(1, [1, packets, bytes, replies[0], replies[1]])
        .backend(2, [0; 5])
}

fn not_steered(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("what is dropped is not counted for a backend");
    let packet = world.from_client(client, SYN).hop_limit(1);
    row.send(
        packet,
        Expect::dropped(lb_common::verdict::Verdict::DropTtlExceeded),
    )
    .backend(1, [0; 5])
}
