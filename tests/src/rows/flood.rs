//! A SYN flood churns the half-open table and nothing else.

use lb_common::{tables::FlowTable, verdict::Event};
use lb_packets::{ACK, SYN};

use super::{Expect, Row, world::World};

/// More than twice what the fixture's half-open table holds.
const FLOOD: u32 = 600;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::tcp_nat() {
        rows.push(established_flows_survive(&world));
    }
    for world in World::udp_nat() {
        rows.push(single_datagrams_evict_nothing(&world));
    }
    rows
}

fn flood(world: &World, mut row: Row) -> Row {
    for number in 0..FLOOD {
        let packet = world.from_client(world.client(10_000 + number), SYN);
        row = row.send(packet, Expect::steered_somewhere());
    }
    row
}

fn established_flows_survive(world: &World) -> Row {
    let clients: Vec<_> = (0..30).map(|number| world.client(number)).collect();
    let mut row = world.row("a SYN flood evicts no established flow");
    for (number, client) in clients.iter().enumerate() {
        row = world.establish(row, *client, number % 3);
    }
    row = flood(world, row).event(Event::EstablishedEvicted, 0);
    for (number, client) in clients.iter().enumerate() {
        row = world.forward(row, &world.from_client(*client, ACK), number % 3);
        row = world.reply(row, &world.from_backend(number % 3, *client, ACK));
    }
    // Those of the flood have churned.
    row.check_tables(|tables| {
        let half_open = tables.flows(FlowTable::HalfOpen);
        if half_open > 256 {
            return Err(format!("{half_open} half-open flows"));
        }
        if tables.event(Event::HalfOpenEvicted) == 0 {
            return Err("nothing was evicted, so this row shows nothing".to_owned());
        }
        Ok(())
    })
}

fn single_datagrams_evict_nothing(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("a flood of single datagrams evicts no established flow");
    let row = world.establish(row, client, 0);
    let row = flood(world, row).event(Event::FlowEstablished, 1);
    let row = row.event(Event::EstablishedEvicted, 0);
    world.forward(row, &world.from_client(client, 0), 0)
}
