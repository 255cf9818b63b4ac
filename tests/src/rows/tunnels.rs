//! `dsr-ipip` and `dsr-gue`: the packet goes in another one, otherwise untouched but for its TTL.

use std::net::{IpAddr, SocketAddr};

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use lb_common::{
    abi::{Forwarding, GUE_PORT, Protocol},
    verdict::Verdict,
};
use lb_packets::{ACK, PSH, Packet, SYN};

use super::{
    Expect, Row,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for inner in [Family::V4, Family::V6] {
        for outer in [Family::V4, Family::V6] {
            for forwarding in [Forwarding::DsrIpip, Forwarding::DsrGue] {
                let world = World {
                    forwarding,
                    backends: (11..14).map(|host| outer.backend(host, 80)).collect(),
                    ..World::nat(inner, Protocol::Tcp)
                };
                rows.extend([
                    wrapped(&world),
                    what_the_outer_header_takes(&world),
                    too_big(&world),
                    behind_a_tag(&world),
                    large(&world),
                ]);
            }
        }
    }
    rows
}

/// Where the outer packets come from.
fn tunnel_source(world: &World) -> IpAddr {
    match world.backends[0] {
        SocketAddr::V4(_) => IpAddr::from([172, 16, 0, 0]),
        SocketAddr::V6(_) => IpAddr::from([0x100, 0, 0, 0, 0, 0, 0, 0]),
    }
}

fn row(world: &World, description: &str) -> Row {
    let outer = if world.backends[0].is_ipv4() { 4 } else { 6 };
    let source = tunnel_source(world);
    world
        .row(&format!("in IPv{outer}: {description}"))
        .given(move |fixture| {
            for backend in fixture.tables.backends.iter_mut().skip(1) {
                backend.tunnel_source = source.into();
                backend.tunnel_source_mask = 0xffff_u32.to_be();
            }
        })
}

/// The outer header as far as it matters.
#[derive(Debug)]
struct Outer {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    hop_limit: u8,
    traffic_class: u8,
    dont_fragment: bool,
    identification: u16,
    length: usize,
    header: usize,
}

fn outer(packet: &[u8]) -> Result<Outer, String> {
    if packet.first().is_some_and(|byte| byte >> 4 == 4) {
        let ip = Ipv4HeaderSlice::from_slice(packet).map_err(|error| error.to_string())?;
        return Ok(Outer {
            source: ip.source_addr().into(),
            destination: ip.destination_addr().into(),
            protocol: ip.protocol().0,
            hop_limit: ip.ttl(),
            traffic_class: ip.dcp().value() << 2 | ip.ecn().value(),
            dont_fragment: ip.dont_fragment(),
            identification: ip.identification(),
            length: ip.total_len().into(),
            header: 20,
        });
    }
    let ip = Ipv6HeaderSlice::from_slice(packet).map_err(|error| error.to_string())?;
    Ok(Outer {
        source: ip.source_addr().into(),
        destination: ip.destination_addr().into(),
        protocol: ip.next_header().0,
        hop_limit: ip.hop_limit(),
        traffic_class: ip.traffic_class(),
        dont_fragment: true,
        identification: 0,
        length: 40 + usize::from(ip.payload_length()),
        header: 40,
    })
}

/// It leaves for that backend with the packet inside, tagged or not.
fn wraps(world: &World, packet: &Packet, backend: usize, tag: Option<u16>) -> Expect {
    let (world, packet) = (world.clone(), packet.clone());
    Expect::checked(Verdict::Steered, move |frame| {
        let inner = packet.clone().hop_limit(packet.hop_limit - 1).bytes();
        let inner = &inner[if packet.tag.is_some() { 18 } else { 14 }..];
        let link = if tag.is_some() { 18 } else { 14 };
        let outer = outer(&frame[link..])?;
        let demand = |holds: bool, what: &str| {
            if holds {
                Ok(())
            } else {
                Err(format!("{what}: {outer:?}"))
            }
        };
        demand(frame[..6] == world.backend_mac(backend), "its MAC")?;
        let is_tagged = tag.is_none_or(|tag| frame[14..16] == tag.to_be_bytes());
        demand(is_tagged, "its tag")?;
        demand(
            outer.destination == world.backends[backend].ip(),
            "its receiver",
        )?;
        demand(is_from(outer.source, tunnel_source(&world)), "its sender")?;
        demand(outer.hop_limit == 64, "its hop limit")?;
        demand(outer.traffic_class == packet.traffic_class, "DSCP and ECN")?;
        let keeps_df = packet.dont_fragment || !packet.source.is_ipv4();
        demand(outer.dont_fragment == keeps_df || outer.header == 40, "DF")?;
        let id = if keeps_df || outer.header == 40 {
            0
        } else {
            packet.identification
        };
        demand(outer.identification == id, "its identification")?;
        let mut at = link + outer.header;
        if world.forwarding == Forwarding::DsrGue {
            demand(outer.protocol == 17, "its protocol")?;
            let udp = &frame[at..at + 8];
            demand(udp[2..4] == GUE_PORT.to_be_bytes(), "its port")?;
            demand(udp[0] >= 0xc0, "its source port")?;
            let length = inner.len() as u16 + 8;
            demand(udp[4..6] == length.to_be_bytes(), "the UDP length")?;
            demand(udp[6..8] == [0, 0], "the UDP checksum")?;
            at += 8;
        } else {
            let number = if packet.source.is_ipv4() { 4 } else { 41 };
            demand(outer.protocol == number, "its protocol")?;
        }
        demand(link + outer.length == at + inner.len(), "its length")?;
        demand(frame[at..] == *inner, "the packet inside")
    })
}

