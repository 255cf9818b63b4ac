//! What happens when the frame or the tables refuse: a driver without headroom, another CPU at the
//! same place. No real packet shows that on command.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, which says where"
)]

use std::net::SocketAddr;

use lb_common::{
    abi::{
        Backend, EndpointKey, Forwarding, Interface, NextHop, OnNoBackend, Protocol, Service,
        Settings, Ticks,
    },
    engine::process,
    flow::Bucket,
    frame::{Frame, Header},
    host::{Fixture, HostFrame, HostTables, INGRESS, MAC_BALANCER, MAC_CLIENT},
    shared::{Shared32, Shared64},
    tables::{FlowTable, Tables},
    verdict::{Event, Verdict},
};
use lb_packets::{ACK, Fields, Packet, SYN};

const SERVICE: &str = "203.0.113.10:80";
const SERVICE_6: &str = "[2001:db8::10]:80";

/// A frame that cannot grow at the front, or at all.
struct Cramped {
    frame: HostFrame,
    can_move: bool,
    can_cut: bool,
}

impl Frame for Cramped {
    fn header<H: Header>(&mut self, offset: usize) -> Option<&mut H> {
        self.frame.header(offset)
    }

    fn len(&self) -> usize {
        self.frame.len()
    }

    fn ingress(&self) -> u32 {
        self.frame.ingress()
    }

    fn move_head(&mut self, delta: i32) -> bool {
        self.can_move && self.frame.move_head(delta)
    }

    fn set_len(&mut self, len: usize) -> bool {
        self.can_cut && self.frame.set_len(len)
    }
}

fn fixture() -> Fixture {
    let mut fixture = Fixture::default();
    for (service, backend) in [(SERVICE, "10.0.0.11:8080"), (SERVICE_6, "[fd00::11]:8080")] {
        let backends: [SocketAddr; 1] = [backend.parse().unwrap()];
        fixture.service(
            service.parse().unwrap(),
            Protocol::Tcp,
            Forwarding::Nat,
            &backends,
        );
    }
    fixture
}

fn from_client(service: &str, flags: u8) -> Packet {
    let client = match service {
        SERVICE => "198.51.100.1:40000",
        _ => "[2001:db8:c::1]:40000",
    };
    let fields = Fields {
        flags,
        ..Fields::default()
    };
    Packet::tcp(client.parse().unwrap(), service.parse().unwrap(), fields)
        .macs(MAC_CLIENT, MAC_BALANCER)
}

fn cramped(packet: &Packet, can_move: bool, can_cut: bool) -> Cramped {
    Cramped {
        frame: HostFrame::new(&packet.bytes(), INGRESS),
        can_move,
        can_cut,
    }
}

#[test]
fn no_headroom_for_an_icmp_error_drops() {
    let mut fixture = fixture();
    fixture.on_no_backend(OnNoBackend::Unreachable);
    for service in fixture.tables.services.values_mut() {
        service.slots_len = 0;
    }
    for service in [SERVICE, SERVICE_6] {
        for (can_move, can_cut) in [(false, true), (true, false)] {
            let mut frame = cramped(&from_client(service, SYN), can_move, can_cut);
            let outcome = process(&mut frame, &fixture.tables);
            assert_eq!(outcome.verdict, Verdict::DropNoRoom, "{service}");
        }
    }
}

#[test]
fn a_frame_that_cannot_be_cut_is_not_reset() {
    let fixture = fixture();
    for service in [SERVICE, SERVICE_6] {
        let mut frame = cramped(&from_client(service, ACK), true, false);
        let outcome = process(&mut frame, &fixture.tables);
        assert_eq!(outcome.verdict, Verdict::DropNoRoom, "{service}");
    }
}

#[test]
fn no_headroom_for_a_tag_drops_the_reply() {
    let fixture = fixture();
    for (service, backend) in [(SERVICE, "10.0.0.11:8080"), (SERVICE_6, "[fd00::11]:8080")] {
        let syn = from_client(service, SYN).tagged(7);
        let mut frame = cramped(&syn, true, true);
        let outcome = process(&mut frame, &fixture.tables);
        assert_eq!(outcome.verdict, Verdict::Steered);
        let reply = Packet::tcp(backend.parse().unwrap(), syn.source, Fields::default())
            .macs([2, 0, 0, 0, 0, 1], MAC_BALANCER);
        let mut frame = cramped(&reply, false, true);
        let outcome = process(&mut frame, &fixture.tables);
        assert_eq!(outcome.verdict, Verdict::DropNoRoom, "{service}");
    }
}

