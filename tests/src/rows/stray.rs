//! TCP packets that belong to no flow and begin none.

use lb_common::verdict::Verdict;
use lb_packets::{ACK, FIN, Fields, PSH, Packet, RST, SYN, Transport};

use super::{Expect, Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::tcp_nat() {
        rows.extend([
            ack(&world),
            ack_with_data_and_options(&world),
            without_ack(&world),
            no_flags(&world),
            reset(&world),
            contradiction(&world),
            no_reset_moves_the_cursor(&world),
        ]);
    }
    rows
}

/// The RST that RFC 9293, section 3.10.7.1, asks for.
pub(super) fn reset_for(packet: &Packet) -> Packet {
    let Transport::Tcp(cause) = packet.transport else {
        panic!("a RST answers TCP only");
    };
    let occupied = packet.payload.len() as u32
        + u32::from(cause.flags & SYN != 0)
        + u32::from(cause.flags & FIN != 0);
    let fields = if cause.flags & ACK != 0 {
        Fields {
            flags: RST,
            sequence: cause.acknowledgement,
            ..Fields::default()
        }
    } else {
        Fields {
            flags: RST | ACK,
            acknowledgement: cause.sequence.wrapping_add(occupied),
            ..Fields::default()
        }
    };
    Packet {
        tag: packet.tag,
        ..Packet::tcp(packet.destination, packet.source, fields)
            .macs(packet.destination_mac, packet.source_mac)
    }
}

fn answered(packet: &Packet) -> Expect {
    Expect::answered(Verdict::AnsweredResetNoFlow, reset_for(packet))
}

fn ack(world: &World) -> Row {
    let packet = world.from_client(world.client(1), ACK);
    let row = world.row("an ACK is answered with a RST of its acknowledgement number");
    row.send(&packet, answered(&packet))
}

fn ack_with_data_and_options(world: &World) -> Row {
    let mut packet = world
        .from_client(world.client(1), ACK | PSH)
        .payload(vec![0xee; 1201]);
    if let Transport::Tcp(fields) = &mut packet.transport {
        fields.has_options = true;
    }
    let row = world.row("data and options vanish from the RST");
    row.send(&packet, answered(&packet))
}

fn without_ack(world: &World) -> Row {
    let mut row = world.row("without ACK the RST acknowledges everything that was sent");
    for (flags, payload) in [(FIN, 0), (PSH, 7), (FIN | PSH, 8)] {
        let mut packet = world
            .from_client(world.client(1), flags)
            .payload(vec![1; payload]);
        if let Transport::Tcp(fields) = &mut packet.transport {
            fields.sequence = u32::MAX - 3;
            fields.has_options = payload == 8;
        }
        row = row.send(&packet, answered(&packet));
    }
    row
}

fn no_flags(world: &World) -> Row {
    let packet = world.from_client(world.client(1), 0);
    let row = world.row("a packet without flags is answered too");
    row.send(&packet, answered(&packet))
}

fn reset(world: &World) -> Row {
    let row = world.row("a RST is never answered");
    let packet = world.from_client(world.client(1), RST);
    let row = row.send(packet, Expect::dropped(Verdict::DropResetNoFlow));
    let packet = world.from_client(world.client(1), RST | ACK);
    row.send(packet, Expect::dropped(Verdict::DropResetNoFlow))
}

fn contradiction(world: &World) -> Row {
    let row = world.row("SYN with FIN is malformed");
    let packet = world.from_client(world.client(1), SYN | FIN);
    let row = row.send(packet, Expect::dropped(Verdict::DropMalformed));
    // A SYN-ACK for a service is nobody's: it gets the RST of a stray ACK.
    let packet = world.from_client(world.client(1), SYN | ACK);
    row.send(&packet, answered(&packet))
}

fn no_reset_moves_the_cursor(world: &World) -> Row {
    let row = world.row("strays do not disturb the order");
    let row = world.open(row, world.client(1), 0);
    let packet = world.from_client(world.client(9), ACK);
    let row = row.send(&packet, answered(&packet));
    world.open(row, world.client(2), 1)
}
