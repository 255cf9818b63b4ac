//! The end of a connection, and the next one from the same port.

use lb_common::verdict::Verdict;
use lb_packets::{ACK, FIN, PSH, RST, SYN};

use super::{Expect, Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::tcp_nat() {
        rows.extend([
            fin_of_both(&world),
            fin_of_one(&world),
            reset_by_client(&world),
            reset_by_backend(&world),
            refused_by_backend(&world),
            forged_reset(&world),
            late_packets(&world),
            reset_of_a_half_open_flow(&world),
        ]);
    }
    rows
}

fn fin_of_both(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("after FIN of both sides a SYN is scheduled anew at once");
    let row = world.establish(row, client, 0);
    let row = world.forward(row, &world.from_client(client, FIN | ACK), 0);
    let row = world.reply(row, &world.from_backend(0, client, FIN | ACK));
    let row = world.forward(row, &world.from_client(client, ACK), 0);
    world.establish(row, client, 1)
}

/// The other side may still have much to say.
fn fin_of_one(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("after FIN of one side the flow goes on");
    let row = world.establish(row, client, 0);
    let row = world.forward(row, &world.from_client(client, FIN | ACK), 0);
    let row = world.reply(
        row,
        &world.from_backend(0, client, ACK | PSH).payload(*b"more"),
    );
    world.open(row, client, 0)
}

fn reset_by_client(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("after a client's RST a SYN is scheduled anew at once");
    let row = world.establish(row, client, 0);
    let row = world.forward(row, &world.from_client(client, RST | ACK), 0);
    world.establish(row, client, 1)
}

fn reset_by_backend(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("after a backend's RST a SYN is scheduled anew at once");
    let row = world.establish(row, client, 0);
    let row = world.reply(row, &world.from_backend(0, client, RST | ACK));
    world.establish(row, client, 1)
}

fn refused_by_backend(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("a SYN after a refused one is scheduled anew at once");
    let row = world.open(row, client, 0);
    let row = world.reply(row, &world.from_backend(0, client, RST | ACK));
    world.establish(row, client, 1)
}

/// Somebody who guessed the ports, but not the sequence number.
fn forged_reset(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("a further ACK of the same side takes a RST back");
    let row = world.establish(row, client, 0);
    let row = world.forward(row, &world.from_client(client, RST), 0);
    let row = world.forward(row, &world.from_client(client, ACK), 0);
    // The flow lives, so a SYN is a retransmission.
    let row = world.open(row, client, 0);
    let row = world.reply(row, &world.from_backend(0, client, RST));
    let row = world.reply(row, &world.from_backend(0, client, ACK));
    world.open(row, client, 0)
}

fn late_packets(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("late packets of a closed flow still find their way");
    let row = world.establish(row, client, 0);
    let row = world.forward(row, &world.from_client(client, FIN | ACK), 0);
    let row = world.reply(row, &world.from_backend(0, client, FIN | ACK));
    let row = world.forward(row, &world.from_client(client, FIN | ACK), 0);
    world.reply(row, &world.from_backend(0, client, ACK))
}

fn reset_of_a_half_open_flow(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("a client that gives up within the handshake");
    let row = world.open(row, client, 0);
    let row = world.forward(row, &world.from_client(client, RST), 0);
    let row = world.open(row, client, 1);
    // The first backend does not know that yet; the client's own stack answers what it gets.
    row.send(
        world.from_backend(0, client, SYN | ACK),
        Expect::passed(Verdict::PassNotOurs),
    )
}
