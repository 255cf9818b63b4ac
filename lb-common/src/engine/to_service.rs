//! A packet from a client.

use crate::{
    abi::{Backend, Forwarding, OnBackendDown, Ticks, backend_flags},
    engine::{
        Outcome, answer,
        packet::Packet,
        rewrite::{replace_end, set_macs},
        schedule, vlan,
    },
    flow::{
        FlowEntry, Found, HALF_OPEN_SECONDS, Inserted, NewFlow, Place, Side, find, find_at_home,
        insert,
    },
    frame::Frame,
    headers::{Tcp, tcp_flags},
    ip::{End, Ip},
    tables::{FlowTable, Tables},
    verdict::{Event, Verdict},
};

/// What matters of a TCP header; all zero for UDP.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TcpInfo {
    pub(super) flags: u8,
    pub(super) acknowledgement: u32,
}

impl TcpInfo {
    /// Reads it; `None` when it is truncated.
    #[inline(always)]
    pub(super) fn parse<F: Frame>(frame: &mut F, packet: &Packet) -> Option<Self> {
        if !packet.is_tcp() {
            return Some(Self::default());
        }
        let tcp: &mut Tcp = frame.header(packet.ip.payload)?;
        Some(Self {
            flags: tcp.flags,
            acknowledgement: tcp.acknowledgement.get(),
        })
    }

    /// Whether it begins a connection.
    #[inline(always)]
    pub(super) const fn is_opening(self) -> bool {
        const ASKED: u8 = tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST | tcp_flags::FIN;
        self.flags & ASKED == tcp_flags::SYN
    }
}

/// Steers a packet whose destination may be a service. `PassNotOurs` when it is none.
#[inline(always)]
pub(super) fn steer<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
) -> Outcome {
    let Some(tcp) = TcpInfo::parse(frame, packet) else {
        return super::refuse_if_service_address(
            tables,
            &packet.ip.destination,
            Verdict::DropMalformed,
        );
    };
    let settings = tables.settings();
    let place = Place::of(
        &settings,
        packet.ip.source,
        packet.ports.source.get(),
        packet.ip.protocol,
    );
    let key = packet.key();
    let now = tables.now();
    let is_mine = |flow: &FlowEntry| flow.is_flow(&key);
    let at_home = if tcp.is_opening() {
        // Most likely of no flow at all: look at the tags at once.
        None
    } else {
        find_at_home(tables, FlowTable::Established, place, is_mine)
    };
    if let Some(found) = at_home.or_else(|| find(tables, FlowTable::Established, place, is_mine)) {
        if let Some(outcome) = established::<I, F, T>(frame, tables, packet, tcp, now, found) {
            return outcome;
        }
    } else if let Some(found) = find(tables, FlowTable::HalfOpen, place, is_mine)
        && let Some(outcome) = half_open::<I, F, T>(frame, tables, packet, tcp, now, place, found)
    {
        return outcome;
    }
    schedule::begin::<I, F, T>(frame, tables, packet, tcp, now, place)
}

/// A packet of a proven flow. `None` when the flow is over and the packet begins a new one.
#[inline(always)]
fn established<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    tcp: TcpInfo,
    now: Ticks,
    found: Found<'_>,
) -> Option<Outcome> {
    let flow = found.flow;
    if !is_for_us(frame, tables, packet, flow) {
        return Some(Verdict::PassOtherHost.into());
    }
    let mut id = flow.backend();
    let mut backend = tables.backend(id)?;
    let opens_anew = if packet.is_tcp() {
        tcp.is_opening() && (flow.is_closed() || flow.is_expired(now))
    } else {
        flow.is_expired(now)
    };
    if opens_anew || !flow.is_of_service_of(backend) {
        found.release(tables);
        return None;
    }
    if backend.flags & backend_flags::DOWN != 0
        && backend.on_backend_down != OnBackendDown::Hold as u8
        && tcp.flags & tcp_flags::RST == 0
        && !(backend.on_backend_down == OnBackendDown::Reschedule as u8 && flow.is_closed())
    {
        if backend.on_backend_down == OnBackendDown::Reset as u8 && packet.is_tcp() {
            flow.close();
            flow.expire_at(FlowEntry::next_expiry(now, true, backend));
            let verdict = Verdict::AnsweredResetBackendDown;
            return Some(answer::reset::<I, F>(frame, packet, verdict));
        }
        let other = schedule::pick(tables, &key_of(packet));
        let Some((other, value)) = other.and_then(|id| Some((id, tables.backend(id)?))) else {
            found.release(tables);
            return None;
        };
        if value.flags & backend_flags::DOWN != 0 {
            found.release(tables);
            return None;
        }
        id = other;
        backend = value;
        flow.set_backend(id);
        tables.count_event(Event::FlowRescheduled);
        tables.count_connection(id);
    }
    let closed = packet.is_tcp() && flow.note_tcp(Side::Client, tcp.flags);
    flow.expire_at(FlowEntry::next_expiry(now, closed, backend));
    flow.follow_link(packet.client_link(frame.ingress()));
    Some(forward::<I, F, T>(frame, tables, packet, id, backend))
}

