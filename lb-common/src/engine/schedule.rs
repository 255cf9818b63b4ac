//! A packet without a flow.

use crate::{
    abi::{EndpointKey, Forwarding, OnNoBackend, Service, Ticks, backend_flags},
    engine::{
        Outcome, answer,
        packet::Packet,
        to_client,
        to_service::{self, TcpInfo, half_open_expiry},
    },
    flow::{Inserted, NewFlow, Place, insert},
    frame::Frame,
    headers::tcp_flags,
    ip::Ip,
    tables::{FlowTable, Tables},
    verdict::{Event, Verdict},
};

/// Begins a flow, or refuses to.
#[inline(always)]
pub(super) fn begin<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    tcp: TcpInfo,
    now: Ticks,
    place: Place,
) -> Outcome {
    let key = EndpointKey::new(
        packet.ip.destination,
        packet.ports.destination.get(),
        packet.ip.protocol,
    );
    let Some(service) = tables.service(&key) else {
        return Verdict::PassNotOurs.into();
    };
    if !super::is_addressed_to_us(frame, tables) {
        return Verdict::PassOtherHost.into();
    }
    if packet.ip.source.is_martian() || super::has_services(tables, packet.ip.source) {
        return Verdict::DropMartian.into();
    }
    if packet.is_tcp() && !tcp.is_opening() {
        return refuse_stray::<I, F>(frame, packet, tcp);
    }
    if packet.ip.hop_limit <= 1 {
        return Verdict::DropTtlExceeded.into();
    }
    let Some(id) = next(tables, &service) else {
        return refuse_no_backend::<I, F, T>(frame, tables, packet, &service, now);
    };
    let Some(backend) = tables.backend(id) else {
        return Verdict::DropUnknownBackend.into();
    };
    if backend.flags & backend_flags::USED == 0 {
        return Verdict::DropUnknownBackend.into();
    }
    if backend.next_hop == 0 {
        return Verdict::DropNoNextHop.into();
    }
    // Two services may share a backend's endpoint. A client that uses one port for both would get
    // replies that cannot be told apart.
    if backend.forwarding == Forwarding::Nat as u8
        && to_client::is_taken(tables, place, packet, backend, now)
    {
        return Verdict::DropTupleInUse.into();
    }
    let flow = NewFlow {
        key: packet.key(),
        backend: id,
        link: packet.client_link(frame.ingress()),
        expires: half_open_expiry(now, backend),
        one_sided: NewFlow::is_one_sided(backend),
        own_mac: packet.own_mac(),
        client_finished: false,
    };
    match insert(tables, FlowTable::HalfOpen, place, now, &flow) {
        Inserted::Contended => return Verdict::DropTableContended.into(),
        Inserted::Evicted => tables.count_event(Event::HalfOpenEvicted),
        Inserted::Free => {}
    }
    tables.count_connection(id);
    to_service::forward::<I, F, T>(frame, tables, packet, id, backend)
}

/// The next backend of a service in its scheduler's order.
#[inline(always)]
fn next<T: Tables>(tables: &T, service: &Service) -> Option<u32> {
    if service.slots_len == 0 {
        return None;
    }
    let turn = tables.next_cursor(service.id) % u64::from(service.slots_len);
    tables.slot(service.slots_offset.wrapping_add(turn as u32))
}

/// Another backend for a flow that lost its own.
#[inline(always)]
pub(super) fn pick<T: Tables>(tables: &T, key: &EndpointKey) -> Option<u32> {
    next(tables, &tables.service(key)?)
}

#[inline(always)]
fn refuse_stray<I: Ip, F: Frame>(frame: &mut F, packet: &Packet, tcp: TcpInfo) -> Outcome {
    if tcp.flags & tcp_flags::RST != 0 {
        return Verdict::DropResetNoFlow.into();
    }
    if tcp.flags & (tcp_flags::SYN | tcp_flags::FIN) == tcp_flags::SYN | tcp_flags::FIN {
        return Verdict::DropMalformed.into();
    }
    answer::reset::<I, F>(frame, packet, Verdict::AnsweredResetNoFlow)
}

#[inline(always)]
fn refuse_no_backend<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    service: &Service,
    now: Ticks,
) -> Outcome {
    const DROP: u8 = OnNoBackend::Drop as u8;
    const RESET: u8 = OnNoBackend::Reset as u8;
    match service.on_no_backend {
        DROP => Verdict::DropNoBackend.into(),
        RESET if packet.is_tcp() => {
            answer::reset::<I, F>(frame, packet, Verdict::AnsweredResetNoBackend)
        }
        _ => answer::unreachable::<I, F, T>(frame, tables, packet, now),
    }
}
