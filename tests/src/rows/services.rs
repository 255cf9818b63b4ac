//! Several services in the same tables.

use lb_common::{
    abi::{Forwarding, Protocol},
    host::Fixture,
    verdict::Verdict,
};
use lb_packets::{ACK, FIN, Packet, RST, SYN};

use super::{
    Expect, Row,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat() {
        rows.extend([
            one_port_two_services(&world),
            two_ports_two_services(&world),
            the_retry_gets_another(&world),
            own_turns(&world),
        ]);
        if world.is_tcp() {
            rows.extend([
                after_the_first_is_closed(&world),
                after_the_first_was_refused(&world),
            ]);
        } else {
            rows.push(after_the_first_is_idle(&world));
        }
    }
    rows.push(everything_at_once());
    rows
}

/// A second service that has the same backends.
fn sibling(world: &World) -> World {
    World {
        service: world.family.service(20, 443),
        ..world.clone()
    }
}

/// Two services with one backend, so that everybody meets at it. Next hops count on.
fn sharing(world: &World, description: &str) -> (World, World, Row) {
    let mut first = world.clone();
    first.backends.truncate(1);
    let second = sibling(&first);
    let (one, two) = (first.clone(), second.clone());
    let row = first.row(description).given(move |fixture| {
        two.add_to(fixture);
        // One backend has one way to it.
        let hop = fixture.tables.next_hops[1];
        fixture.tables.next_hops[2] = hop;
    });
    (one, second, row)
}

/// The answers to the two could not be told apart.
fn one_port_two_services(world: &World) -> Row {
    let (first, second, row) = sharing(
        world,
        "one client port to two services that share a backend",
    );
    let client = world.client(1);
    let mut row = first.open(row, client, 0);
    for _ in 0..2 {
        let packet = second.from_client(client, SYN);
        row = row.send(packet, Expect::dropped(Verdict::DropTupleInUse));
    }
    row = first.establish(row, client, 0);
    let packet = second.from_client(client, SYN);
    row.send(packet, Expect::dropped(Verdict::DropTupleInUse))
}

fn two_ports_two_services(world: &World) -> Row {
    let (first, second, row) = sharing(world, "two client ports to two services");
    let row = first.establish(row, world.client(1), 0);
    let row = second.establish(row, world.client(2), 0);
    let row = first.reply(row, &first.from_backend(0, world.client(1), ACK));
    second.reply(row, &second.from_backend(0, world.client(2), ACK))
}

fn the_retry_gets_another(world: &World) -> Row {
    let second = sibling(world);
    let added = second.clone();
    let client = world.client(1);
    let row = world
        .row("the retry of a client whose port is taken gets another backend")
        .given(move |fixture| {
            added.add_to(fixture);
        });
    let row = world.establish(row, client, 0);
    let packet = second.from_client(client, SYN);
    let row = row.send(&packet, Expect::dropped(Verdict::DropTupleInUse));
    let mut expected = second.to_backend(&packet, 1);
    expected.destination_mac[4] = 5;
    row.send(packet, Expect::steered(expected))
}

/// The place of the first flow is still taken for late packets; the second must not get its
/// answers with the first one's address.
fn after_the_first_is_closed(world: &World) -> Row {
    let (first, second, row) = sharing(
        world,
        "the client's port is free for another service once the first connection is closed",
    );
    let client = world.client(1);
    let row = first.establish(row, client, 0);
    let row = first.forward(row, &first.from_client(client, FIN | ACK), 0);
    let row = first.reply(row, &first.from_backend(0, client, FIN | ACK));
    let row = first.forward(row, &first.from_client(client, ACK), 0);
    let row = second.establish(row, client, 0);
    second.reply(row, &second.from_backend(0, client, ACK))
}

fn after_the_first_was_refused(world: &World) -> Row {
    let (first, second, row) = sharing(
        world,
        "the client's port is free for another service once the first connection was refused",
    );
    let client = world.client(1);
    let row = first.open(row, client, 0);
    let row = first.reply(row, &first.from_backend(0, client, RST | ACK));
    let row = second.establish(row, client, 0);
    second.reply(row, &second.from_backend(0, client, ACK))
}

fn after_the_first_is_idle(world: &World) -> Row {
    let (first, second, row) = sharing(
        world,
        "the client's port is free for another service once the first flow is idle",
    );
    let client = world.client(1);
    let row = first.establish(row, client, 0).wait(1000);
    let row = second.establish(row, client, 0);
    second.reply(row, &second.from_backend(0, client, 0))
}

fn own_turns(world: &World) -> Row {
    let second = sibling(world);
    let added = second.clone();
    let mut row = world
        .row("each service counts its own turns")
        .given(move |fixture| {
            added.add_to(fixture);
        });
    for number in 0..6 {
        let turn = number as usize % 3;
        row = world.open(row, world.client(number), turn);
        let packet = second.from_client(world.client(100 + number), SYN);
        let mut expected = second.to_backend(&packet, turn);
        expected.destination_mac[4] = 4 + turn as u8;
        row = row.send(packet, Expect::steered(expected));
    }
    row
}

/// Both families, both protocols and both ways of forwarding side by side.
fn everything_at_once() -> Row {
    let mut worlds = World::all_nat();
    for mut world in World::all_dsr() {
        world.service.set_port(53);
        world.backends.iter_mut().for_each(|b| b.set_port(53));
        worlds.push(world);
    }
    let added = worlds.clone();
    let mut row = Row::new("eight services side by side".to_owned(), move || {
        let mut fixture = Fixture::default();
        for world in &added {
            world.add_to(&mut fixture);
        }
        fixture
    });
    for number in 0..6 {
        for (index, world) in worlds.iter().enumerate() {
            let packet = world.from_client(world.client(number), SYN);
            let turn = number as usize % 3;
            let mut expected: Packet = world.to_backend(&packet, turn);
            expected.destination_mac[4] = (3 * index + turn) as u8 + 1;
            row = row.send(packet, Expect::steered(expected));
        }
    }
    debug_assert!(worlds.iter().any(|world| {
        (world.family, world.protocol, world.forwarding)
            == (Family::V6, Protocol::Udp, Forwarding::DsrL2)
    }));
    row
}
