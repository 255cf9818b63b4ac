//! A packet from a client.

use crate::{
    abi::{
        Backend, Forwarding, Handshake, OnBackendDown, Protocol, Ticks, backend_flags, features,
    },
    engine::{
        Hint, Next, Outcome, cookie, encapsulate, mss,
        packet::Packet,
        rewrite::{replace_ends, set_macs},
        schedule,
        step::Step,
        vlan,
    },
    flow::{
        FlowEntry, Found, HALF_OPEN_FULL_NAT_SECONDS, HALF_OPEN_SECONDS, Inserted, NewFlow, Path,
        Place, Shift, Side, Spot, insert, locate, locate_at_home, touch,
    },
    frame::Frame,
    headers::{Tcp, tcp_flags},
    ip::Ip,
    tables::{FlowTable, Tables},
    tags::Tags,
    trace::Decision,
    verdict::{Event, Verdict},
};

/// What matters of a TCP header, all zero for UDP: the flags in the lowest byte, the acknowledgement
/// number in the upper half. One number, since all of it lives long and the stack is small.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TcpInfo(u64);

impl TcpInfo {
    /// It is a SYN made of the answer to a SYN cookie, which stands where the acknowledgement would.
    const HAS_COOKIE: u64 = 1 << 8;
    /// It is of a connection that began by another balancer.
    const IS_TAKEN_UP: u64 = 1 << 9;

    /// Reads it; `None` when it is truncated.
    #[inline(always)]
    pub(super) fn parse<F: Frame>(frame: &mut F, packet: &Packet) -> Option<Self> {
        if !packet.is_tcp() || packet.is_later_fragment {
            return Some(Self::default());
        }
        let tcp: &mut Tcp = frame.header(packet.ip.payload)?;
        let acknowledgement = u64::from(tcp.acknowledgement.get());
        Some(Self(u64::from(tcp.flags) | acknowledgement << 32))
    }

    /// The same with a stage's hint.
    #[inline(always)]
    const fn with(self, hint: Hint) -> Self {
        match hint.cookie() {
            Some(cookie) => Self(tcp_flags::SYN as u64 | Self::HAS_COOKIE | (cookie as u64) << 32),
            None => self,
        }
    }

    /// The same with whether a stage took it up; without a branch, for the verifier.
    #[inline(always)]
    const fn taken_up(self, hint: Hint) -> Self {
        Self(self.0 | ((hint.0 & Hint::IS_TAKEN_UP != 0) as u64 * Self::IS_TAKEN_UP))
    }

    /// Whether a stage took it up.
    #[inline(always)]
    pub(super) const fn is_taken_up(self) -> bool {
        self.0 & Self::IS_TAKEN_UP != 0
    }

    /// Whether a stage took it up, and it ends its connection.
    #[inline(always)]
    pub(super) const fn needs_no_flow(self) -> bool {
        const ENDS: u64 = (tcp_flags::FIN | tcp_flags::RST) as u64;
        self.is_taken_up() & (self.0 & ENDS != 0)
    }

    /// Whether the balancer may answer it in place of a backend: neither did it send a SYN cookie for it,
    /// nor did another balancer see the connection begin.
    #[inline(always)]
    pub(super) const fn is_first(self) -> bool {
        self.0 & (Self::HAS_COOKIE | Self::IS_TAKEN_UP) == 0
    }

    /// See [`Tcp::flags`].
    #[inline(always)]
    pub(super) const fn flags(self) -> u8 {
        self.0 as u8
    }

