//! `full-nat`: both ends change, and a source port belongs to one flow at a time.

use std::net::SocketAddr;

use lb_common::{
    abi::{Forwarding, OnNoBackend, Protocol, network_port},
    flow::Place,
    host::Fixture,
    ports,
    verdict::Verdict,
};
use lb_packets::{ACK, FIN, PSH, Packet, RST, SYN};

use super::{
    Expect, Row,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in [Family::V4, Family::V6] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let world = World {
                forwarding: Forwarding::FullNat,
                ..World::nat(family, protocol)
            };
            rows.extend([
                conversation(&world),
                foreign_replies(&world),
                policies(&world, OnNoBackend::Reset),
                policies(&world, OnNoBackend::Unreachable),
                policies(&world, OnNoBackend::Drop),
                shared_by_services(&world),
            ]);
            if world.is_tcp() {
                rows.push(port_comes_back(&world));
            }
        }
    }
    rows
}

/// The port that a client's flow gets while no other one is in use.
fn port(world: &World, client: SocketAddr) -> u16 {
    let mut fixture = world.fixture();
    with_ports(world, &mut fixture, true);
    let place = Place::of(
        &fixture.tables.settings,
        client.ip().into(),
        network_port(client.port()),
        world.protocol as u8,
    );
    let backend = fixture.tables.backends[1];
    let path = ports::take(&fixture.tables, &backend, world.protocol as u8, place);
    u16::from_be(path.expect("all are free").port())
}

/// Our address towards backends, with the port of a client's flow.
fn source(world: &World, client: SocketAddr) -> SocketAddr {
    world.family.backend(2, port(world, client))
}

fn with_ports(world: &World, fixture: &mut Fixture, is_free: bool) {
    let address = world.family.backend(2, 1).ip().into();
    fixture
        .tables
        .add_source(address, |port| is_free && port >= 1024);
    for backend in fixture.tables.backends.iter_mut().skip(1) {
        backend.sources = 1;
    }
}

fn row(world: &World, description: &str) -> Row {
    let own = world.clone();
    world
        .row(description)
        .given(move |fixture| with_ports(&own, fixture, true))
}

fn forward(world: &World, row: Row, packet: &Packet, backend: usize) -> Row {
    let mut expected = world.to_backend(packet, backend);
    expected.source = source(world, packet.source);
    expected.destination = world.backends[backend];
    row.send(packet, Expect::steered(expected))
}

/// A backend's packet to our address.
fn reply(world: &World, row: Row, client: SocketAddr, backend: usize, flags: u8) -> Row {
    let packet = world.from_backend(backend, source(world, client), flags);
    let mut expected = world.to_client(&packet);
    expected.destination = client;
    row.send(&packet, Expect::replied(expected))
}

fn conversation(world: &World) -> Row {
    let client = world.client(1);
    let row = row(world, "both ends change, both ways");
    let row = forward(world, row, &world.from_client(client, SYN), 0);
    // Again: the same backend and port.
    let row = forward(world, row, &world.from_client(client, SYN), 0);
    let row = reply(world, row, client, 0, SYN | ACK);
    let row = forward(world, row, &world.from_client(client, ACK), 0);
    let data = world.from_client(client, ACK | PSH).payload(vec![7; 700]);
    let row = forward(world, row, &data, 0);
    let row = reply(world, row, client, 0, ACK | PSH);
    let row = forward(world, row, &world.from_client(client, ACK | FIN), 0);
    reply(world, row, client, 0, ACK | FIN)
}

fn foreign_replies(world: &World) -> Row {
    let client = world.client(1);
    let row = row(world, "only the flow's own backend reaches its client");
    let before = world.from_backend(0, source(world, client), SYN | ACK);
    let row = row.send(&before, Expect::passed(Verdict::PassNotOurs));
    let row = forward(world, row, &world.from_client(client, SYN), 0);
    let other = world.from_backend(1, source(world, client), SYN | ACK);
    let row = row.send(&other, Expect::passed(Verdict::PassNotOurs));
    let mut another_port = source(world, client);
    another_port.set_port(another_port.port() ^ 1);
    let wrong = world.from_backend(0, another_port, SYN | ACK);
    let row = row.send(&wrong, Expect::passed(Verdict::PassNotOurs));
    reply(world, row, client, 0, SYN | ACK)
}

fn policies(world: &World, policy: OnNoBackend) -> Row {
    let own = world.clone();
    let row = world
        .row(&format!("no source port is left: {policy:?}"))
        .given(move |fixture| {
            with_ports(&own, fixture, false);
            fixture.on_no_backend(policy);
        });
    let verdict = match policy {
        OnNoBackend::Drop => Verdict::DropNoSourcePort,
        OnNoBackend::Reset if world.is_tcp() => Verdict::AnsweredResetNoSourcePort,
        OnNoBackend::Reset | OnNoBackend::Unreachable => Verdict::AnsweredUnreachableNoSourcePort,
    };
    let expect = if policy == OnNoBackend::Drop {
        Expect::dropped(verdict)
    } else {
        Expect::sound(verdict)
    };
    row.send(world.from_client(world.client(1), SYN), expect)
}

/// Replies are told apart by our port, so two services may share a backend's endpoint.
fn shared_by_services(world: &World) -> Row {
    let mut other = world.clone();
    other.service.set_port(81);
    let first = world.clone();
    let second = other.clone();
    let row = world
        .row("two services share backends and a client's port")
        .given(move |fixture| {
            second.add_to(fixture);
            with_ports(&first, fixture, true);
        });
    let client = world.client(1);
    let row = row.send(world.from_client(client, SYN), Expect::steered_somewhere());
    row.send(other.from_client(client, SYN), Expect::steered_somewhere())
}

/// A closed flow keeps its port for late packets; when its client begins anew, it gets it back.
fn port_comes_back(world: &World) -> Row {
    let client = world.client(1);
    let row = row(world, "a flow that begins anew gives its port back first");
    let row = forward(world, row, &world.from_client(client, SYN), 0);
    let row = reply(world, row, client, 0, SYN | ACK);
    let row = forward(world, row, &world.from_client(client, ACK), 0);
    let row = forward(world, row, &world.from_client(client, RST | ACK), 0);
    let row = forward(world, row, &world.from_client(client, SYN), 1);
    reply(world, row, client, 1, SYN | ACK)
}
