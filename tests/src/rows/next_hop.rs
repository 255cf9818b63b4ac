//! The way to the backend and the way back to the client.

use lb_common::{
    abi::{Forwarding, Interface},
    verdict::Verdict,
};
use lb_packets::{ACK, Mac, PSH, SYN};

use super::{
    Expect, Row,
    world::{ELSEWHERE, World},
};

/// MAC of the interface [`ELSEWHERE`].
const MAC_ELSEWHERE: Mac = [2, 0, 0, 0, 0, 0xee];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([
            unresolved(&world),
            neighbour_changes(&world),
            redirected(&world),
            too_big(&world),
            big_enough_here(&world),
            unknown_backend(&world),
        ]);
        if world.forwarding == Forwarding::Nat {
            rows.extend([
                client_elsewhere(&world),
                reply_too_big(&world),
                interface_gone(&world),
            ]);
        }
    }
    rows
}

fn unresolved(world: &World) -> Row {
    let client = world.client(1);
    let dropped = || Expect::dropped(Verdict::DropNoNextHop);
    let row = world.establish(world.row("a neighbour that does not answer"), client, 0);
    let row = row.change(|tables| {
        for backend in &mut tables.backends {
            backend.next_hop = 0;
        }
    });
    let row = row.send(world.from_client(client, ACK), dropped());
    let row = row.send(world.from_client(world.client(2), SYN), dropped());
    let row = row.change(|tables| {
        for (id, backend) in tables.backends.iter_mut().enumerate() {
            backend.next_hop = id as u32;
        }
    });
    world.forward(row, &world.from_client(client, ACK), 0)
}

/// The agent writes a new next hop and points the backend to it.
fn neighbour_changes(world: &World) -> Row {
    const NEW: Mac = [2, 0, 0, 0, 0xff, 0xb0];
    let client = world.client(1);
    let row = world.establish(world.row("a neighbour that changes its MAC"), client, 0);
    let row = row.change(|tables| {
        let mut hop = tables.next_hops[1];
        hop.destination = NEW;
        tables.next_hops.push(hop);
        tables.backends[1].next_hop = tables.next_hops.len() as u32 - 1;
    });
    let packet = world.from_client(client, ACK);
    let mut expected = world.to_backend(&packet, 0);
    expected.destination_mac = NEW;
    row.send(packet, Expect::steered(expected))
}

fn behind_another_interface(world: &World, description: &str) -> Row {
    world.row(description).given(|fixture| {
        for hop in &mut fixture.tables.next_hops {
            hop.ifindex = ELSEWHERE;
            hop.source = MAC_ELSEWHERE;
            hop.mtu = 1280;
        }
    })
}

fn redirected(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN);
    let mut expected = world.to_backend(&packet, 0);
    expected.source_mac = MAC_ELSEWHERE;
    behind_another_interface(world, "a backend behind another interface")
        .send(packet, Expect::steered(expected).by(ELSEWHERE))
}

/// A payload that makes an IP packet of that many bytes.
fn payload(world: &World, length: usize) -> Vec<u8> {
    let empty = world.from_client(world.client(1), SYN).payload([]).bytes();
    vec![0x11; length + 14 - empty.len()]
}

fn too_big(world: &World) -> Row {
    let row = behind_another_interface(world, "an MTU, to the byte");
    let base = world.from_client(world.client(1), SYN);
    let fits = base.clone().payload(payload(world, 1280));
    let mut expected = world.to_backend(&fits, 0);
    expected.source_mac = MAC_ELSEWHERE;
    let row = row.send(fits, Expect::steered(expected).by(ELSEWHERE));
    let big = base.payload(payload(world, 1281));
    row.send(big, Expect::sound(Verdict::AnsweredTooBig))
}

/// What came in by an interface fits when it leaves by it.
fn big_enough_here(world: &World) -> Row {
    let row = world
        .row("no MTU for the interface it came by")
        .given(|fixture| {
            for hop in &mut fixture.tables.next_hops {
                hop.mtu = 100;
            }
        });
    let packet = world
        .from_client(world.client(1), SYN)
        .payload(payload(world, 1500));
    world.forward(row, &packet, 0)
}

fn unknown_backend(world: &World) -> Row {
    let dropped = || Expect::dropped(Verdict::DropUnknownBackend);
    let row = world
        .row("a slot with a backend that is none")
        .given(|fixture| fixture.tables.slots = vec![60, 4_000_000_000, 0]);
    let row = row.send(world.from_client(world.client(1), SYN), dropped());
    let row = row.send(world.from_client(world.client(2), SYN), dropped());
    row.send(world.from_client(world.client(3), SYN), dropped())
}

/// The client came in by another interface than the backend's reply.
fn from_elsewhere(world: &World, description: &str, mtu: Option<u32>) -> Row {
    let row = world.row(description).given(move |fixture| {
        if let Some(mtu) = mtu {
            let interface = Interface {
                mac: MAC_ELSEWHERE,
                reserved: [0; 2],
                mtu,
            };
            fixture.tables.interfaces.insert(ELSEWHERE, interface);
        }
    });
    let mut packet = world.from_client(world.client(1), SYN);
    if mtu.is_some() {
        packet.destination_mac = MAC_ELSEWHERE;
    }
    let expected = world.to_backend(&packet, 0);
    row.send_elsewhere(packet, Expect::steered(expected))
}

fn client_elsewhere(world: &World) -> Row {
    let row = from_elsewhere(world, "a client behind another interface", Some(1500));
    let reply = world.from_backend(0, world.client(1), SYN | ACK);
    let mut expected = world.to_client(&reply);
    expected.source_mac = MAC_ELSEWHERE;
    row.send(reply, Expect::replied(expected).by(ELSEWHERE))
}

fn reply_too_big(world: &World) -> Row {
    let row = from_elsewhere(
        world,
        "a reply too big for the client's interface",
        Some(600),
    );
    let reply = world
        .from_backend(0, world.client(1), ACK | PSH)
        .payload(payload(world, 601));
    row.send(reply, Expect::sound(Verdict::AnsweredTooBig))
}

fn interface_gone(world: &World) -> Row {
    let row = from_elsewhere(world, "the client's interface is gone", None);
    let reply = world.from_backend(0, world.client(1), SYN | ACK);
    row.send(reply, Expect::dropped(Verdict::DropNoNextHop))
}