fn is_from(address: IpAddr, base: IpAddr) -> bool {
    match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) => address.octets()[..2] == base.octets()[..2],
        (IpAddr::V6(address), IpAddr::V6(base)) => address.octets()[..14] == base.octets()[..14],
        _ => false,
    }
}

fn wrapped(world: &World) -> Row {
    let mut row = row(world, "the packet goes as it is, by the next backend");
    for turn in 0..4 {
        let client = world.client(turn as u32 + 1);
        let syn = world.from_client(client, SYN);
        row = row.send(&syn, wraps(world, &syn, turn % 3, None));
        let ack = world.from_client(client, ACK);
        row = row.send(&ack, wraps(world, &ack, turn % 3, None));
        let data = world.from_client(client, ACK | PSH).payload(vec![3; 901]);
        row = row.send(&data, wraps(world, &data, turn % 3, None));
    }
    row
}

fn what_the_outer_header_takes(world: &World) -> Row {
    let mut row = row(world, "DSCP and ECN, and of IPv4 DF and identification");
    for (traffic_class, dont_fragment, identification) in [
        (0, true, 0),
        (0xb8, true, 0x1234),
        (0x03, false, 0x4321),
        (0xff, false, 0),
    ] {
        let packet = Packet {
            traffic_class,
            dont_fragment,
            identification,
            ..world.from_client(world.client(1), SYN)
        };
        row = row.send(&packet, wraps(world, &packet, 0, None));
    }
    row
}

fn too_big(world: &World) -> Row {
    let header = if world.service.is_ipv4() { 40 } else { 60 };
    let overhead = Forwarding::overhead(world.forwarding as u8, world.backends[0].is_ipv4());
    let room = 1500 - overhead as usize;
    let row = row(
        world,
        "what does not fit with its new headers is told the size that does",
    );
    let client = world.client(1);
    let syn = world.from_client(client, SYN);
    let row = row.send(&syn, wraps(world, &syn, 0, None));
    let fits = world
        .from_client(client, ACK)
        .payload(vec![1; room - header]);
    let row = row.send(&fits, wraps(world, &fits, 0, None));
    let big = world
        .from_client(client, ACK)
        .payload(vec![1; room - header + 1]);
    let is_v4 = world.service.is_ipv4();
    row.send(
        &big,
        Expect::checked(Verdict::AnsweredTooBig, move |frame| {
            let at = if is_v4 { 14 + 20 } else { 14 + 40 };
            let expected: (u8, u8) = if is_v4 { (3, 4) } else { (2, 0) };
            let mtu = u16::from_be_bytes([frame[at + 6], frame[at + 7]]);
            let found = (frame[at], frame[at + 1]);
            if found == expected && usize::from(mtu) == room {
                Ok(())
            } else {
                Err(format!(
                    "type and code {found:?}, MTU {mtu} instead of {room}"
                ))
            }
        }),
    )
}

fn behind_a_tag(world: &World) -> Row {
    let row = row(world, "a tagged client, and a backend behind another tag").given(|fixture| {
        for hop in &mut fixture.tables.next_hops {
            hop.vlan = 200;
        }
    });
    let packet = world.from_client(world.client(1), SYN).tagged(100);
    row.send(&packet, wraps(world, &packet, 0, Some(200)))
}

/// In several buffers.
fn large(world: &World) -> Row {
    let row = row(world, "a packet of 8,900 bytes").given(|fixture| {
        for hop in &mut fixture.tables.next_hops {
            hop.mtu = 9000;
        }
    });
    let client = world.client(1);
    let syn = world.from_client(client, SYN);
    let row = row.send(&syn, wraps(world, &syn, 0, None));
    let data = world.from_client(client, ACK | PSH).payload(vec![3; 8_840]);
    row.send(&data, wraps(world, &data, 0, None))
}