    /// See [`Tcp::acknowledgement`].
    #[inline(always)]
    const fn acknowledgement(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether it is a SYN made of the answer to a SYN cookie.
    #[inline(always)]
    pub(super) const fn has_cookie(self) -> bool {
        self.0 & Self::HAS_COOKIE != 0
    }

    /// What the flow that it begins has to know; without a branch, for the verifier.
    #[inline(always)]
    pub(super) const fn shift(self) -> Shift {
        Shift::awaiting_if((self.0 >> 8) as u8 & 1, self.acknowledgement())
    }

    /// Makes the verifier forget what was asked of it.
    #[inline(always)]
    pub(super) fn forgotten<F: Frame>(self, frame: &F) -> Self {
        Self(frame.forget(self.0 as usize) as u64)
    }

    /// Whether it begins a connection.
    #[inline(always)]
    pub(super) const fn is_opening(self) -> bool {
        const ASKED: u8 = tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST | tcp_flags::FIN;
        self.flags() & ASKED == tcp_flags::SYN
    }
}

/// Steers a packet whose destination may be a service. `PassNotOurs` when it is none.
///
/// Without `OPEN`, what is not simply a packet of a live flow is left to the stage
/// [`open`](super::open).
#[inline(always)]
pub(super) fn steer<I: Ip, F: Frame, T: Tables, const OPEN: bool>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    hint: Hint,
) -> Outcome {
    let Some(mut tcp) = TcpInfo::parse(frame, packet) else {
        return super::refuse_if_service_address(
            tables,
            &packet.ip.destination,
            Verdict::DropMalformed,
        );
    };
    if OPEN && tables.has(features::SYN_COOKIES) {
        tcp = tcp.with(hint).forgotten(frame);
    }
    if OPEN && tables.has(features::TAKE_UP) {
        tcp = tcp.taken_up(hint).forgotten(frame);
    }
    if !OPEN && tcp.is_opening() {
        return Outcome::then(Next::Open);
    }
    let settings = tables.settings();
    let place = Place::of(
        &settings,
        packet.ip.source,
        packet.ports.source.get(),
        packet.ip.protocol,
    );
    if OPEN {
        touch(tables, place);
    }
    let key = packet.key();
    let now = tables.now();
    let is_mine = |flow: &FlowEntry| flow.is_flow(&key);
    // Most likely an opening packet is of no flow at all: look at the tags at once.
    let mut spot = if OPEN {
        Spot::NOWHERE
    } else {
        locate_at_home(tables, FlowTable::Established, place, is_mine)
    };
    if !spot.is_found() {
        spot = locate(tables, FlowTable::Established, place, is_mine);
    }
    if !spot.is_found() {
        spot = locate(tables, FlowTable::HalfOpen, place, is_mine);
    }
    let spot = Spot(frame.forget(spot.0 as usize) as u64);
    let mut step = Step::ANEW;
    if spot.is_in(FlowTable::Established) {
        step = established::<F, T, OPEN>(frame, tables, packet, tcp, now, place, spot);
    } else if spot.is_in(FlowTable::HalfOpen)
        && let Some(found) = spot.get(tables, FlowTable::HalfOpen, place)
    {
        step = half_open::<F, T, OPEN>(frame, tables, packet, tcp, now, place, found);
    }
    if step.is_anew() {
        if !OPEN {
            return Outcome::stray(packet.is_tcp());
        }
        let why = if spot.is_found() {
            Decision::FlowOver
        } else {
            Decision::NoFlow
        };
        tables.note(why, 0);
        step = schedule::begin::<F, T>(frame, tables, packet, tcp, now, place);
    }
    match step.merged(frame).target() {
        Ok((backend, path)) if OPEN => Outcome::forward(backend, path),
        Ok((backend, path)) => {
            forward::<I, F, T, OPEN, false>(frame, tables, packet, backend, path, place)
        }
        Err(outcome) => outcome,
    }
}