/// Tables in which another CPU is always faster.
struct Contended(HostTables);

impl Tables for Contended {
    fn settings(&self) -> Settings {
        self.0.settings()
    }

    fn now(&self) -> Ticks {
        self.0.now()
    }

    fn filter_word(&self, index: u32) -> u64 {
        self.0.filter_word(index)
    }

    fn service(&self, key: &EndpointKey) -> Option<Service> {
        self.0.service(key)
    }

    fn next_cursor(&self, service: u32) -> u64 {
        self.0.next_cursor(service)
    }

    fn slot(&self, index: u32) -> Option<u32> {
        self.0.slot(index)
    }

    fn backend(&self, id: u32) -> Option<&Backend> {
        self.0.backend(id)
    }

    fn next_hop(&self, index: u32) -> Option<&NextHop> {
        self.0.next_hop(index)
    }

    fn interface(&self, ifindex: u32, now: Ticks) -> Option<&Interface> {
        self.0.interface(ifindex, now)
    }

    fn bucket(&self, table: FlowTable, index: u32) -> Option<&Bucket> {
        self.0.bucket(table, index)
    }

    fn compare_exchange(&self, _: &Shared32, _: u32, _: u32) -> bool {
        false
    }

    fn publish(&self, cell: &Shared64, value: u64) {
        self.0.publish(cell, value);
    }

    fn compare_exchange_word(&self, cell: &Shared64, current: u64, new: u64) -> bool {
        cell.compare_exchange(current, new)
    }

    fn fetch_or(&self, cell: &Shared64, bits: u64) -> u64 {
        cell.fetch_or(bits)
    }

    fn fetch_and(&self, cell: &Shared64, bits: u64) -> u64 {
        cell.fetch_and(bits)
    }

    fn add(&self, cell: &Shared64, change: u64) {
        cell.fetch_add(change);
    }

    fn may_send_error(&self, now: Ticks) -> bool {
        self.0.may_send_error(now)
    }

    fn count_packet(&self, backend: u32, bytes: u64) {
        self.0.count_packet(backend, bytes);
    }

    fn count_reply(&self, backend: u32, bytes: u64) {
        self.0.count_reply(backend, bytes);
    }

    fn count_connection(&self, backend: u32) {
        self.0.count_connection(backend);
    }

    fn count_event(&self, event: Event) {
        self.0.count_event(event);
    }
}

#[test]
fn a_contended_place_drops_the_syn_and_leaves_no_trace() {
    let tables = Contended(fixture().tables);
    for service in [SERVICE, SERVICE_6] {
        let mut frame = cramped(&from_client(service, SYN), true, true);
        let outcome = process(&mut frame, &tables);
        assert_eq!(outcome.verdict, Verdict::DropTableContended, "{service}");
    }
    assert_eq!(tables.0.flows(FlowTable::HalfOpen), 0);
    assert!(tables.0.counters.borrow().is_empty());
}

#[test]
fn a_contended_promotion_is_tried_again() {
    let fixture = fixture();
    let client = from_client(SERVICE, SYN);
    let syn_ack = |source: &str| {
        let fields = Fields {
            flags: SYN | ACK,
            sequence: 99,
            ..Fields::default()
        };
        Packet::tcp(source.parse().unwrap(), client.source, fields)
            .macs([2, 0, 0, 0, 0, 1], MAC_BALANCER)
    };
    let mut ack = from_client(SERVICE, ACK);
    ack.transport = lb_packets::Transport::Tcp(Fields {
        flags: ACK,
        acknowledgement: 100,
        ..Fields::default()
    });
    for packet in [&client, &syn_ack("10.0.0.11:8080")] {
        let outcome = process(&mut cramped(packet, true, true), &fixture.tables);
        assert!(outcome.egress == INGRESS, "{outcome:?}");
    }
    let contended = Contended(fixture.tables);
    let outcome = process(&mut cramped(&ack, true, true), &contended);
    assert_eq!(outcome.verdict, Verdict::Steered, "the packet goes on");
    assert_eq!(contended.0.event(Event::FlowEstablished), 0);
    let outcome = process(&mut cramped(&ack, true, true), &contended.0);
    assert_eq!(outcome.verdict, Verdict::Steered);
    assert_eq!(contended.0.event(Event::FlowEstablished), 1);
    assert_eq!(contended.0.flows(FlowTable::HalfOpen), 0);
}
