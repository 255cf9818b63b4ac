//! `nat`: addresses and ports are rewritten there and back, and every checksum stays right.

use lb_packets::{ACK, FIN, Fields, PSH, Packet, SYN, Transport};

use super::{Expect, Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat() {
        rows.extend([
            conversation(&world),
            payload_sizes(&world),
            port_unchanged(&world),
            marks_survive(&world),
            wrong_checksum_stays_wrong(&world),
        ]);
        if world.is_tcp() {
            rows.extend([tcp_options(&world), simultaneous_data_and_fin(&world)]);
        }
    }
    rows
}

fn conversation(world: &World) -> Row {
    let client = world.client(1);
    let mut row = world.establish(world.row("a conversation there and back"), client, 0);
    for _ in 0..3 {
        let request = world
            .from_client(client, ACK | PSH)
            .payload(*b"GET / HTTP/1.1\r\n\r\n");
        let response = world
            .from_backend(0, client, ACK | PSH)
            .payload(*b"HTTP/1.1 200 OK\r\n\r\n");
        row = world.forward(row, &request, 0);
        row = world.reply(row, &response);
    }
    row
}

fn payload_sizes(world: &World) -> Row {
    let client = world.client(2);
    let mut row = world.establish(world.row("payloads of odd and even length"), client, 0);
    for length in [0, 1, 2, 3, 63, 64, 65, 1399, 1400] {
        // Sums that carry often.
        let payload = vec![0xff; length];
        let request = world
            .from_client(client, ACK | PSH)
            .payload(payload.clone());
        row = world.forward(row, &request, 0);
        row = world.reply(
            row,
            &world.from_backend(0, client, ACK | PSH).payload(payload),
        );
    }
    row
}

fn port_unchanged(world: &World) -> Row {
    let mut world = world.clone();
    for backend in &mut world.backends {
        backend.set_port(world.service.port());
    }
    let row = world.row("backends that listen at the service's port");
    world.establish(row, world.client(3), 0)
}

fn marks_survive(world: &World) -> Row {
    let client = world.client(4);
    let mark = |packet: Packet| Packet {
        traffic_class: 0xb9,
        identification: 0xbeef,
        dont_fragment: false,
        ..packet
    };
    let row = world.row("DSCP, ECN, identification and the fragment flag survive");
    let row = world.forward(row, &mark(world.from_client(client, SYN)), 0);
    world.reply(row, &mark(world.from_backend(0, client, SYN | ACK)))
}

/// A balancer that repaired a broken packet would hide the damage from its receiver.
fn wrong_checksum_stays_wrong(world: &World) -> Row {
    let client = world.client(5);
    let packet = world.from_client(client, SYN).payload(*b"damaged");
    let leaving = world.to_backend(&packet, 0);
    let damage = |packet: &Packet| {
        let mut frame = packet.bytes();
        // The last byte of the payload, after the checksum was made.
        if let Some(last) = frame.last_mut() {
            *last ^= 0x20;
        }
        frame
    };
    let expected = damage(&leaving);
    let row = world.row("a damaged packet arrives as damaged as it came");
    row.send(
        damage(&packet),
        Expect::damaged(lb_common::verdict::Verdict::Steered, expected),
    )
}

fn tcp_options(world: &World) -> Row {
    let client = world.client(6);
    let with_options = |packet: Packet| match packet.transport {
        Transport::Tcp(fields) => Packet {
            transport: Transport::Tcp(Fields {
                has_options: true,
                ..fields
            }),
            ..packet
        },
        Transport::Udp { .. } | Transport::Icmp { .. } => packet,
    };
    let row = world.row("TCP options are left alone");
    let row = world.forward(row, &with_options(world.from_client(client, SYN)), 0);
    world.reply(row, &with_options(world.from_backend(0, client, SYN | ACK)))
}

fn simultaneous_data_and_fin(world: &World) -> Row {
    let client = world.client(7);
    let row = world.establish(world.row("data with FIN"), client, 0);
    let last = world
        .from_client(client, ACK | PSH | FIN)
        .payload(*b"the end");
    world.forward(row, &last, 0)
}