/// A packet of a proven flow. [`Step::ANEW`] when the flow is over and the packet begins a new one.
#[inline(always)]
fn established<F: Frame, T: Tables, const OPEN: bool>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    tcp: TcpInfo,
    now: Ticks,
    place: Place,
    spot: Spot,
) -> Step {
    let Some(found) = spot.get(tables, FlowTable::Established, place) else {
        return Step::ANEW;
    };
    let flow = found.flow;
    if !is_for_us(frame, tables, packet, now, flow) {
        return Verdict::PassOtherHost.into();
    }
    let mut id = flow.backend();
    tables.note(Decision::Established, id);
    let Some(mut backend) = tables.backend(id) else {
        return Step::ANEW;
    };
    let opens_anew = if packet.is_tcp() {
        tcp.is_opening() && (flow.is_closed() || flow.is_expired(now))
    } else {
        flow.is_expired(now)
    };
    if opens_anew || !flow.is_of_service_of(backend) {
        if !OPEN {
            return Step::ANEW;
        }
        schedule::forget(tables, packet.ip.protocol, place, now, found);
        return Step::ANEW;
    }
    if backend.flags & backend_flags::DOWN != 0
        && backend.on_backend_down != OnBackendDown::Hold as u8
        && tcp.flags() & tcp_flags::RST == 0
        && !(backend.on_backend_down == OnBackendDown::Reschedule as u8 && flow.is_closed())
    {
        if !OPEN {
            return Step::ANEW;
        }
        tables.note(Decision::BackendDown, u32::from(backend.on_backend_down));
        if backend.on_backend_down == OnBackendDown::Reset as u8 && packet.is_tcp() {
            schedule::note_end(tables, flow, now);
            flow.close();
            flow.expire_at(FlowEntry::next_expiry(now, true, backend));
            schedule::tell(tables, place);
            return Outcome::answer(Verdict::AnsweredResetBackendDown).into();
        }
        if !packet.is_tcp() {
            // A datagram begins a flow as good as any.
            schedule::forget(tables, packet.ip.protocol, place, now, found);
            tables.count_event(Event::FlowRescheduled);
            return Step::ANEW;
        }
        let Some(other) = schedule::move_flow(frame, tables, packet, now, flow) else {
            schedule::forget(tables, packet.ip.protocol, place, now, found);
            return Step::ANEW;
        };
        id = other;
        tables.note(Decision::Moved, id);
        schedule::tell(tables, place);
        let Some(value) = tables.backend(id) else {
            return Step::ANEW;
        };
        backend = value;
    }
    let closed = packet.is_tcp() && schedule::note_tcp(tables, flow, Side::Client, tcp.flags(), id);
    flow.expire_at(FlowEntry::next_expiry(now, closed, backend));
    schedule::tell_closed(tables, place, closed, tcp.flags());
    flow.follow_link(packet.client_link(frame.ingress()));
    if tables.has(features::SYN_COOKIES) && flow.is_shifted() && !packet.is_later_fragment {
        let shift = spot.shift(tables, FlowTable::Established);
        cookie::lower_acknowledgement(frame, packet, shift);
    }
    Step::forward(id, flow.path())
}

/// Whether a packet of a known flow is addressed to us, and not to another balancer that took the
/// flow over and whose frames a switch floods.
#[inline(always)]
fn is_for_us<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    now: Ticks,
    flow: &FlowEntry,
) -> bool {
    if flow.was_addressed_to(packet.own_mac()) {
        return true;
    }
    let is_for_us = super::is_addressed_to_us(frame, tables, now);
    if is_for_us {
        flow.note_own_mac(packet.own_mac());
    }
    is_for_us
}

/// A packet of a flow of which only the beginning was seen. [`Step::ANEW`] when it begins a new one.
#[inline(always)]
fn half_open<F: Frame, T: Tables, const OPEN: bool>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    tcp: TcpInfo,
    now: Ticks,
    place: Place,
    found: Found<'_>,
) -> Step {
    let flow = found.flow;
    if !is_for_us(frame, tables, packet, now, flow) {
        return Verdict::PassOtherHost.into();
    }
    let id = flow.backend();
    tables.note(Decision::HalfOpen, id);
    let Some(backend) = tables.backend(id) else {
        return Step::ANEW;
    };
    let is_gone = !flow.is_of_service_of(backend)
        || (backend.flags & backend_flags::DOWN != 0
            && backend.on_backend_down != OnBackendDown::Hold as u8);
    // A client that has a cookie and asks anew does not know of it any more.
    let is_forgotten = tables.has(features::SYN_COOKIES)
        && OPEN
        && tcp.is_opening()
        && flow.is_awaiting() != tcp.has_cookie();
    if flow.is_expired(now) || is_gone || is_forgotten || (tcp.is_opening() && flow.is_closed()) {
        if OPEN {
            schedule::forget(tables, packet.ip.protocol, place, now, found);
        }
        return Step::ANEW;
    }
    flow.follow_link(packet.client_link(frame.ingress()));
    let path = flow.path();
    if tcp.flags() & tcp_flags::RST != 0 {
        let closed = schedule::note_tcp(tables, flow, Side::Client, tcp.flags(), id);
        flow.expire_at(FlowEntry::next_expiry(now, closed, backend));
    } else if tcp.is_opening() {
        let expires = half_open_expiry(now, backend);
        if OPEN
            && tables.has(features::HANDSHAKES)
            && flow.note_asked_again(expires.since(flow.expires()))
        {
            tables.count_handshake(id, Handshake::Unanswered);
        }
        flow.expire_at(expires);
    } else if tables.has(features::SYN_COOKIES) && flow.is_awaiting() {
        tables.note(Decision::Early, id);
        return cookie::early().into();
    } else if !packet.is_tcp() || flow.is_proven_by(tcp.acknowledgement()) {
        promote(tables, place, now, found, backend, tcp.flags(), Shift::NONE);
    } else {
        tables.count_event(Event::HandshakeUnproven);
    }
    Step::forward(id, path)
}

