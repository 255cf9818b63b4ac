//! Sources that no host has, and loops from service to service.

use std::net::{IpAddr, SocketAddr};

use lb_common::verdict::Verdict;
use lb_packets::{ACK, Packet, SYN};

use super::{Expect, Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([forged(&world), from_a_service(&world)]);
    }
    rows
}

fn from(world: &World, source: SocketAddr, flags: u8) -> Packet {
    Packet {
        source,
        ..world.from_client(world.client(1), flags)
    }
}

fn forged(world: &World) -> Row {
    let sources: &[&str] = if world.service.is_ipv4() {
        &[
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
        ]
    } else {
        &["::", "::1", "ff02::1"]
    };
    let mut row = world.row("sources that no host has are neither steered nor answered");
    for text in sources {
        let ip: IpAddr = text.parse().expect("a constant address");
        for flags in [SYN, ACK] {
            let packet = from(world, (ip, 4000).into(), flags);
            row = row.send(packet, Expect::dropped(Verdict::DropMartian));
        }
    }
    row
}

fn from_a_service(world: &World) -> Row {
    let mut other = world.service;
    other.set_port(4000);
    world
        .row("an address of services is no client: land, and loops from service to service")
        .send(
            from(world, world.service, SYN),
            Expect::dropped(Verdict::DropReflected),
        )
        .send(
            from(world, other, SYN),
            Expect::dropped(Verdict::DropReflected),
        )
}
