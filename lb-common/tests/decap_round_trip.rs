//! What the balancer puts into a tunnel comes out at the app host as it was, but for the TTL, of
//! which the balancer took 1, and the MACs and tags of the last hop.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, which says where"
)]

use std::net::{IpAddr, SocketAddr};

use lb_common::{
    abi::{Forwarding, Protocol},
    decap::{self, host::HostRules},
    engine::process,
    host::{Fixture, HostFrame, INGRESS, MAC_BALANCER, MAC_CLIENT},
    verdict::Verdict,
};
use lb_packets::{Fields, Packet, SYN, Transport, verify};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Case {
    packet: Packet,
    is_outer_v4: bool,
    forwarding: Forwarding,
    /// Of the backend's next hop.
    vlan: u16,
}

fn case() -> impl Strategy<Value = Case> {
    let ways = (
        any::<[bool; 4]>(),
        prop_oneof![Just(0u16), 1..4095u16],
        proptest::option::weighted(0.3, 1..4095u16),
    );
    let packet = (
        any::<(u32, u16, u8, u16)>(),
        2u8..,
        proptest::collection::vec(any::<u8>(), 0..1300),
    );
    (ways, packet).prop_map(|(ways, packet)| {
        let ([is_v4, is_outer_v4, is_gue, is_tcp], vlan, tag) = ways;
        let ((sequence, port, traffic_class, identification), hop_limit, payload) = packet;
        let (client, service): (IpAddr, IpAddr) = if is_v4 {
            ([198, 51, 100, 7].into(), [203, 0, 113, 10].into())
        } else {
            let ip = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
            (ip(7), ip(0x10))
        };
        let transport = if is_tcp {
            Transport::Tcp(Fields {
                flags: SYN,
                sequence,
                window: 1000,
                has_options: sequence % 2 == 0,
                ..Fields::default()
            })
        } else {
            Transport::Udp {
                has_checksum: sequence % 2 == 0,
            }
        };
        let client = SocketAddr::new(client, port.max(1));
        let packet = Packet {
            traffic_class,
            identification,
            dont_fragment: sequence % 3 == 0,
            hop_limit,
            payload,
            tag,
            ..Packet::new(client, SocketAddr::new(service, 80), transport)
        };
        Case {
            packet: packet.macs(MAC_CLIENT, MAC_BALANCER),
            is_outer_v4,
            forwarding: if is_gue {
                Forwarding::DsrGue
            } else {
                Forwarding::DsrIpip
            },
            vlan,
        }
    })
}

/// What the balancer sends for the packet.
fn encapsulated(case: &Case) -> Vec<u8> {
    let mut fixture = Fixture::default();
    let (backend, source): (IpAddr, IpAddr) = if case.is_outer_v4 {
        ([10, 0, 0, 11].into(), [172, 16, 0, 0].into())
    } else {
        let ip = |first| IpAddr::from([first, 0, 0, 0, 0, 0, 0, 0x11]);
        (ip(0xfd00), ip(0x100))
    };
    let is_tcp = matches!(case.packet.transport, Transport::Tcp(_));
    let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
    let backend = SocketAddr::new(backend, 80);
    fixture.service(
        case.packet.destination,
        protocol,
        case.forwarding,
        &[backend],
    );
    for backend in fixture.tables.backends.iter_mut().skip(1) {
        backend.tunnel_source = source.into();
        backend.tunnel_source_mask = 0xffff_u32.to_be();
    }
    for hop in fixture.tables.next_hops.iter_mut().skip(1) {
        hop.vlan = case.vlan;
    }
    let mut frame = HostFrame::new(&case.packet.bytes(), INGRESS);
    let outcome = process(&mut frame, &fixture.tables);
    assert_eq!(outcome.verdict, Verdict::Steered);
    frame.bytes().to_vec()
}

proptest! {
    #[test]
    fn what_went_in_comes_out(case in case()) {
        let wrapped = encapsulated(&case);
        let sources = [
            (IpAddr::from([172, 16, 0, 0]), 16),
            (IpAddr::from([0x100, 0, 0, 0, 0, 0, 0, 0]), 64),
        ];
        let rules = HostRules::for_vips([case.packet.destination.ip()]).from_sources(sources);
        let mut frame = HostFrame::new(&wrapped, INGRESS);
        prop_assert_eq!(decap::process(&mut frame, &rules), decap::Verdict::Decapsulated);
        let expected = Packet {
            hop_limit: case.packet.hop_limit - 1,
            tag: (case.vlan != 0).then_some(case.vlan),
            ..case.packet
        };
        // The MACs are those of the last hop.
        prop_assert_eq!(&frame.bytes()[12..], &expected.bytes()[12..]);
        prop_assert_eq!(&frame.bytes()[..12], &wrapped[..12]);
        prop_assert!(verify(frame.bytes()).is_ok());
        // It is no tunnel's packet any more.
        let once = frame.bytes().to_vec();
        let again = decap::process(&mut frame, &rules);
        prop_assert_eq!(again, decap::Verdict::PassNotTunnelled);
        prop_assert_eq!(frame.bytes(), &once[..]);
    }

    #[test]
    fn what_is_changed_on_the_way_passes_or_is_taken_out_whole(
        case in case(),
        changes in proptest::collection::vec((0..120usize, any::<u8>()), 0..4),
        length in proptest::option::weighted(0.3, 14..1500usize),
    ) {
        let mut wrapped = encapsulated(&case);
        for (at, byte) in changes {
            if let Some(old) = wrapped.get_mut(at) {
                *old = byte;
            }
        }
        wrapped.truncate(length.unwrap_or(usize::MAX));
        let rules = HostRules::for_vips([case.packet.destination.ip()]);
        let mut frame = HostFrame::new(&wrapped, INGRESS);
        let verdict = decap::process(&mut frame, &rules);
        match (verdict, verdict.disposition()) {
            (decap::Verdict::Decapsulated, _) => {
                let taken = wrapped.len() - frame.bytes().len();
                prop_assert!((20..=60 + 6 * 2048 + 8 + 128).contains(&taken), "{taken}");
                // Behind the link's headers nothing changed but ECN bits and a checksum.
                let tail = frame.bytes().len().saturating_sub(42);
                prop_assert!(wrapped.ends_with(&frame.bytes()[frame.bytes().len() - tail..]));
            }
            (_, decap::Disposition::Pass) => prop_assert_eq!(frame.bytes(), &wrapped[..]),
            (_, decap::Disposition::Drop) => {}
        }
    }
}
