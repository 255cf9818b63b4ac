//! The order in which new flows meet backends.

use lb_common::slots::smooth_weighted;
use lb_packets::{ACK, SYN};

use super::{Expect, Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([strict(&world), weighted(&world), flows_do_not_count(&world)]);
    }
    for world in World::tcp_nat() {
        rows.extend([retransmitted_syn(&world), swapped_slots(&world)]);
    }
    rows
}

fn strict(world: &World) -> Row {
    let mut row = world.row("1, 2, 3, 1, 2, 3");
    for number in 0..9 {
        row = world.open(row, world.client(number), number as usize % 3);
    }
    row
}

fn weighted(world: &World) -> Row {
    let order = smooth_weighted(&[3, 1, 2]);
    let slots: Vec<u32> = order.iter().map(|index| *index as u32 + 1).collect();
    let mut row = world
        .row("weights 3, 1, 2 give the order of the slot table")
        .given(move |fixture| {
            fixture.tables.slots.clone_from(&slots);
            for service in fixture.tables.services.values_mut() {
                service.slots_len = slots.len() as u32;
            }
        });
    for (number, index) in order.iter().cycle().take(13).enumerate() {
        row = world.open(row, world.client(number as u32), *index);
    }
    row
}

/// Only new flows move the cursor.
fn flows_do_not_count(world: &World) -> Row {
    let mut row = world.row("packets of flows do not disturb the order");
    for number in 0..6 {
        let client = world.client(number);
        row = world.establish(row, client, number as usize % 3);
        row = world.forward(row, &world.from_client(client, ACK), number as usize % 3);
    }
    row
}

fn retransmitted_syn(world: &World) -> Row {
    let client = world.client(1);
    let row = world.open(
        world.row("a retransmitted SYN keeps its backend"),
        client,
        0,
    );
    let row = world.open(row, client, 0);
    let row = world.open(row, world.client(2), 1);
    let row = world.open(row, client, 0);
    let row = world.open(row, world.client(3), 2);
    // Also once it is answered, and once it is proven.
    let row = world.reply(row, &world.from_backend(0, client, SYN | ACK));
    let row = world.open(row, client, 0);
    let row = world.forward(row, &world.from_client(client, ACK), 0);
    world.open(row, client, 0)
}

/// The agent replaces a service's slots under running traffic.
fn swapped_slots(world: &World) -> Row {
    let row = world.row("a new slot table counts from the next flow on; flows stay");
    let row = world.establish(row, world.client(0), 0);
    let row = row.change(|tables| {
        let offset = tables.slots.len() as u32;
        tables.slots.extend([3, 2]);
        for service in tables.services.values_mut() {
            (service.slots_offset, service.slots_len) = (offset, 2);
        }
    });
    // The cursor stands at 1: the second of the new slots.
    let row = world.open(row, world.client(1), 1);
    let row = world.open(row, world.client(2), 2);
    let row = world.open(row, world.client(3), 1);
    row.send(
        world.from_client(world.client(0), ACK),
        Expect::steered(world.to_backend(&world.from_client(world.client(0), ACK), 0)),
    )
}
