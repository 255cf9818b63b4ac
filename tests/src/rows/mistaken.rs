//! What could be taken for a flow's or a backend's but is not: numbers that were given away, and
//! packets that pass beside.

use lb_common::{
    abi::{Forwarding, Protocol, Ticks},
    host::HostTables,
    verdict::Verdict,
};
use lb_packets::{ACK, PSH, SYN, error_about, least_quote};

use super::{Expect, Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat() {
        rows.extend([
            affinity_to_a_number_given_away(&world),
            error_for_a_number_given_away(&world),
            error_from_nobody(&world),
            beside_full_nat(&World {
                forwarding: Forwarding::FullNat,
                ..world
            }),
        ]);
    }
    rows
}

/// The first backend is removed, and its number given to one of another service. New flows get the
/// second one.
fn give_away(tables: &mut HostTables) {
    let backend = &mut tables.backends[1];
    backend.service += 1;
    backend.service_port = backend.service_port.wrapping_add(1_u16.to_be());
    backend.port = backend.port.wrapping_add(1_u16.to_be());
    tables.slots[0] = 2;
    tables.slots[2] = 2;
}

fn affinity_to_a_number_given_away(world: &World) -> Row {
    let row = world
        .row("a client does not keep a backend whose number another service's backend got")
        .given(|fixture| {
            for service in fixture.tables.services.values_mut() {
                service.affinity = Ticks::from_seconds(60).0;
            }
        });
    let client = world.client(1);
    let mut again = client;
    again.set_port(client.port() ^ 1);
    let row = world.open(row, client, 0).change(give_away);
    world.open(row, again, 1)
}

fn error_for_a_number_given_away(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("an error about a flow of a backend that is gone goes to nobody");
    let row = world.establish(row, client, 0).change(give_away);
    let sent = world.to_client(&world.from_backend(0, client, ACK | PSH));
    row.send(
        error(world, client.ip(), &sent.bytes()),
        Expect::dropped(Verdict::DropErrorNoFlow),
    )
}

fn error(world: &World, from: std::net::IpAddr, about: &[u8]) -> lb_packets::Packet {
    let is_v4 = world.service.is_ipv4();
    let kind = if is_v4 { (3, 4) } else { (2, 0) };
    let cause = world.from_client(world.client(1), SYN);
    error_about(about, from, world.service.ip(), kind, least_quote(is_v4))
        .macs(cause.source_mac, cause.destination_mac)
}

fn error_from_nobody(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("an error from an address that no host has");
    let row = world.establish(row, client, 0);
    let sent = world.to_client(&world.from_backend(0, client, ACK | PSH));
    let nobody: std::net::IpAddr = if client.is_ipv4() {
        [127, 0, 0, 1].into()
    } else {
        std::net::Ipv6Addr::LOCALHOST.into()
    };
    row.send(
        error(world, nobody, &sent.bytes()),
        Expect::dropped(Verdict::DropMartian),
    )
    .send(
        error(world, client.ip(), &sent.bytes()),
        Expect::sound(Verdict::SteeredError),
    )
}

/// The client also talks to the backend itself, by the same port, and the backend's packets pass
/// here.
fn beside_full_nat(world: &World) -> Row {
    let client = world.client(1);
    let own = world.family.backend(2, 1).ip();
    let mut syn = world.from_client(client, SYN);
    if world.protocol == Protocol::Udp {
        syn = syn.payload(*b"question");
    }
    world
        .row("a backend's answer to a client that talks to it beside the service passes")
        .given(move |fixture| {
            fixture.tables.add_source(own.into(), |port| port >= 1024);
            for backend in fixture.tables.backends.iter_mut().skip(1) {
                backend.sources = 1;
            }
        })
        .send(&syn, Expect::steered_somewhere())
        .send(
            world.from_backend(0, client, SYN | ACK),
            Expect::passed(Verdict::PassNotOurs),
        )
}
