//! Connections that begin by a SYN cookie (RFC 4987), so that a flood of forged SYNs is answered
//! here, remembers nothing and reaches no backend.
//!
//! Only where replies pass here, so for `nat` and `full-nat`:
//!
//! 1. A service has too many half-open flows, so a SYN is answered with a SYN-ACK whose number is a
//!    [`cookie`](crate::cookie). Nothing is stored.
//! 2. The client's next packet fits the cookie. It becomes the SYN that the backend has not seen
//!    ([`take`]), which begins a half-open flow as any SYN does. Data in it is lost; the client
//!    sends it again.
//! 3. The backend's SYN-ACK does not go to the client, which had one. It is answered here, and the
//!    flow is established, with the distance between the backend's sequence numbers and those that
//!    the client has been given ([`Shift`]).
//! 4. From then on that distance is added to the numbers of replies and taken away from the
//!    client's acknowledgements.
//!
//! Neither side gets to know the other's TCP options but the segment size, so such a connection has
//! no window scaling, selective acknowledgements and timestamps, as with any server under a flood.

use crate::{
    abi::{Service, Ticks},
    checksum::Sum,
    cookie::{self, LIFETIME},
    engine::{
        Hint, Next, Outcome, mss,
        packet::{Packet, Read},
        segment,
    },
    flow::Shift,
    frame::Frame,
    headers::{Ports, Tcp, tcp_flags},
    ip::Ip,
    shared::Shared64,
    tables::Tables,
    trace::Decision,
    verdict::Verdict,
};

/// What the balancer can promise to take before the other side has said what it takes.
const WINDOW: u16 = 14_600;

/// [`Outcome::mtu`] of a packet that is of a flow, and merely early.
const IS_EARLY: u16 = 1;

/// Whether a SYN for a service is to be answered with a cookie.
#[inline(always)]
pub(super) fn is_wanted<T: Tables>(tables: &T, service: &Service) -> bool {
    if service.syn_cookies == 0 || service.slots_len == 0 {
        return false;
    }
    let flows = tables.half_open_flows(service.id).map_or(0, Shared64::load);
    // Negative where an end was counted twice.
    flows as i64 >= i64::from(service.syn_cookies)
}

/// Whether a TCP packet of no flow may be the answer to a cookie: some were sent of late.
#[inline(always)]
pub(super) fn may_be_answered<T: Tables>(tables: &T, service: &Service, now: Ticks) -> bool {
    service.syn_cookies != 0 && now.since(tables.cookie_sent(service.id)) <= LIFETIME
}

/// Counts a half-open flow of a service that begins, or ceases to be one. The agent, which counts
/// the flows in the table, corrects what is lost by flows that expire or are displaced.
#[inline(always)]
pub(super) fn count_half_open<T: Tables>(tables: &T, service: u32, change: i64) {
    if let Some(cell) = tables.half_open_flows(service) {
        tables.add(cell, change as u64);
    }
}

/// A packet of a client whose backend has not answered.
#[inline(always)]
pub(super) const fn early() -> Outcome {
    let mut outcome = Outcome::then(Next::Cookie);
    outcome.mtu = IS_EARLY;
    outcome
}

/// Builds the SYN-ACK that answers a SYN.
#[inline(always)]
pub(super) fn build_syn_ack<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
) -> Option<()> {
    let announced = mss::announced(frame, packet);
    let syn = *frame.header::<Tcp>(packet.ip.payload)?;
    let isn = syn.sequence.get();
    let cookie = cookie::make(
        tables.settings().hash_seed,
        &packet.key(),
        isn,
        announced,
        tables.now(),
    );
    let answer = Tcp {
        ports: turned(syn.ports),
        sequence: cookie.into(),
        acknowledgement: isn.wrapping_add(1).into(),
        flags: tcp_flags::SYN | tcp_flags::ACK,
        window: WINDOW.into(),
        ..Tcp::default()
    };
    let (source, destination) = (packet.ip.destination, packet.ip.source);
    segment::put::<I, F, true>(frame, packet, source, destination, answer, I::SEGMENT)
}

