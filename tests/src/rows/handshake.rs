//! When a half-open flow is proven: only by what a forger cannot know.

use lb_common::verdict::Event;
use lb_packets::{ACK, FIN, Fields, PSH, Packet, SYN, Transport};

use super::{Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::tcp_nat() {
        rows.extend([
            fitting_ack(&world),
            forged_pair(&world),
            ack_before_syn_ack(&world),
            wrong_acknowledgement(&world),
            acknowledgement_too_far(&world),
            data_with_the_syn_ack(&world),
            fin_with_the_ack(&world),
            second_syn_ack_counts(&world),
        ]);
    }
    for world in World::udp_nat() {
        rows.extend([udp_by_an_answer(&world), udp_by_a_second_datagram(&world)]);
    }
    rows
}

/// The client's ACK with another acknowledgement number, relative to the right one.
fn ack_off_by(world: &World, number: u32, off: u32) -> Packet {
    let packet = world.from_client(world.client(number), ACK);
    match packet.transport {
        Transport::Tcp(fields) => Packet {
            transport: Transport::Tcp(Fields {
                acknowledgement: fields.acknowledgement.wrapping_add(off),
                ..fields
            }),
            ..packet
        },
        Transport::Udp { .. } | Transport::Icmp { .. } => packet,
    }
}

fn answered(world: &World, description: &str) -> Row {
    let row = world.open(world.row(description), world.client(1), 0);
    world.reply(row, &world.from_backend(0, world.client(1), SYN | ACK))
}

fn fitting_ack(world: &World) -> Row {
    let row = answered(world, "SYN, SYN-ACK and the fitting ACK promote, once");
    let row = row.event(Event::FlowEstablished, 0);
    let row = world.forward(row, &ack_off_by(world, 1, 0), 0);
    let row = row.event(Event::FlowEstablished, 1);
    let row = world.forward(row, &ack_off_by(world, 1, 100), 0);
    row.event(Event::FlowEstablished, 1)
        .event(Event::HandshakeUnproven, 0)
}

/// What a flood that forges its senders can do: it sees no answers. An entry that knows no number
/// yet must not take the one that fits its empty field.
fn forged_pair(world: &World) -> Row {
    let mut row = world.row("forged pairs of SYN and ACK promote nothing");
    for number in 0..20 {
        let (client, backend) = (world.client(number), number as usize % 3);
        row = world.open(row, client, backend);
        row = world.forward(row, &world.from_client(client, ACK | PSH), backend);
        for guess in [1, 2, 0x8000] {
            row = world.forward(row, &ack_off_by(world, number, guess), backend);
        }
    }
    row.event(Event::FlowEstablished, 0)
        .event(Event::HandshakeUnproven, 80)
}

fn ack_before_syn_ack(world: &World) -> Row {
    let client = world.client(1);
    let row = world.open(
        world.row("an ACK before the SYN-ACK promotes nothing, one after it does"),
        client,
        0,
    );
    let row = world.forward(row, &ack_off_by(world, 1, 0), 0);
    let row = row.event(Event::FlowEstablished, 0);
    let row = world.reply(row, &world.from_backend(0, client, SYN | ACK));
    let row = world.forward(row, &ack_off_by(world, 1, 0), 0);
    row.event(Event::FlowEstablished, 1)
}

fn wrong_acknowledgement(world: &World) -> Row {
    let row = answered(world, "an ACK that does not fit promotes nothing");
    let row = world.forward(row, &ack_off_by(world, 1, u32::MAX << 17), 0);
    let row = world.forward(row, &ack_off_by(world, 1, 0x8000_0000), 0);
    row.event(Event::FlowEstablished, 0)
        .event(Event::HandshakeUnproven, 2)
}

fn acknowledgement_too_far(world: &World) -> Row {
    let row = answered(world, "the slack is 64 to 128 KiB and ends there");
    let row = world.forward(row, &ack_off_by(world, 1, 2 << 16), 0);
    let row = row.event(Event::FlowEstablished, 0);
    let row = world.forward(row, &ack_off_by(world, 1, (1 << 16) - 1), 0);
    row.event(Event::FlowEstablished, 1)
}

fn data_with_the_syn_ack(world: &World) -> Row {
    let row = answered(world, "an ACK of data that came with the SYN-ACK promotes");
    let row = world.forward(row, &ack_off_by(world, 1, 1400), 0);
    row.event(Event::FlowEstablished, 1)
}

/// RFC 9293 lets a client send its FIN with the ACK of the handshake.
fn fin_with_the_ack(world: &World) -> Row {
    let client = world.client(1);
    let row = answered(world, "a FIN with the ACK is not forgotten");
    let row = world.forward(row, &world.from_client(client, ACK | FIN), 0);
    let row = row.event(Event::FlowEstablished, 1);
    let row = world.reply(row, &world.from_backend(0, client, ACK | FIN));
    // Both have said goodbye, so this begins anew.
    world.open(row, client, 1)
}

/// A backend that restarted within the handshake answers with another number.
fn second_syn_ack_counts(world: &World) -> Row {
    let client = world.client(1);
    let row = answered(world, "the latest SYN-ACK is the one to fit");
    let mut second = world.from_backend(0, client, SYN | ACK);
    if let Transport::Tcp(fields) = &mut second.transport {
        fields.sequence = 7_000_000;
    }
    let row = world.reply(row, &second);
    let row = world.forward(row, &ack_off_by(world, 1, 0), 0);
    let row = row.event(Event::FlowEstablished, 0);
    let row = world.forward(row, &ack_off_by(world, 1, 7_000_001), 0);
    row.event(Event::FlowEstablished, 1)
}

fn udp_by_an_answer(world: &World) -> Row {
    let client = world.client(1);
    let row = world.open(world.row("an answer proves a UDP flow"), client, 0);
    let row = row.event(Event::FlowEstablished, 0);
    let row = world.reply(row, &world.from_backend(0, client, 0));
    let row = row.event(Event::FlowEstablished, 1);
    world.open(row, client, 0)
}

fn udp_by_a_second_datagram(world: &World) -> Row {
    let client = world.client(1);
    let row = world.open(world.row("a second datagram proves a UDP flow"), client, 0);
    let row = world.open(row, client, 0).event(Event::FlowEstablished, 1);
    world.reply(row, &world.from_backend(0, client, 0))
}
