//! What happens when the frame or the tables refuse: a driver without headroom, another CPU at the
//! same place.

use lb_common::{
    abi::{Forwarding, Protocol},
    tables::FlowTable,
    verdict::Verdict,
};
use lb_packets::{ACK, SYN};

use super::{
    Expect, Row,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([contended(&world), no_room_for_a_tag(&world)]);
        if world.forwarding == Forwarding::Nat {
            rows.push(contended_promotion(&world));
        }
    }
    for family in [Family::V4, Family::V6] {
        rows.push(no_room_for_an_error(&World::nat(family, Protocol::Tcp)));
        for forwarding in [Forwarding::DsrIpip, Forwarding::DsrGue] {
            rows.push(no_room_for_a_tunnel(&World {
                forwarding,
                backends: (11..14).map(|host| family.backend(host, 80)).collect(),
                ..World::nat(family, Protocol::Tcp)
            }));
        }
    }
    rows
}

const NO_OTHER_CPU: &str = "a test run has no other CPU at work";

fn contended(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN);
    world
        .row("other CPUs have every place claimed: no flow begins, and none is counted")
        .change_on_host(NO_OTHER_CPU, |tables| tables.claim_all(FlowTable::HalfOpen))
        .send(&packet, Expect::dropped(Verdict::DropTableContended))
        .send(&packet, Expect::dropped(Verdict::DropTableContended))
        .backend(1, [0; 5])
}

/// The flow goes on from where it is.
fn contended_promotion(world: &World) -> Row {
    let client = world.client(1);
    let row = world.row("a flow that cannot be promoted for once is steered all the same");
    let row = world
        .open(row, client, 0)
        .change_on_host(NO_OTHER_CPU, |tables| {
            tables.claim_all(FlowTable::Established);
        });
    let row = world.reply(row, &world.from_backend(0, client, SYN | ACK));
    let row = world.forward(row, &world.from_client(client, ACK), 0);
    let row = world.forward(row, &world.from_client(client, ACK), 0);
    row.event(lb_common::verdict::Event::FlowEstablished, 0)
        .check_tables(|tables| match tables.flows(FlowTable::HalfOpen) {
            1 => Ok(()),
            flows => Err(format!("{flows} half-open flows")),
        })
}

fn no_room_for_a_tag(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN);
    let tagged = |row: Row| {
        row.given(|fixture| {
            for hop in &mut fixture.tables.next_hops {
                hop.vlan = 200;
            }
        })
    };
    let out = world.to_backend(&packet, 0).tagged(200);
    tagged(world.row("a tag does not fit in front of the frame"))
        .send_with_headroom(&packet, 3, Expect::dropped(Verdict::DropNoRoom))
        .send_with_headroom(&packet, 4, Expect::steered(out))
}

fn no_room_for_an_error(world: &World) -> Row {
    let headers = if world.service.is_ipv4() { 28 } else { 48 };
    let packet = world.from_client(world.client(1), SYN);
    world
        .row("an ICMP error does not fit in front of the packet that it quotes")
        .given(|fixture| fixture.on_no_backend(lb_common::abi::OnNoBackend::Unreachable))
        .change(|tables| {
            for service in tables.services.values_mut() {
                service.slots_len = 0;
            }
        })
        .send_with_headroom(&packet, headers - 1, Expect::dropped(Verdict::DropNoRoom))
        .send_with_headroom(
            &packet,
            headers,
            Expect::sound(Verdict::AnsweredUnreachableNoBackend),
        )
}

fn no_room_for_a_tunnel(world: &World) -> Row {
    let overhead = Forwarding::overhead(world.forwarding as u8, world.service.is_ipv4()) as usize;
    let packet = world.from_client(world.client(1), SYN);
    let row = world
        .row("a tunnel's headers do not fit in front of the packet")
        .send_with_headroom(&packet, overhead - 1, Expect::dropped(Verdict::DropNoRoom));
    // The flow that was begun is found by the next packet.
    let again = Expect::checked(Verdict::Steered, |frame| {
        let inner = lb_packets::decapsulate(frame).ok_or("it is no tunnel's")?;
        lb_packets::verify(&inner).map_or_else(|fault| Err(fault.to_string()), |_| Ok(()))
    });
    row.send_with_headroom(&packet, overhead, again)
}