/// Builds the acknowledgement of a backend's SYN-ACK, which the client does not get to see; or the
/// reset of what the backend has left of an older connection of the same ports, which it
/// acknowledges instead of our SYN (RFC 9293, section 3.5.2, figure 10).
#[inline(always)]
pub(super) fn build_ack<I: Ip, F: Frame>(frame: &mut F, packet: &Packet) -> Option<()> {
    let syn_ack = *frame.header::<Tcp>(packet.ip.payload)?;
    let mut answer = Tcp {
        ports: turned(syn_ack.ports),
        sequence: syn_ack.acknowledgement,
        acknowledgement: syn_ack.sequence.get().wrapping_add(1).into(),
        flags: tcp_flags::ACK,
        window: WINDOW.into(),
        ..Tcp::default()
    };
    if syn_ack.flags & tcp_flags::SYN == 0 {
        answer.flags = tcp_flags::RST;
        answer.acknowledgement = 0.into();
        answer.window = 0.into();
    }
    let (source, destination) = (packet.ip.destination, packet.ip.source);
    segment::put::<I, F, false>(frame, packet, source, destination, answer, 0)
}

#[inline(always)]
const fn turned(ports: Ports) -> Ports {
    Ports {
        source: ports.destination,
        destination: ports.source,
    }
}

/// Makes a packet that fits a cookie the SYN that it was the answer to; then it goes its way anew,
/// see [`Hint::of_cookie`].
#[inline(always)]
pub(super) fn take<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    outcome: Outcome,
) -> Outcome {
    let Read::Packet(packet) = Packet::read::<I, F>(frame, Hint::default()) else {
        return Verdict::DropMalformed.into();
    };
    let Some(tcp) = frame.header::<Tcp>(packet.ip.payload).map(|tcp| *tcp) else {
        return Verdict::DropMalformed.into();
    };
    let isn = tcp.sequence.get().wrapping_sub(1);
    let cookie = tcp.acknowledgement.get().wrapping_sub(1);
    let seed = tables.settings().hash_seed;
    let Some(size) = cookie::read(seed, &packet.key(), isn, cookie, tables.now()) else {
        if outcome.mtu == IS_EARLY {
            return Verdict::DropEarly.into();
        }
        tables.note(Decision::CookieUnfit, 0);
        return Outcome::answer(Verdict::AnsweredResetNoFlow);
    };
    tables.note(Decision::CookieFits, u32::from(size));
    let syn = Tcp {
        ports: tcp.ports,
        sequence: isn.into(),
        flags: tcp_flags::SYN,
        window: tcp.window,
        ..Tcp::default()
    };
    let (source, destination) = (packet.ip.source, packet.ip.destination);
    if segment::put::<I, F, true>(frame, &packet, source, destination, syn, size).is_none() {
        return Verdict::DropNoRoom.into();
    }
    let mut outcome = Outcome::then(Next::Open);
    outcome.egress = cookie;
    outcome
}

/// Takes the distance away from what a client acknowledges.
#[inline(always)]
pub(super) fn lower_acknowledgement<F: Frame>(frame: &mut F, packet: &Packet, shift: Shift) {
    let Some(tcp) = frame.header::<Tcp>(packet.ip.payload) else {
        return;
    };
    if tcp.flags & tcp_flags::ACK == 0 {
        return;
    }
    let old = tcp.acknowledgement.get();
    let new = old.wrapping_sub(shift.value());
    tcp.acknowledgement = new.into();
    replaced(old, new).update(&mut tcp.checksum);
}

/// Makes a backend's sequence number the one that its client expects.
#[inline(always)]
pub(super) fn raise_sequence<F: Frame>(frame: &mut F, packet: &Packet, shift: Shift) {
    let Some(tcp) = frame.header::<Tcp>(packet.ip.payload) else {
        return;
    };
    let old = tcp.sequence.get();
    // A backend that refuses has no number of its own: the client takes a reset only in its place.
    let new = if shift.is_awaiting() {
        shift.value().wrapping_add(1)
    } else {
        old.wrapping_add(shift.value())
    };
    tcp.sequence = new.into();
    replaced(old, new).update(&mut tcp.checksum);
}

#[inline(always)]
fn replaced(old: u32, new: u32) -> Sum {
    Sum::default().add32(!old.to_be()).add32(new.to_be())
}
