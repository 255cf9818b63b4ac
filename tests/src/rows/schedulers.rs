//! Which backend a new flow gets, other than by round robin.

use std::net::SocketAddr;

use lb_common::{
    abi::{Scheduler, ServerIdKey, Ticks, backend_flags, network_port, service_flags},
    engine::pick::slot_of,
    host::Fixture,
    verdict::Verdict,
};
use lb_packets::{ACK, FIN, Packet, RST, SYN};

use super::{Expect, Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([
            by_hash(&world, Scheduler::Maglev),
            by_hash(&world, Scheduler::SourceHash),
            affinity(&world),
            affinity_of_a_backend_that_is_down(&world),
            local(&world),
        ]);
        if !world.is_tcp() {
            rows.extend([quic(&world), named_but_not_kept(&world)]);
        }
    }
    for world in World::tcp_nat() {
        rows.extend([fewest(&world), fewest_for_its_weight(&world)]);
    }
    for world in World::all_dsr() {
        if !world.is_tcp() {
            rows.push(one_packet(&world));
        }
    }
    rows
}

pub(super) fn scheduled(row: Row, scheduler: Scheduler) -> Row {
    row.given(move |fixture| {
        for service in fixture.tables.services.values_mut() {
            service.scheduler = scheduler as u8;
        }
    })
}

/// The backend that a client hashes to, of three.
pub(super) fn hashed(world: &World, client: SocketAddr, scheduler: Scheduler) -> usize {
    let port = match scheduler {
        Scheduler::SourceHash => 0,
        Scheduler::RoundRobin | Scheduler::Maglev | Scheduler::LeastConnections => {
            network_port(client.port())
        }
    };
    slot_of(client.ip().into(), port, world.protocol as u8, 3) as usize
}

fn by_hash(world: &World, scheduler: Scheduler) -> Row {
    let row = scheduled(
        world.row(&format!("{scheduler:?} goes by the hash")),
        scheduler,
    );
    (0..12).fold(row, |row, number| {
        let mut client = world.client(number / 2);
        client.set_port(2000 + number as u16);
        world.open(row, client, hashed(world, client, scheduler))
    })
}

/// A client whose address and port are those.
fn client(world: &World, number: u32, port: u16) -> SocketAddr {
    let mut client = world.client(number);
    client.set_port(port);
    client
}

fn sticky(fixture: &mut Fixture) {
    for service in fixture.tables.services.values_mut() {
        service.affinity = Ticks::from_seconds(300).0;
    }
}

fn affinity(world: &World) -> Row {
    let mut row = world
        .row("a client's address keeps its backend")
        .given(sticky);
    for (number, backend) in [(1, 0), (2, 1), (1, 0), (3, 2), (2, 1), (4, 0)] {
        for port in [1000, 2000] {
            row = world.open(row, client(world, number, port + number as u16), backend);
        }
    }
    row
}

fn affinity_of_a_backend_that_is_down(world: &World) -> Row {
    let row = world
        .row("a client does not keep a backend that is down")
        .given(sticky);
    let row = world.open(row, client(world, 1, 1000), 0);
    let row = row.change(|tables| tables.backends[1].flags |= backend_flags::DOWN);
    let row = world.open(row, client(world, 1, 1001), 1);
    world.open(row, client(world, 1, 1002), 1)
}

/// A backend on this host gets the packet as it is.
fn local(world: &World) -> Row {
    let row = world
        .row("a backend on this host gets the packet as it is")
        .given(|fixture| fixture.tables.next_hops[1].ifindex = 0);
    let packet = world.from_client(world.client(1), SYN);
    let row = row.send(&packet, Expect::passed(Verdict::SteeredLocal));
    let row = world.open(row, world.client(2), 1);
    let again = world.from_client(world.client(1), ACK);
    row.send(&again, Expect::passed(Verdict::SteeredLocal))
        .event(lb_common::verdict::Event::FlowEstablished, 1)
}

/// Each flow goes where the fewest are; of equals, to the one whose turn it is.
fn fewest(world: &World) -> Row {
    let mut row = scheduled(
        world.row("the backend with the fewest live flows"),
        Scheduler::LeastConnections,
    );
    for (number, backend) in [(1, 0), (2, 1), (3, 2)] {
        row = world.establish(row, world.client(number), backend);
    }
    // The second one's flow ends, twice: that counts once.
    let ended = world.client(2);
    for flags in [RST | ACK, RST | ACK] {
        row = world.forward(row, &world.from_client(ended, flags), 1);
    }
    row = world.open(row, world.client(4), 1);
    // By a goodbye of both sides, the third one's.
    let ended = world.client(3);
    row = world.forward(row, &world.from_client(ended, FIN | ACK), 2);
    row = world.reply(row, &world.from_backend(2, ended, FIN | ACK));
    world.open(row, world.client(5), 2)
}

