//! Health checks through the data path: each goes to its own backend, and leaves no trace.

use std::net::SocketAddr;

use lb_common::{
    abi::{Check, Forwarding, Interface, Protocol, backend_flags, network_port},
    host::{Fixture, MAC_BALANCER},
    verdict::Verdict,
};
use lb_packets::{ACK, Packet, RST, SYN, decapsulate};

use super::{
    Expect, Row,
    world::{ELSEWHERE, Family, HERE, World},
};

/// Both ends of the interface of checks have it.
const MAC_CHECKS: [u8; 6] = [2, 0x6c, 0x62, 0, 0, 1];
const PORT: u16 = 33_000;
/// The backend that is checked: the third, which would not be the next one.
const CHECKED: usize = 2;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in worlds() {
        rows.extend([
            goes_to_its_backend(&world),
            comes_back(&world),
            of_somebody_else_is_left_alone(&world),
            without_an_entry_is_dropped(&world),
            of_the_past_is_left_alone(&world),
        ]);
    }
    for family in [Family::V4, Family::V6] {
        let world = World::nat(family, Protocol::Tcp);
        rows.extend([
            leaves_no_trace(&world),
            for_another_service_is_dropped(&world),
            clients_are_steered_as_ever(&world),
            too_large_a_reply_is_dropped(&world),
            tunnelled(family),
        ]);
    }
    rows
}

/// With their own end of a service of TCP.
fn worlds() -> Vec<World> {
    let families = [Family::V4, Family::V6];
    let of = |family| {
        let full_nat = World {
            forwarding: Forwarding::FullNat,
            ..World::nat(family, Protocol::Tcp)
        };
        [
            World::nat(family, Protocol::Tcp),
            World::dsr(family, Protocol::Tcp),
            full_nat,
        ]
    };
    families.into_iter().flat_map(of).collect()
}

/// The balancer's own address, from which it asks.
fn asker(family: Family) -> SocketAddr {
    family.backend(1, PORT)
}

fn sees_replies(world: &World) -> bool {
    Forwarding::sees_replies(world.forwarding as u8)
}

/// A check of one backend is under way, and checks come by that interface. The backend has every
/// reason to get nothing from the scheduler.
fn under_way(fixture: &mut Fixture, family: Family, interface: u32) {
    let tables = &mut fixture.tables;
    tables.slots.clear();
    for service in tables.services.values_mut() {
        service.slots_len = 0;
    }
    let id = CHECKED as u32 + 1;
    tables.backends[id as usize].flags |= backend_flags::DOWN;
    let check = Check {
        source: asker(family).ip().into(),
        backend: id,
        interface,
    };
    let entrance = Check {
        interface,
        ..Check::default()
    };
    tables.checks.extend([(0, entrance), (PORT, check)]);
    let mac = if interface == HERE {
        MAC_BALANCER
    } else {
        MAC_CHECKS
    };
    let description = Interface {
        mac,
        reserved: [0; 2],
        mtu: 1500,
    };
    tables.interfaces.insert(interface, description);
    tables.add_source(source(family).ip().into(), |_| true);
}

/// The source address of full NAT.
fn source(family: Family) -> SocketAddr {
    family.backend(2, PORT)
}

fn given(world: &World, description: &str, interface: u32) -> Row {
    let family = world.family;
    world
        .row(description)
        .given(move |fixture| under_way(fixture, family, interface))
}

fn to_backend(world: &World, packet: &Packet) -> Packet {
    let mut packet = world.to_backend(packet, CHECKED);
    if sees_replies(world) {
        packet.destination = world.backends[CHECKED];
    }
    if world.forwarding == Forwarding::FullNat {
        packet.source = source(world.family);
    }
    packet
}

/// What a backend answers, as it comes to the balancer.
fn answer(world: &World, backend: usize, flags: u8) -> Packet {
    let receiver = if world.forwarding == Forwarding::FullNat {
        source(world.family)
    } else {
        asker(world.family)
    };
    let mut packet = world.from_backend(backend, receiver, flags);
    if !sees_replies(world) {
        packet.source = world.service;
    }
    packet
}

fn goes_to_its_backend(world: &World) -> Row {
    let mut row = given(world, "a check goes to its backend, which is down", HERE);
    for flags in [SYN, ACK, RST] {
        let packet = world.from_client(asker(world.family), flags);
        let out = to_backend(world, &packet);
        row = row.send(&packet, Expect::leaving(Verdict::SteeredCheck, &out));
    }
    row
}

fn comes_back(world: &World) -> Row {
    let mut row = given(world, "its answer goes back to the check", ELSEWHERE);
    for flags in [SYN | ACK, ACK, RST] {
        let packet = answer(world, CHECKED, flags);
        let mut out = packet.clone().macs(MAC_CHECKS, MAC_CHECKS);
        if sees_replies(world) {
            out.source = world.service;
            out.destination = asker(world.family);
            out = out.hop_limit(packet.hop_limit - 1);
        }
        row = row.send(
            &packet,
            Expect::leaving(Verdict::SteeredCheck, &out).by(ELSEWHERE),
        );
    }
    row
}

