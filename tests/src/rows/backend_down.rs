//! `on_backend_down`: what becomes of live flows.

use lb_common::{
    abi::{Forwarding, OnBackendDown, backend_flags, network_port},
    host::HostTables,
    verdict::{Event, Verdict},
};
use lb_packets::{ACK, PSH, RST, SYN};

use super::{Expect, Row, no_backend::unreachable_for, stray::reset_for, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([
            rescheduled(&world),
            held(&world),
            others_stay(&world),
            last_one_down(&world),
            removed(&world),
            id_used_again(&world),
            reset_of_a_client_goes_on(&world),
        ]);
        if world.is_tcp() {
            rows.extend([reset(&world), half_open(&world), half_open_held(&world)]);
        } else {
            rows.push(reset_for_udp(&world));
        }
    }
    rows
}

fn row(world: &World, policy: OnBackendDown, description: &str) -> Row {
    world
        .row(&format!("{policy:?}: {description}"))
        .given(move |fixture| {
            for backend in &mut fixture.tables.backends {
                backend.on_backend_down = policy as u8;
            }
        })
}

/// The first backend goes down; the others are in rotation. The order is that of the file.
fn first_goes_down(tables: &mut HostTables) {
    tables.backends[1].flags |= backend_flags::DOWN;
    tables.slots[0] = 2;
    tables.slots[1] = 3;
    for service in tables.services.values_mut() {
        service.slots_len = 2;
    }
}

fn rescheduled(world: &World) -> Row {
    let client = world.client(1);
    let row = row(world, OnBackendDown::Reschedule, "the next packet moves");
    let row = world.establish(row, client, 0).change(first_goes_down);
    // The cursor stands at 1: the second slot.
    let packet = world.from_client(client, ACK | PSH);
    let row = world
        .forward(row, &packet, 2)
        .event(Event::FlowRescheduled, 1);
    let row = world
        .forward(row, &packet, 2)
        .event(Event::FlowRescheduled, 1);
    world.open(row, world.client(2), 1)
}

fn reset(world: &World) -> Row {
    let client = world.client(1);
    let row = row(world, OnBackendDown::Reset, "the next packet is answered");
    let row = world.establish(row, client, 0).change(first_goes_down);
    let packet = world.from_client(client, ACK | PSH).payload(*b"hello");
    let answered = || Expect::answered(Verdict::AnsweredResetBackendDown, reset_for(&packet));
    let row = row.send(&packet, answered()).send(&packet, answered());
    // A new connection from the same port finds another backend at once.
    let row = world.open(row, client, 2);
    row.event(Event::FlowRescheduled, 0)
}

fn reset_for_udp(world: &World) -> Row {
    let client = world.client(1);
    let row = row(world, OnBackendDown::Reset, "UDP has no RST and moves");
    let row = world.establish(row, client, 0).change(first_goes_down);
    world
        .forward(row, &world.from_client(client, 0), 2)
        .event(Event::FlowRescheduled, 1)
}

fn held(world: &World) -> Row {
    let client = world.client(1);
    let row = row(world, OnBackendDown::Hold, "flows stay");
    let row = world.establish(row, client, 0).change(first_goes_down);
    let row = world.forward(row, &world.from_client(client, ACK), 0);
    let row = row.event(Event::FlowRescheduled, 0);
    world.open(row, world.client(2), 2)
}

fn others_stay(world: &World) -> Row {
    let mut row = row(
        world,
        OnBackendDown::Reschedule,
        "flows of others do not move",
    );
    for number in 0..3 {
        row = world.establish(row, world.client(number), number as usize);
    }
    row = row.change(first_goes_down);
    for number in 1..3 {
        let packet = world.from_client(world.client(number), ACK);
        row = world.forward(row, &packet, number as usize);
    }
    row.event(Event::FlowRescheduled, 0)
}

fn half_open(world: &World) -> Row {
    let client = world.client(1);
    let row = row(
        world,
        OnBackendDown::Reschedule,
        "a retransmitted SYN moves",
    );
    let row = world.open(row, client, 0).change(first_goes_down);
    world.establish(row, client, 2)
}

fn half_open_held(world: &World) -> Row {
    let client = world.client(1);
    let row = row(world, OnBackendDown::Hold, "a retransmitted SYN stays");
    let row = world.open(row, client, 0).change(first_goes_down);
    world.open(row, client, 0)
}

/// There is nobody to move to, so a packet is as stray as any.
fn last_one_down(world: &World) -> Row {
    let client = world.client(1);
    let row = row(world, OnBackendDown::Reschedule, "but nobody is left");
    let row = world.establish(row, client, 0).change(|tables| {
        first_goes_down(tables);
        for service in tables.services.values_mut() {
            service.slots_len = 0;
        }
    });
    let packet = world.from_client(client, ACK);
    let expect = if world.is_tcp() {
        Expect::answered(Verdict::AnsweredResetNoFlow, reset_for(&packet))
    } else {
        let answer = unreachable_for(&packet);
        Expect::answered(Verdict::AnsweredUnreachableNoBackend, answer)
    };
    row.send(&packet, expect)
}

/// The client gives up; who answered its RST would be wrong, and its backend should know.
fn reset_of_a_client_goes_on(world: &World) -> Row {
    let client = world.client(1);
    let policy = if world.is_tcp() {
        OnBackendDown::Reset
    } else {
        OnBackendDown::Hold
    };
    let row = row(world, policy, "a client's RST goes on to the backend");
    let row = world.establish(row, client, 0).change(first_goes_down);
    world.forward(row, &world.from_client(client, RST), 0)
}

/// A flow outlived its backend, and the backend's id now names one of another service.
fn id_used_again(world: &World) -> Row {
    let client = world.client(1);
    let row = row(
        world,
        OnBackendDown::Hold,
        "the id of a removed backend is used again",
    );
    let row = world.establish(row, client, 0).change(|tables| {
        first_goes_down(tables);
        let backend = &mut tables.backends[1];
        backend.flags = backend_flags::USED;
        backend.service_port = network_port(9999);
    });
    let row = if world.forwarding == Forwarding::Nat {
        let reply = world.from_backend(0, client, ACK);
        row.send(reply, Expect::passed(Verdict::PassNotOurs))
    } else {
        row
    };
    let packet = world.from_client(client, ACK);
    if !world.is_tcp() {
        return world.forward(row, &packet, 2);
    }
    let expect = Expect::answered(Verdict::AnsweredResetNoFlow, reset_for(&packet));
    row.send(&packet, expect)
}

/// Taken out of the config; its id is free.
fn removed(world: &World) -> Row {
    let client = world.client(1);
    let row = row(world, OnBackendDown::Hold, "a removed backend gets nothing");
    let row = world.establish(row, client, 0).change(|tables| {
        first_goes_down(tables);
        tables.backends[1].flags = 0;
    });
    let packet = world.from_client(client, ACK);
    if !world.is_tcp() {
        return world.forward(row, &packet, 2);
    }
    let expect = Expect::answered(Verdict::AnsweredResetNoFlow, reset_for(&packet));
    let row = row.send(&packet, expect);
    world.forward(row, &world.from_client(client, SYN), 2)
}
