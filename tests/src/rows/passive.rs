//! What becomes of handshakes is counted, for passive checks: established, refused, asked for again
//! in vain. A forged SYN counts as nothing.

use lb_common::abi::{Forwarding, Protocol, features};
use lb_packets::{ACK, PSH, Packet, RST, SYN, Transport};

use super::{
    Row,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::tcp_nat() {
        rows.extend([
            established(&world),
            refused(&world),
            reset_after_an_answer(&world),
            asked_again_at_once(&world),
            asked_again_later(&world),
            asked_again_after_an_answer(&world),
            forged(&world),
            switched_off(&world),
        ]);
    }
    for family in [Family::V4, Family::V6] {
        let world = World::dsr(family, Protocol::Tcp);
        rows.extend([
            established(&world),
            asked_again_at_once(&world),
            asked_again_later(&world),
            late_client(&world),
            forged(&world),
        ]);
    }
    rows
}

fn established(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("an established connection counts once");
    let row = world.establish(row, client, 0).handshakes(1, [1, 0, 0]);
    let row = world.forward(row, &world.from_client(client, ACK | PSH), 0);
    world
        .establish(row, world.client(2), 1)
        .handshakes(1, [1, 0, 0])
        .handshakes(2, [1, 0, 0])
}

fn refused(world: &World) -> Row {
    let client = world.client(1);
    let row = world.open(world.row("a refused SYN counts once"), client, 0);
    let reset = world.from_backend(0, client, RST | ACK);
    let row = world.reply(row, &reset).handshakes(1, [0, 1, 0]);
    let row = world.reply(row, &reset).handshakes(1, [0, 1, 0]);
    // Some clients do not believe it, and ask the next one.
    let row = world.open(row, client, 1);
    let row = world.reply(row, &world.from_backend(1, client, RST | ACK));
    row.handshakes(1, [0, 1, 0]).handshakes(2, [0, 1, 0])
}

/// It may be a client's fault: a wrong number, a forged ACK.
fn reset_after_an_answer(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("a RST after the SYN-ACK or later counts as nothing");
    let row = world.open(row, client, 0);
    let row = world.reply(row, &world.from_backend(0, client, SYN | ACK));
    let row = world.reply(row, &world.from_backend(0, client, RST));
    let row = world.establish(row, world.client(2), 1);
    let row = world.reply(row, &world.from_backend(1, world.client(2), RST | ACK));
    row.handshakes(1, [0; 3]).handshakes(2, [1, 0, 0])
}

/// No client does that, and somebody who forges SYNs might.
fn asked_again_at_once(world: &World) -> Row {
    let client = world.client(1);
    let mut row = world.row("the same SYN at once counts as nothing");
    for _ in 0..2 {
        row = world.open(row, client, 0);
    }
    row.handshakes(1, [0; 3])
}

fn asked_again_later(world: &World) -> Row {
    let client = world.client(1);
    let mut row = world.row("a SYN that comes again counts once, however often it comes");
    row = world.open(row, client, 0);
    for seconds in [1, 2, 4] {
        row = world.open(row.wait(seconds), client, 0);
        row = row.handshakes(1, [0, 0, 1]);
    }
    // From another port it is another connection.
    let other = std::net::SocketAddr::new(client.ip(), client.port() + 1);
    row = world.open(row, other, 1);
    row = world.open(row.wait(1), other, 1);
    row.handshakes(1, [0, 0, 1]).handshakes(2, [0, 0, 1])
}

fn asked_again_after_an_answer(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("a SYN that comes again although it was answered counts as nothing");
    let row = world.open(row, client, 0);
    let row = world.reply(row, &world.from_backend(0, client, SYN | ACK));
    let row = world.open(row.wait(1), client, 0);
    row.handshakes(1, [0; 3])
}

/// The answer was on its way when the client asked again.
fn late_client(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("one that asked again and is established counts as both");
    let row = world.open(row, client, 0);
    let row = world.open(row.wait(1), client, 0);
    let row = world.forward(row, &world.from_client(client, ACK), 0);
    row.handshakes(1, [1, 0, 1])
}

fn forged(world: &World) -> Row {
    let mut row = world.row("a flood of forged SYNs counts as nothing");
    for number in 0..30 {
        let backend = number as usize % 3;
        row = world.open(row, world.client(number), backend);
        if world.forwarding == Forwarding::Nat {
            // What it guesses of the backend's number does not fit.
            let mut guess: Packet = world.from_client(world.client(number), ACK);
            if let Transport::Tcp(fields) = &mut guess.transport {
                fields.acknowledgement = 0x1234_5678;
            }
            row = world.forward(row, &guess, backend);
        }
    }
    (1..=3).fold(row, |row, id| row.handshakes(id, [0; 3]))
}

fn switched_off(world: &World) -> Row {
    let client = world.client(1);
    let row = world
        .row("without the feature nothing is counted")
        .given(|fixture| fixture.tables.settings.features &= !features::HANDSHAKES);
    let row = world.establish(row, client, 0);
    let row = world.open(row, world.client(2), 1);
    let row = world.reply(row, &world.from_backend(1, world.client(2), RST | ACK));
    row.handshakes(1, [0; 3]).handshakes(2, [0; 3])
}
