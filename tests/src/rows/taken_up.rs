//! TCP packets of no flow, where the balancers agree on the backend by a hash and replies do not pass:
//! the connection began by another one of them.

use lb_common::{
    abi::{Scheduler, service_flags},
    firewall::rate::Sources,
    tables::FlowTable,
    verdict::{Event, Verdict},
};
use lb_packets::{ACK, FIN, PSH, RST, SYN};

use super::{
    Expect, Row,
    limits::{for_long, limit},
    schedulers::{hashed, scheduled},
    stray::reset_for,
    world::World,
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_dsr() {
        if world.is_tcp() {
            for scheduler in [Scheduler::Maglev, Scheduler::SourceHash] {
                rows.push(goes_on(&world, scheduler));
            }
            rows.extend([
                ends_without_a_flow(&world),
                no_syn_ack(&world),
                no_backend(&world),
                as_many_as_there_is_room_for(&world),
                as_many_as_its_source_may_begin(&world),
                nobody_is_denied_for_a_router(&world),
                others_are_refused(&world),
            ]);
        }
    }
    rows
}

fn taking_up(world: &World, description: &str, scheduler: Scheduler) -> Row {
    scheduled(world.row(description), scheduler).given(|fixture| {
        for service in fixture.tables.services.values_mut() {
            service.flags = service_flags::TAKES_UP;
        }
    })
}

/// To the backend that its SYN would have gone to, first as half-open, then as established.
fn goes_on(world: &World, scheduler: Scheduler) -> Row {
    let description = format!("{scheduler:?}: a connection of another balancer goes on");
    let mut row = taking_up(world, &description, scheduler);
    for number in 1..=6 {
        let client = world.client(number);
        let backend = hashed(world, client, scheduler);
        let data = world
            .from_client(client, ACK | PSH)
            .payload(vec![0x5a; 700]);
        row = world.forward(row, &data, backend);
        row = world.forward(row, &world.from_client(client, ACK), backend);
        // It is a flow like any other now.
        row = world.forward(row, &world.from_client(client, FIN | ACK), backend);
    }
    row.event(Event::ConnectionTakenUp, 6)
        .event(Event::FlowEstablished, 6)
        .check_tables(|tables| {
            let counters = tables.counters.borrow();
            let connections: u64 = counters.values().map(|one| one.connections).sum();
            if connections == 0 {
                Ok(())
            } else {
                Err(format!("{connections} connections are counted as begun"))
            }
        })
}

fn ends_without_a_flow(world: &World) -> Row {
    let row = taking_up(
        world,
        "what ends a connection of another balancer needs no flow",
        Scheduler::Maglev,
    );
    let row = [RST, RST | ACK, FIN | ACK]
        .into_iter()
        .zip(1..)
        .fold(row, |row, (flags, number)| {
            let client = world.client(number);
            let backend = hashed(world, client, Scheduler::Maglev);
            world.forward(row, &world.from_client(client, flags), backend)
        });
    row.event(Event::ConnectionTakenUp, 3)
        .check_tables(|tables| match tables.flows(FlowTable::HalfOpen) {
            0 => Ok(()),
            flows => Err(format!("{flows} flows are kept")),
        })
}

/// Nobody who connects sends one.
fn no_syn_ack(world: &World) -> Row {
    let row = taking_up(world, "a SYN-ACK is not taken up", Scheduler::Maglev);
    let packet = world.from_client(world.client(1), SYN | ACK);
    let refused = Expect::answered(Verdict::AnsweredResetNoFlow, reset_for(&packet));
    row.send(&packet, refused)
}

fn no_backend(world: &World) -> Row {
    let row =
        taking_up(world, "nobody is there to take it up", Scheduler::Maglev).given(|fixture| {
            for service in fixture.tables.services.values_mut() {
                service.slots_len = 0;
            }
        });
    let packet = world.from_client(world.client(1), ACK);
    let refused = Expect::answered(Verdict::AnsweredResetNoBackend, reset_for(&packet));
    row.send(&packet, refused)
}

/// Forged ones displace each other in the half-open table, as forged SYNs do, and nobody else.
fn as_many_as_there_is_room_for(world: &World) -> Row {
    let row = taking_up(
        world,
        "a flood of strays stays in the half-open table",
        Scheduler::Maglev,
    );
    let row = (1..=200).fold(row, |row, number| {
        let client = world.client(number);
        let backend = hashed(world, client, Scheduler::Maglev);
        world.forward(row, &world.from_client(client, ACK), backend)
    });
    row.event(Event::FlowEstablished, 0).check_tables(|tables| {
        match tables.flows(FlowTable::Established) {
            0 => Ok(()),
            flows => Err(format!("{flows} flows are established")),
        }
    })
}

/// It takes a token as a SYN does; what ends connections as well.
fn as_many_as_its_source_may_begin(world: &World) -> Row {
    let row = taking_up(
        world,
        "what is taken up takes a token",
        Scheduler::SourceHash,
    );
    let row = limit(row, 2, Sources::new(32, 64, false));
    let packet = |port, flags| {
        let mut client = world.client(1);
        client.set_port(port);
        world.from_client(client, flags)
    };
    let backend = hashed(world, world.client(1), Scheduler::SourceHash);
    let row = world.forward(row, &packet(41_001, ACK), backend);
    let row = world.forward(row, &packet(41_002, RST), backend);
    let dropped = || Expect::dropped(Verdict::DropRateNewConnections);
    let row = row.send(packet(41_003, ACK), dropped());
    let row = row.send(packet(41_004, SYN), dropped());
    world.forward(row, &packet(41_001, ACK), backend)
}

/// All connections of a network behind one address may come at once.
fn nobody_is_denied_for_a_router(world: &World) -> Row {
    let row = taking_up(
        world,
        "who has no token for what is taken up is not denied for it",
        Scheduler::SourceHash,
    );
    let row = for_long(limit(row, 1, Sources::new(32, 64, false)), 600);
    let packet = |port, flags| {
        let mut client = world.client(1);
        client.set_port(port);
        world.from_client(client, flags)
    };
    let backend = hashed(world, world.client(1), Scheduler::SourceHash);
    let row = world.forward(row, &packet(41_001, ACK), backend);
    let dropped = || Expect::dropped(Verdict::DropRateNewConnections);
    let row = row.send(packet(41_002, ACK), dropped());
    let row = row.event(Event::OffenderDenied, 0);
    let row = world.forward(row, &packet(41_001, ACK), backend);
    let row = row.send(packet(41_003, SYN), dropped());
    row.event(Event::OffenderDenied, 1)
        .send(packet(41_001, ACK), Expect::dropped(Verdict::DropOffender))
}

/// Where the flag is not set.
fn others_are_refused(world: &World) -> Row {
    let row = scheduled(
        world.row("without the flag it is refused"),
        Scheduler::Maglev,
    );
    let packet = world.from_client(world.client(1), ACK);
    let refused = Expect::answered(Verdict::AnsweredResetNoFlow, reset_for(&packet));
    let row = row.send(&packet, refused);
    let packet = world.from_client(world.client(1), RST);
    row.send(packet, Expect::dropped(Verdict::DropResetNoFlow))
        .event(Event::ConnectionTakenUp, 0)
}
