//! `on_no_backend`: what a new connection gets when nobody is in rotation.

use lb_common::{abi::OnNoBackend, verdict::Verdict};
use lb_packets::{PSH, Packet, SYN, Transport};

use super::{
    Expect, Row,
    stray::reset_for,
    world::{Family, World},
};

/// Bytes of a packet that are quoted at most.
const QUOTE: usize = 128;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([
            drop(&world),
            unreachable(&world),
            unreachable_quotes_little(&world),
            unreachable_tagged(&world),
            limited(&world),
        ]);
        if world.is_tcp() {
            rows.extend([reset(&world), reset_tagged(&world)]);
        } else {
            rows.push(no_reset_for_udp(&world));
        }
        if world.family == Family::V4 {
            rows.push(unreachable_quotes_options(&world));
        }
        rows.push(back_in_rotation(&world));
    }
    rows
}

fn row(world: &World, policy: OnNoBackend, description: &str) -> Row {
    world
        .row(&format!("{policy:?}: {description}"))
        .given(move |fixture| {
            fixture.on_no_backend(policy);
            for service in fixture.tables.services.values_mut() {
                service.slots_len = 0;
            }
        })
}

/// Errors are limited; here the first one is one too many.
fn limited(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN);
    row(
        world,
        OnNoBackend::Unreachable,
        "errors beyond the limit are not sent",
    )
    .given(|fixture| fixture.tables.settings.errors_per_tick = 0)
    .send(packet, Expect::dropped(Verdict::DropAnswerLimited))
}

/// The "port unreachable" for a packet.
pub(super) fn unreachable_for(packet: &Packet) -> Packet {
    let offset = packet.network_offset();
    let mut quote = packet.bytes().split_off(offset);
    quote.truncate(QUOTE.min(quote.len()) / 4 * 4);
    let (kind, code) = if packet.source.is_ipv4() {
        (3, 3)
    } else {
        (1, 4)
    };
    Packet {
        tag: packet.tag,
        ..Packet::new(
            packet.destination,
            packet.source,
            Transport::Icmp { kind, code },
        )
        .macs(packet.destination_mac, packet.source_mac)
        .payload(quote)
    }
}

fn refused(packet: &Packet) -> Expect {
    Expect::answered(
        Verdict::AnsweredUnreachableNoBackend,
        unreachable_for(packet),
    )
}

fn drop(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN);
    row(world, OnNoBackend::Drop, "silence").send(packet, Expect::dropped(Verdict::DropNoBackend))
}

fn reset(world: &World) -> Row {
    let mut row = row(world, OnNoBackend::Reset, "a RST that acknowledges the SYN");
    for payload in [0, 1, 100] {
        let packet = world
            .from_client(world.client(payload), SYN)
            .payload(vec![7; payload as usize]);
        row = row.send(
            &packet,
            Expect::answered(Verdict::AnsweredResetNoBackend, reset_for(&packet)),
        );
    }
    row
}

fn reset_tagged(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN).tagged(0x6064);
    row(world, OnNoBackend::Reset, "the RST keeps the tag").send(
        &packet,
        Expect::answered(Verdict::AnsweredResetNoBackend, reset_for(&packet)),
    )
}

fn no_reset_for_udp(world: &World) -> Row {
    let packet = world.from_client(world.client(1), 0);
    row(world, OnNoBackend::Reset, "UDP has no RST").send(&packet, refused(&packet))
}

fn unreachable(world: &World) -> Row {
    let mut row = row(
        world,
        OnNoBackend::Unreachable,
        "an ICMP error with a quote",
    );
    for length in [0, 1, 2, 3, 4, 59, 60, 61, 80, 100, 101, 1400] {
        let packet = world
            .from_client(world.client(length), SYN | PSH)
            .payload(vec![0xfe; length as usize]);
        row = row.send(&packet, refused(&packet));
    }
    row
}

/// The frame is padded, the packet is not.
fn unreachable_quotes_little(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN).payload(*b"x");
    let mut frame = packet.bytes();
    frame.extend([0xaa; 40]);
    row(world, OnNoBackend::Unreachable, "padding is not quoted").send(frame, refused(&packet))
}

fn unreachable_tagged(world: &World) -> Row {
    let packet = world.from_client(world.client(1), SYN).tagged(100);
    row(
        world,
        OnNoBackend::Unreachable,
        "the ICMP error keeps the tag",
    )
    .send(&packet, refused(&packet))
}

fn unreachable_quotes_options(world: &World) -> Row {
    let packet = Packet {
        options: vec![1; 40],
        ..world
            .from_client(world.client(1), SYN)
            .payload(vec![3; 100])
    };
    row(
        world,
        OnNoBackend::Unreachable,
        "IP options are quoted and not repeated",
    )
    .send(&packet, refused(&packet))
}

/// The turn of a connection that was refused is not lost.
fn back_in_rotation(world: &World) -> Row {
    let client = world.client(1);
    let packet = world.from_client(client, SYN);
    let row = row(world, OnNoBackend::Unreachable, "until a backend is back")
        .send(&packet, refused(&packet))
        .change(|tables| {
            for service in tables.services.values_mut() {
                service.slots_len = 3;
            }
        });
    world.open(row, client, 0)
}
