//! IPv4 options are left where they are.

use lb_common::verdict::Verdict;
use lb_packets::{ACK, PSH, Packet, SYN};

use super::{
    Expect, Row,
    stray::reset_for,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let worlds = World::all_nat().into_iter().chain(World::all_dsr());
    for world in worlds.filter(|world| world.family == Family::V4) {
        rows.extend([forward(&world), lying_length(&world)]);
        if world.forwarding == lb_common::abi::Forwarding::Nat {
            rows.push(replies(&world));
        }
        if world.is_tcp() {
            rows.push(answered(&world));
        }
    }
    rows
}

/// A record route option, or as much of it as fits.
fn with_options(packet: Packet, length: usize) -> Packet {
    let mut options = vec![0; length];
    options[..3].copy_from_slice(&[7, length as u8 - 1, 4]);
    Packet { options, ..packet }
}

fn forward(world: &World) -> Row {
    let mut row = world.row("options of 4 to 40 bytes");
    for (turn, length) in (4..=40).step_by(4).enumerate() {
        let packet = world.from_client(world.client(turn as u32), SYN);
        row = world.forward(row, &with_options(packet, length), turn % 3);
    }
    row
}

fn replies(world: &World) -> Row {
    let client = world.client(1);
    let mut row = world.establish(world.row("options of replies"), client, 0);
    for length in [4, 24, 40] {
        let reply = world
            .from_backend(0, client, ACK | PSH)
            .payload(*b"options");
        row = world.reply(row, &with_options(reply, length));
    }
    row
}

fn answered(world: &World) -> Row {
    let packet = world.from_client(world.client(1), ACK).payload(vec![9; 33]);
    let packet = with_options(packet, 40);
    let row = world.row("a RST has no options");
    row.send(
        &packet,
        Expect::answered(Verdict::AnsweredResetNoFlow, reset_for(&packet)),
    )
}

/// The header is said to be longer than the packet.
fn lying_length(world: &World) -> Row {
    let mut frame = world.from_client(world.client(1), SYN).bytes();
    let row = world.row("a header longer than the packet");
    frame[14] = 0x4f;
    row.send(frame, Expect::passed(Verdict::PassNotOurs))
}
