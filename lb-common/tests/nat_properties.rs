//! Whatever a conversation looks like, NAT keeps its payload, its marks and its checksums.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, which says where"
)]

use std::net::{IpAddr, SocketAddr};

use lb_common::{
    abi::{Forwarding, Protocol},
    address::Address,
    engine::process,
    host::{Fixture, HostFrame, INGRESS, MAC_BALANCER, MAC_CLIENT},
    verdict::{Disposition, Verdict},
};
use lb_packets::{ACK, FIN, Fields, PSH, Packet, SYN, Transport, verify};
use proptest::prelude::*;

const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xbb];

/// Three endpoints of one family that are not the same.
fn endpoints() -> impl Strategy<Value = [SocketAddr; 3]> {
    let v4 = any::<[[u8; 4]; 3]>().prop_map(|all| all.map(IpAddr::from));
    let v6 = any::<[[u8; 16]; 3]>().prop_map(|all| all.map(IpAddr::from));
    let addresses = prop_oneof![v4, v6];
    (addresses, any::<[u16; 3]>())
        .prop_map(|(addresses, ports)| {
            let mut ports = ports.into_iter();
            addresses.map(|address| SocketAddr::new(address, ports.next().unwrap_or(1)))
        })
        .prop_filter("three endpoints", |[client, service, backend]| {
            let mapped = |one: &SocketAddr| match one.ip() {
                IpAddr::V4(_) => false,
                IpAddr::V6(address) => address.to_ipv4_mapped().is_some(),
            };
            client.ip() != service.ip()
                && service.ip() != backend.ip()
                && client.ip() != backend.ip()
                && ![client, service, backend].into_iter().any(mapped)
        })
}

#[derive(Clone, Debug)]
struct Said {
    by_backend: bool,
    payload: Vec<u8>,
    hop_limit: u8,
    traffic_class: u8,
    identification: u16,
    tag: Option<u16>,
    has_checksum: bool,
    sequence: u32,
}

fn said() -> impl Strategy<Value = Said> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        proptest::collection::vec(prop_oneof![Just(0u8), Just(0xff)], 0..1400),
    ];
    let tag = proptest::option::weighted(0.3, 1u16..);
    let numbers = (2u8.., any::<u8>(), any::<u16>(), any::<u32>());
    (
        any::<bool>(),
        payload,
        numbers,
        tag,
        proptest::bool::weighted(0.8),
    )
        .prop_map(|(by_backend, payload, numbers, tag, has_checksum)| {
            let (hop_limit, traffic_class, identification, sequence) = numbers;
            Said {
                by_backend,
                payload,
                hop_limit,
                traffic_class,
                identification,
                tag,
                has_checksum,
                sequence,
            }
        })
}

fn packet(from: SocketAddr, to: SocketAddr, protocol: Protocol, said: &Said, flags: u8) -> Packet {
    let transport = match protocol {
        Protocol::Tcp => Transport::Tcp(Fields {
            flags,
            sequence: said.sequence,
            acknowledgement: !said.sequence,
            window: said.identification,
            has_options: said.has_checksum,
        }),
        Protocol::Udp => Transport::Udp {
            has_checksum: said.has_checksum,
        },
    };
    Packet {
        hop_limit: said.hop_limit,
        traffic_class: said.traffic_class,
        identification: said.identification,
        tag: said.tag,
        ..Packet::new(from, to, transport).payload(said.payload.clone())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_round_trip_keeps_everything_but_the_ends(
        [client, service, backend] in endpoints(),
        is_tcp in any::<bool>(),
        script in proptest::collection::vec(said(), 1..12),
    ) {
        prop_assume!(!Address::from(client.ip()).is_martian() && client.ip() != service.ip());
        let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
        let mut fixture = Fixture::default();
        fixture.service(service, protocol, Forwarding::Nat, &[backend]);
        let mut tag_of_client = None;
        for (turn, said) in script.iter().enumerate() {
            // Somebody has to begin.
            let by_backend = said.by_backend && turn > 0;
            let flags = match (turn, by_backend) {
                (0, _) => SYN,
                (1, true) => SYN | ACK,
                _ => ACK | PSH | if turn > 9 { FIN } else { 0 },
            };
            let (before, expected_verdict) = if by_backend {
                let packet = packet(backend, client, protocol, said, flags);
                (packet.macs(BACKEND_MAC, MAC_BALANCER), Verdict::SteeredReply)
            } else {
                let packet = packet(client, service, protocol, said, flags);
                tag_of_client = said.tag;
                (packet.macs(MAC_CLIENT, MAC_BALANCER), Verdict::Steered)
            };
            let mut frame = HostFrame::new(&before.bytes(), INGRESS);
            let outcome = process(&mut frame, &fixture.tables);
            prop_assert_eq!(outcome.verdict, expected_verdict);
            prop_assert_eq!(outcome.egress, INGRESS);

            // Sound by an independent library, and a checksum that was there is still there.
            let seen = verify(frame.bytes());
            prop_assert!(seen.is_ok(), "{:?}", seen);
            let seen = seen.unwrap();
            prop_assert_eq!(&seen.payload, &before.payload);
            prop_assert_eq!(seen.has_verified_checksum, is_tcp || said.has_checksum);
            prop_assert_eq!(seen.padding, 0);

            // And to the byte what a host would have sent between the new ends.
            let mut after = before.clone().hop_limit(before.hop_limit - 1);
            if by_backend {
                after.source = service;
                // A tag that is right already stays; a new one has no priority.
                let vlan = |tag: Option<u16>| tag.map(|tag| tag & 0x0fff);
                let wanted = vlan(tag_of_client);
                after.tag = if vlan(said.tag) == wanted { said.tag } else { wanted };
                after = after.macs(MAC_BALANCER, MAC_CLIENT);
            } else {
                after.destination = backend;
                after.tag = None;
                let hop = fixture.tables.next_hops[1];
                after = after.macs(hop.source, hop.destination);
            }
            prop_assert_eq!(frame.bytes(), &after.bytes()[..]);
        }
    }

    /// Whatever the frame, nothing but a verdict comes of it, and what passes is untouched.
    #[test]
    fn noise_is_survived(
        mut frame in proptest::collection::vec(any::<u8>(), 0..200),
        ethertype in prop_oneof![Just([8u8, 0]), Just([0x86, 0xdd]), Just([0x81, 0])],
    ) {
        if frame.len() > 14 {
            frame[12..14].copy_from_slice(&ethertype);
            if let [0x08, _] | [0x86, _] = ethertype {
                frame[14] = if ethertype[0] == 8 { 0x45 } else { 0x60 };
            }
        }
        let mut fixture = Fixture::default();
        let service = "203.0.113.10:80".parse().unwrap();
        fixture.service(service, Protocol::Tcp, Forwarding::Nat, &["10.0.0.1:80".parse().unwrap()]);
        let mut host = HostFrame::new(&frame, INGRESS);
        let outcome = process(&mut host, &fixture.tables);
        prop_assert_eq!(outcome.verdict.disposition(), Disposition::Pass);
        prop_assert_eq!(host.bytes(), &frame[..]);
    }
}
