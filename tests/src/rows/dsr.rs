//! `dsr-l2`: nothing changes but the MACs and the TTL; answers do not pass here.

use lb_common::verdict::{Event, Verdict};
use lb_packets::{ACK, FIN, PSH, Packet, RST, SYN};

use super::{Expect, Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_dsr() {
        rows.extend([only_macs_and_ttl(&world), answers_pass(&world)]);
        if world.is_tcp() {
            rows.extend([
                client_alone_proves(&world),
                fin_of_the_client_closes(&world),
                reset_of_the_client_closes(&world),
            ]);
        } else {
            rows.push(no_checksum(&world));
        }
    }
    rows
}

fn only_macs_and_ttl(world: &World) -> Row {
    let client = world.client(1);
    let row = world.establish(world.row("only MACs and TTL change"), client, 0);
    let data = world
        .from_client(client, ACK | PSH)
        .payload(vec![0xa5; 1401]);
    let row = world.forward(row, &data, 0);
    world.open(row, world.client(2), 1)
}

/// A backend answers with the service's address; were that to come by here, it is not ours.
fn answers_pass(world: &World) -> Row {
    let client = world.client(1);
    let answer = Packet {
        source: world.service,
        ..world.from_backend(0, client, SYN | ACK)
    };
    let row = world.open(
        world.row("an answer that comes by is left alone"),
        client,
        0,
    );
    let row = row.send(&answer, Expect::passed(Verdict::PassNotOurs));
    let own = world.from_backend(0, client, SYN | ACK);
    row.send(own, Expect::passed(Verdict::PassNotOurs))
}

fn no_checksum(world: &World) -> Row {
    let packet = Packet {
        transport: lb_packets::Transport::Udp {
            has_checksum: false,
        },
        ..world.from_client(world.client(1), 0)
    };
    world.forward(world.row("no checksum stays no checksum"), &packet, 0)
}

fn client_alone_proves(world: &World) -> Row {
    let row = world.row("the client's ACK promotes, as its answer does not pass here");
    world
        .establish(row, world.client(1), 0)
        .event(Event::FlowEstablished, 1)
        .event(Event::HandshakeUnproven, 0)
}

fn fin_of_the_client_closes(world: &World) -> Row {
    let client = world.client(1);
    let row = world.establish(world.row("the client's FIN closes"), client, 0);
    let row = world.forward(row, &world.from_client(client, FIN | ACK), 0);
    // Late packets of the old connection still go where they belong.
    let row = world.forward(row, &world.from_client(client, ACK), 0);
    world.open(row, client, 1)
}

fn reset_of_the_client_closes(world: &World) -> Row {
    let client = world.client(1);
    let row = world.establish(world.row("the client's RST closes"), client, 0);
    let row = world.forward(row, &world.from_client(client, RST), 0);
    world.open(row, client, 1)
}
