//! Frames that take several buffers: the first one holds every header, and nothing is looked for
//! behind it.

use lb_common::{
    abi::{Forwarding, OnNoBackend},
    host::FIRST_BUFFER,
    verdict::Verdict,
};
use lb_packets::{ACK, PSH, Packet, SYN, Transport};

use super::{
    Expect, Row,
    no_backend::unreachable_for,
    stray::reset_for,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([
            sizes(&world),
            retagged(&world),
            unreachable(&world),
            too_big(&world),
            ping(&world),
        ]);
        if world.is_tcp() {
            rows.push(reset(&world));
        }
        if world.family == Family::V6 {
            rows.push(header_behind(&world));
        }
    }
    rows
}

/// A packet whose frame has that many bytes.
fn of_size(packet: &Packet, bytes: usize) -> Packet {
    let headers = packet.clone().payload([]).bytes().len();
    // Sums that carry often.
    packet.clone().payload(vec![0xfe; bytes - headers])
}

fn sizes(world: &World) -> Row {
    let client = world.client(1);
    let mut row = world.establish(world.row("every size, to the byte"), client, 0);
    for bytes in [
        FIRST_BUFFER - 1,
        FIRST_BUFFER,
        FIRST_BUFFER + 1,
        FIRST_BUFFER + 4097,
        9014,
        60_001,
    ] {
        let request = of_size(&world.from_client(client, ACK | PSH), bytes);
        row = world.forward(row, &request, 0);
        if world.forwarding == Forwarding::Nat {
            let reply = of_size(&world.from_backend(0, client, ACK | PSH), bytes);
            row = world.reply(row, &reply);
        }
    }
    row
}

fn retagged(world: &World) -> Row {
    let packet = of_size(&world.from_client(world.client(1), SYN), 9014).tagged(100);
    let expected = world.to_backend(&packet, 0).tagged(200);
    let row = world.row("a tag changed").given(|fixture| {
        for hop in &mut fixture.tables.next_hops {
            hop.vlan = 200;
        }
    });
    let row = row.send(packet, Expect::steered(expected));
    let untagged = of_size(&world.from_client(world.client(2), SYN), 9014);
    let expected = world.to_backend(&untagged, 1).tagged(200);
    row.send(untagged, Expect::steered(expected))
}

fn reset(world: &World) -> Row {
    let packet = of_size(&world.from_client(world.client(1), ACK), 9014);
    let row = world.row("a RST of one buffer answers");
    row.send(
        &packet,
        Expect::answered(Verdict::AnsweredResetNoFlow, reset_for(&packet)),
    )
}

fn unreachable(world: &World) -> Row {
    let packet = of_size(&world.from_client(world.client(1), SYN), 9014);
    let row = world
        .row("an error of one buffer answers")
        .given(|fixture| {
            fixture.on_no_backend(OnNoBackend::Unreachable);
            for service in fixture.tables.services.values_mut() {
                service.slots_len = 0;
            }
        });
    row.send(
        &packet,
        Expect::answered(
            Verdict::AnsweredUnreachableNoBackend,
            unreachable_for(&packet),
        ),
    )
}

fn too_big(world: &World) -> Row {
    let row = world.row("too big for the next hop").given(|fixture| {
        for hop in &mut fixture.tables.next_hops {
            hop.ifindex = super::world::ELSEWHERE;
            hop.mtu = 8999;
        }
    });
    let packet = of_size(&world.from_client(world.client(1), SYN), 9014);
    row.send(packet, Expect::sound(Verdict::AnsweredTooBig))
}

fn ping(world: &World) -> Row {
    let kinds = match world.family {
        Family::V4 => (8, 0),
        Family::V6 => (128, 129),
    };
    let client = world.client(1);
    let echo = |from, to, kind| Packet {
        source: from,
        destination: to,
        transport: Transport::Icmp { kind, code: 0 },
        ..world.from_client(client, SYN)
    };
    let request = of_size(&echo(client, world.service, kinds.0), 9014);
    let reply = of_size(&echo(world.service, client, kinds.1), 9014)
        .macs(request.destination_mac, request.source_mac);
    let row = world.row("a ping is answered in full");
    row.send(request, Expect::answered(Verdict::AnsweredEcho, reply))
}

/// Two extension headers of 2,048 bytes push the ports out of the first buffer.
fn header_behind(world: &World) -> Row {
    const DESTINATION_OPTIONS: u8 = 60;
    let options = || {
        let mut bytes = vec![0; 2048];
        bytes[1] = 255;
        (DESTINATION_OPTIONS, bytes)
    };
    let packet = Packet {
        extensions: vec![options(), options()],
        ..world.from_client(world.client(1), SYN)
    };
    let row = world.row("a header behind the first buffer counts as cut");
    row.send(packet, Expect::dropped(Verdict::DropMalformed))
}