/// Whether a packet of a known flow is addressed to us, and not to another balancer that took the
/// flow over and whose frames a switch floods.
#[inline(always)]
fn is_for_us<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    flow: &FlowEntry,
) -> bool {
    if flow.was_addressed_to(packet.own_mac()) {
        return true;
    }
    let is_for_us = super::is_addressed_to_us(frame, tables);
    if is_for_us {
        flow.note_own_mac(packet.own_mac());
    }
    is_for_us
}

#[inline(always)]
fn key_of(packet: &Packet) -> crate::abi::EndpointKey {
    crate::abi::EndpointKey::new(
        packet.ip.destination,
        packet.ports.destination.get(),
        packet.ip.protocol,
    )
}

/// A packet of a flow of which only the beginning was seen. `None` when it begins a new one.
#[inline(always)]
fn half_open<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    tcp: TcpInfo,
    now: Ticks,
    place: Place,
    found: Found<'_>,
) -> Option<Outcome> {
    let flow = found.flow;
    if !is_for_us(frame, tables, packet, flow) {
        return Some(Verdict::PassOtherHost.into());
    }
    let id = flow.backend();
    let backend = tables.backend(id)?;
    let is_gone = !flow.is_of_service_of(backend)
        || (backend.flags & backend_flags::DOWN != 0
            && backend.on_backend_down != OnBackendDown::Hold as u8);
    if flow.is_expired(now) || is_gone || (tcp.is_opening() && flow.is_closed()) {
        found.release(tables);
        return None;
    }
    flow.follow_link(packet.client_link(frame.ingress()));
    if tcp.flags & tcp_flags::RST != 0 {
        let closed = flow.note_tcp(Side::Client, tcp.flags);
        flow.expire_at(FlowEntry::next_expiry(now, closed, backend));
    } else if tcp.is_opening() {
        flow.expire_at(half_open_expiry(now, backend));
    } else if !packet.is_tcp() || flow.is_proven_by(tcp.acknowledgement) {
        promote(tables, place, now, found, backend, tcp.flags);
    } else {
        tables.count_event(Event::HandshakeUnproven);
    }
    Some(forward::<I, F, T>(frame, tables, packet, id, backend))
}

/// When a half-open flow that saw a packet now is forgotten.
#[inline(always)]
pub(super) fn half_open_expiry(now: Ticks, backend: &Backend) -> Ticks {
    const SPAN: u32 = Ticks::from_seconds(HALF_OPEN_SECONDS).0;
    Ticks(now.0.wrapping_add(SPAN.min(backend.idle_timeout)))
}

/// Moves a half-open flow to the established table. If that fails for once, the flow stays where
/// it is and its next packet tries again.
#[inline(always)]
pub(super) fn promote<T: Tables>(
    tables: &T,
    place: Place,
    now: Ticks,
    found: Found<'_>,
    backend: &Backend,
    flags: u8,
) {
    let new = NewFlow {
        client_finished: flags & tcp_flags::FIN != 0,
        ..found
            .flow
            .to_new(FlowEntry::next_expiry(now, false, backend))
    };
    match insert(tables, FlowTable::Established, place, now, &new) {
        Inserted::Contended => return,
        Inserted::Evicted => tables.count_event(Event::EstablishedEvicted),
        Inserted::Free => {}
    }
    found.release(tables);
    tables.count_event(Event::FlowEstablished);
}

/// Sends a packet to a backend.
#[inline(always)]
pub(super) fn forward<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    id: u32,
    backend: &Backend,
) -> Outcome {
    if packet.ip.hop_limit <= 1 {
        return Verdict::DropTtlExceeded.into();
    }
    let index = backend.next_hop;
    let Some(hop) = tables.next_hop(index) else {
        return Verdict::DropNoNextHop.into();
    };
    if index == 0 {
        return Verdict::DropNoNextHop.into();
    }
    let egress = hop.ifindex;
    let is_redirected = egress != frame.ingress();
    if is_redirected && u32::from(packet.ip.length) > hop.mtu {
        return Verdict::DropTooBig.into();
    }
    let done = if backend.forwarding == Forwarding::Nat as u8 {
        replace_end::<I, F>(
            frame,
            packet,
            End::Destination,
            backend.address,
            backend.port,
        )
    } else {
        I::decrement_hop_limit(frame, packet.link.payload)
    };
    if done.is_none() {
        return Verdict::DropMalformed.into();
    }
    let addressed = set_macs(frame, hop.source, hop.destination);
    if addressed.is_none() || vlan::retag(frame, &packet.link, hop.tci).is_none() {
        return Verdict::DropNoRoom.into();
    }
    tables.count_packet(id, u64::from(packet.ip.length));
    Outcome {
        verdict: Verdict::Steered,
        egress,
    }
}
