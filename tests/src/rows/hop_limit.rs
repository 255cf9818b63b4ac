//! The TTL or hop limit falls by 1, and a packet that cannot afford that goes nowhere.

use lb_common::verdict::Verdict;
use lb_packets::{ACK, SYN};

use super::{Expect, Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat() {
        rows.extend([falls(&world), replies(&world)]);
        rows.push(exhausted(&world));
    }
    for world in World::all_dsr() {
        rows.extend([falls(&world), exhausted(&world)]);
    }
    rows
}

fn falls(world: &World) -> Row {
    let mut row = world.row("every TTL falls by 1");
    for hops in [2, 3, 64, 128, 129, 255] {
        let packet = world
            .from_client(world.client(hops.into()), SYN)
            .hop_limit(hops);
        let backend = [2u8, 3, 64, 128, 129, 255].iter().position(|h| *h == hops);
        row = world.forward(row, &packet, backend.unwrap_or(0) % 3);
    }
    row
}

fn exhausted(world: &World) -> Row {
    let dropped = || Expect::dropped(Verdict::DropTtlExceeded);
    let client = world.client(1);
    let mut row = world.row("TTL 1 and 0 are refused, and cost nobody's turn");
    for hops in [0, 1] {
        row = row.send(world.from_client(client, SYN).hop_limit(hops), dropped());
    }
    row = world.establish(row, client, 0);
    for hops in [0, 1] {
        row = row.send(world.from_client(client, ACK).hop_limit(hops), dropped());
    }
    world.forward(row, &world.from_client(client, ACK).hop_limit(2), 0)
}

fn replies(world: &World) -> Row {
    let client = world.client(1);
    let mut row = world.open(world.row("the same for replies"), client, 0);
    for hops in [0, 1] {
        row = row.send(
            world.from_backend(0, client, SYN | ACK).hop_limit(hops),
            Expect::dropped(Verdict::DropTtlExceeded),
        );
    }
    for hops in [2, 255] {
        row = world.reply(
            row,
            &world.from_backend(0, client, SYN | ACK).hop_limit(hops),
        );
    }
    row
}