/// What only looks like an answer goes where it went.
fn of_somebody_else_is_left_alone(world: &World) -> Row {
    let row = given(world, "what is no answer to the check passes", ELSEWHERE);
    let to_another = Packet {
        destination: world.family.backend(3, PORT),
        ..answer(world, CHECKED, ACK)
    };
    let of_another = Packet {
        source: world.family.backend(99, 80),
        ..answer(world, CHECKED, ACK)
    };
    let to_another_port = Packet {
        destination: world.family.backend(1, PORT + 1),
        ..answer(world, CHECKED, ACK)
    };
    [to_another, of_another, to_another_port]
        .into_iter()
        .fold(row, |row, packet| {
            row.send(&packet, Expect::passed(Verdict::PassNotOurs))
        })
}

/// An agent died in the middle of a check, and the next one made another interface.
fn of_the_past_is_left_alone(world: &World) -> Row {
    let row = given(world, "a check of an agent that is gone is none", ELSEWHERE);
    row.given(|fixture| {
        let entrance = fixture.tables.checks.get_mut(&0);
        entrance.expect("it was given").interface = ELSEWHERE + 1;
    })
    .send(
        answer(world, CHECKED, ACK),
        Expect::passed(Verdict::PassNotOurs),
    )
}

fn without_an_entry_is_dropped(world: &World) -> Row {
    let row = given(world, "what belongs to no check is dropped", HERE);
    let ended = world.from_client(world.family.backend(1, PORT + 1), SYN);
    let forged = world.from_client(world.family.backend(2, PORT), SYN);
    [ended, forged].into_iter().fold(row, |row, packet| {
        row.send(&packet, Expect::dropped(Verdict::DropNoCheck))
    })
}

fn for_another_service_is_dropped(world: &World) -> Row {
    let other = World {
        service: world.family.service(11, 81),
        ..world.clone()
    };
    let add = other.clone();
    let family = world.family;
    world
        .row("a check that asks another service than its backend's is dropped")
        .given(move |fixture| {
            add.add_to(fixture);
            under_way(fixture, family, HERE);
        })
        .send(
            other.from_client(asker(family), SYN),
            Expect::dropped(Verdict::DropNoCheck),
        )
}

fn leaves_no_trace(world: &World) -> Row {
    let row = given(world, "no check counts or moves the cursor", HERE);
    let packet = world.from_client(asker(world.family), SYN);
    let out = to_backend(world, &packet);
    row.send(&packet, Expect::leaving(Verdict::SteeredCheck, &out))
        .backend(CHECKED as u32 + 1, [0; 5])
        .check_tables(|tables| {
            let has_turned = tables.cursors.borrow().values().any(|turn| *turn > 0);
            if has_turned || tables.views().next().is_some() {
                return Err("a check began a flow or moved a cursor".to_owned());
            }
            Ok(())
        })
}

/// A client of the same port, by another interface than checks.
fn clients_are_steered_as_ever(world: &World) -> Row {
    let family = world.family;
    let mut client = world.client(1);
    client.set_port(PORT);
    let row = world
        .row("a client with a check's port is a client")
        .given(move |fixture| {
            let slots = fixture.tables.slots.clone();
            under_way(fixture, family, ELSEWHERE);
            for service in fixture.tables.services.values_mut() {
                service.slots_len = slots.len() as u32;
            }
            fixture.tables.slots = slots;
        });
    world.establish(row, client, 0)
}

fn too_large_a_reply_is_dropped(world: &World) -> Row {
    // One of its own: what the program knows of an interface may be as old as a tick.
    const NARROW: u32 = ELSEWHERE + 2;
    let large = answer(world, CHECKED, ACK).payload(vec![0; 1400]);
    given(world, "a reply that does not fit is dropped", NARROW)
        .given(|fixture| {
            let interface = fixture.tables.interfaces.get_mut(&NARROW);
            interface.expect("it was given").mtu = 1400;
        })
        .send(&large, Expect::dropped(Verdict::DropTooBig))
}

fn tunnelled(family: Family) -> Row {
    let world = World {
        forwarding: Forwarding::DsrIpip,
        ..World::dsr(family, Protocol::Tcp)
    };
    let packet = world.from_client(asker(family), SYN);
    let inner = packet.clone().hop_limit(packet.hop_limit - 1).bytes();
    let outer = world.backends[CHECKED].ip();
    given(&world, "a check goes through the tunnel", HERE)
        .given(|fixture| {
            for backend in &mut fixture.tables.backends {
                backend.tunnel_source = backend.address;
            }
        })
        .send(
            &packet,
            Expect::checked(Verdict::SteeredCheck, move |frame| {
                let found = decapsulate(frame).ok_or("no tunnel")?;
                let outer_of = lb_packets::verify(frame).map_err(|fault| fault.to_string())?;
                let receiver = outer_of.addresses.map(|(_, receiver)| receiver);
                if receiver != Some(outer) || found[14..] != inner[14..] {
                    return Err(format!("to {receiver:?}"));
                }
                Ok(())
            }),
        )
}

/// Ports in `CHECKS` are in host order, in packets they are not.
const _: () = assert!(network_port(PORT) != PORT || cfg!(target_endian = "big"));
