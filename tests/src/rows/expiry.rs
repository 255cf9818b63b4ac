//! Flows that nobody uses are forgotten. Only the host's clock can be moved.

use lb_common::{
    abi::Ticks,
    flow::HALF_OPEN_SECONDS,
    verdict::{Event, Verdict},
};
use lb_packets::{ACK, FIN, SYN};

use super::{Expect, Row, stray::reset_for, world::World};

const IDLE: u32 = 30;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([unanswered(&world), in_use(&world)]);
        if world.is_tcp() {
            rows.extend([idle_tcp(&world), unanswered_ack(&world)]);
        } else {
            rows.extend([idle_udp(&world), single_datagram(&world)]);
        }
    }
    for world in World::tcp_nat() {
        rows.push(closed(&world));
    }
    for world in World::all_nat() {
        rows.push(replies_keep_alive(&world));
    }
    rows
}

fn row(world: &World, description: &str) -> Row {
    world.row(description).given(|fixture| {
        for backend in &mut fixture.tables.backends {
            backend.idle_timeout = Ticks::from_seconds(IDLE).0;
        }
    })
}

fn idle_udp(world: &World) -> Row {
    let client = world.client(1);
    let row = world.establish(row(world, "an idle UDP flow"), client, 0);
    let row = row.wait(IDLE - 1);
    let row = world.open(row, client, 0).wait(IDLE + 1);
    world.open(row, client, 1)
}

fn single_datagram(world: &World) -> Row {
    let client = world.client(1);
    let row = world.open(row(world, "a lone datagram"), client, 0);
    world.open(row.wait(IDLE + 1), client, 1)
}

/// An idle TCP connection is not broken by force: a late packet still knows where to go, and only
/// a SYN begins anew.
fn idle_tcp(world: &World) -> Row {
    let client = world.client(1);
    let row = world.establish(row(world, "an idle TCP connection"), client, 0);
    let row = row.wait(IDLE + 1);
    let row = world.forward(row, &world.from_client(client, ACK), 0);
    world.open(row.wait(IDLE + 1), client, 1)
}

fn in_use(world: &World) -> Row {
    let client = world.client(1);
    let mut row = world.establish(row(world, "a flow in use"), client, 0);
    for _ in 0..5 {
        row = row.wait(IDLE - 1);
        row = world.forward(row, &world.from_client(client, ACK), 0);
    }
    row
}

fn replies_keep_alive(world: &World) -> Row {
    let client = world.client(1);
    let mut row = world.establish(row(world, "a flow that only the backend uses"), client, 0);
    for _ in 0..5 {
        row = row.wait(IDLE - 1);
        row = world.reply(row, &world.from_backend(0, client, ACK));
    }
    row = row.wait(IDLE - 1);
    world.open(row, client, 0)
}

fn unanswered(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("a beginning that nothing follows");
    let row = world.open(row, client, 0);
    let row = row.wait(HALF_OPEN_SECONDS - 1);
    if world.is_tcp() {
        // A retransmission gives it as long again.
        let row = world.open(row, client, 0).wait(HALF_OPEN_SECONDS - 1);
        let row = world.open(row, client, 0).wait(HALF_OPEN_SECONDS + 1);
        return world.open(row, client, 1);
    }
    world.open(row.wait(2), client, 1)
}

fn unanswered_ack(world: &World) -> Row {
    let client = world.client(1);
    let row = world.open(world.row("an ACK that comes too late"), client, 0);
    let packet = world.from_client(client, ACK);
    row.wait(HALF_OPEN_SECONDS + 1).send(
        &packet,
        Expect::answered(Verdict::AnsweredResetNoFlow, reset_for(&packet)),
    )
}

/// The place of a closed flow is free soon, which is not an eviction.
fn closed(world: &World) -> Row {
    let client = world.client(1);
    let row = world.establish(world.row("a closed flow"), client, 0);
    let row = world.forward(row, &world.from_client(client, FIN | ACK), 0);
    let row = world.reply(row, &world.from_backend(0, client, FIN | ACK));
    let row = row.wait(11).check_tables(|tables| {
        use lb_common::tables::{FlowTable, Tables};
        let bucket = (0..=tables.settings.established_mask)
            .filter_map(|index| tables.bucket(FlowTable::Established, index))
            .find_map(|bucket| bucket.flows().next());
        match bucket {
            Some(flow) if flow.is_expired(tables.now.get()) => Ok(()),
            Some(_) => Err("it still lives".to_owned()),
            None => Err("it is not there at all".to_owned()),
        }
    });
    world
        .forward(row, &world.from_client(client, SYN), 1)
        .event(Event::EstablishedEvicted, 0)
}