fn fewest_for_its_weight(world: &World) -> Row {
    let row = scheduled(
        world.row("the fewest live flows for its weight"),
        Scheduler::LeastConnections,
    );
    let row = row.given(|fixture| fixture.tables.backends[2].weight = 3);
    // Where all are as loaded for their weights, the turn decides.
    let mut row = row;
    for (number, backend) in [1, 1, 2, 0, 1].into_iter().enumerate() {
        row = world.open(row, world.client(number as u32 + 1), backend);
    }
    row
}

fn one_packet(world: &World) -> Row {
    let row = world
        .row("without flows every datagram goes by its hash")
        .given(|fixture| {
            for service in fixture.tables.services.values_mut() {
                service.flags = service_flags::ONE_PACKET;
            }
        });
    let row = (0..9).fold(row, |row, number| {
        let client = world.client(number % 4);
        world.open(row, client, hashed(world, client, Scheduler::Maglev))
    });
    row.check_tables(|tables| {
        let flows = tables.flows(lb_common::tables::FlowTable::HalfOpen);
        if flows == 0 {
            Ok(())
        } else {
            Err(format!("{flows} flows are kept"))
        }
    })
}

/// Anybody may write a backend's name into a packet.
fn named_but_not_kept(world: &World) -> Row {
    let row = naming(world.row("a backend that a connection id names is not kept for the address"));
    let row = row.given(sticky);
    let named = [&[0x40, 0x07][..], &SERVER_ID].concat();
    let packet = |port, begin: &[u8]| {
        let mut packet = quic_packet(world, 1, begin);
        packet.source.set_port(port);
        packet
    };
    let row = world.forward(row, &packet(1000, &named), 2);
    let row = world.forward(row, &packet(1001, b"?"), 0);
    world.forward(row, &packet(1002, b"?"), 0)
}

const SERVER_ID: [u8; 3] = [0x0a, 0x0b, 0x0c];

/// A QUIC packet's first bytes, and some more.
fn quic_packet(world: &World, number: u32, begin: &[u8]) -> Packet {
    let mut payload = begin.to_vec();
    payload.resize(48, 0x5a);
    world.from_client(world.client(number), 0).payload(payload)
}

/// The server id is the third backend's.
fn naming(row: Row) -> Row {
    row.given(|fixture| {
        for service in fixture.tables.services.values_mut() {
            service.server_id_length = 3;
        }
        let key = ServerIdKey {
            id: [
                u64::from_le_bytes([0x0a, 0x0b, 0x0c, 0, 0, 0, 0, 0]).to_le(),
                0,
            ],
            service: 0,
            reserved: 0,
        };
        fixture.tables.server_ids.insert(key, 3);
    })
}

fn quic(world: &World) -> Row {
    let row = naming(world.row("a QUIC connection id names the backend"));
    let short = [&[0x40, 0x07][..], &SERVER_ID].concat();
    let unknown = [0x40, 0x07, 1, 2, 3];
    let unroutable = [&[0x40, 0xe7][..], &SERVER_ID].concat();
    let handshake = [&[0xe0, 0, 0, 0, 1, 8, 0x07][..], &SERVER_ID].concat();
    let initial = [&[0xc0, 0, 0, 0, 1, 8, 0x07][..], &SERVER_ID].concat();
    let too_short = [&[0xe0, 0, 0, 0, 1, 3, 0x07][..], &SERVER_ID].concat();
    let mut row = row;
    // Whose own turn it would be goes on with those that name nobody.
    for (number, (begin, backend)) in [
        (&short[..], 2),
        (&unknown[..], 0),
        (&handshake[..], 2),
        (&unroutable[..], 1),
        (&initial[..], 2),
        (&too_short[..], 0),
        (&short[..], 2),
    ]
    .into_iter()
    .enumerate()
    {
        let packet = quic_packet(world, number as u32 + 1, begin);
        row = world.forward(row, &packet, backend);
    }
    row
}