/// When a half-open flow that saw a packet now is forgotten.
#[inline(always)]
pub(super) fn half_open_expiry(now: Ticks, backend: &Backend) -> Ticks {
    const SPAN: u32 = Ticks::from_seconds(HALF_OPEN_SECONDS).0;
    const SHORT: u32 = Ticks::from_seconds(HALF_OPEN_FULL_NAT_SECONDS).0;
    let span = if backend.forwarding == Forwarding::FullNat as u8 {
        SHORT
    } else {
        SPAN
    };
    Ticks(now.0.wrapping_add(span.min(backend.idle_timeout)))
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
    shift: Shift,
) {
    let new = NewFlow {
        client_finished: flags & tcp_flags::FIN != 0,
        shift,
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
    schedule::tell(tables, place);
    tables.count_event(Event::FlowEstablished);
    if tables.has(features::SYN_COOKIES) && new.key.protocol == Protocol::Tcp as u8 {
        cookie::count_half_open(tables, backend.service, -1);
    }
    if tables.has(features::HANDSHAKES) {
        tables.count_handshake(new.backend, Handshake::Accepted);
    }
}

/// Sends a packet to a backend. One of a health check, with `CHECK`, is not counted.
#[inline(always)]
pub(super) fn forward<I: Ip, F: Frame, T: Tables, const OPEN: bool, const CHECK: bool>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    id: u32,
    path: Path,
    place: Place,
) -> Outcome {
    let Some(backend) = tables.backend(id) else {
        return Verdict::DropUnknownBackend.into();
    };
    if packet.ip.hop_limit <= 1 {
        return Verdict::DropTtlExceeded.into();
    }
    let index = backend.next_hop;
    tables.note(Decision::NextHop, index);
    let Some(hop) = tables.next_hop(index) else {
        return Verdict::DropNoNextHop.into();
    };
    if index == 0 {
        return Verdict::DropNoNextHop.into();
    }
    let egress = hop.ifindex;
    if egress == 0 {
        if !CHECK {
            tables.count_packet(id, u64::from(packet.ip.length));
        }
        return Verdict::SteeredLocal.into();
    }
    let mut room = hop.mtu;
    let is_tunnel = tables.has(features::TUNNEL)
        && (backend.forwarding == Forwarding::DsrIpip as u8
            || backend.forwarding == Forwarding::DsrGue as u8);
    if is_tunnel {
        room = room.saturating_sub(Forwarding::overhead(
            backend.forwarding,
            backend.address.is_v4(),
        ));
    }
    if (is_tunnel || egress != frame.ingress()) && u32::from(packet.ip.length) > room {
        tables.note(Decision::TooLong, room);
        return Outcome::answer_too_big(Verdict::AnsweredTooBig, room as u16);
    }
    if OPEN && tables.has(features::MSS_CLAMP) && backend.mss != 0 && packet.is_tcp() {
        tables.note(Decision::Clamped, u32::from(backend.mss));
        mss::clamp(frame, packet, backend.mss);
    }
    let tags = Tags::of_next_hop(hop.vlan, hop.outer_vlan);
    if is_tunnel {
        if encapsulate::wrap::<I, F>(frame, packet, backend, hop, tags, place).is_none() {
            return Verdict::DropNoRoom.into();
        }
    } else {
        let destination = Some((backend.address, backend.port));
        let done = if tables.has(features::FULL_NAT) && path.has_source() {
            let Some(address) = tables.source(u32::from(path.address())) else {
                return Verdict::DropUnknownBackend.into();
            };
            replace_ends::<I, F>(frame, packet, Some((address, path.port())), destination)
        } else if tables.has(features::NAT) && backend.forwarding == Forwarding::Nat as u8 {
            replace_ends::<I, F>(frame, packet, None, destination)
        } else {
            I::decrement_hop_limit(frame, packet.link.payload)
        };
        if done.is_none() {
            return Verdict::DropMalformed.into();
        }
        let addressed = set_macs(frame, hop.source, hop.destination);
        if addressed.is_none() || vlan::retag(frame, &packet.link, tags).is_none() {
            return Verdict::DropNoRoom.into();
        }
    }
    if CHECK {
        return Outcome::emit(Verdict::SteeredCheck, egress);
    }
    tables.count_packet(id, u64::from(packet.ip.length));
    Outcome::emit(Verdict::Steered, egress)
}
