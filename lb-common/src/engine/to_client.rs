//! A reply of a backend, on its way back to the client.

use crate::{
    abi::{Backend, Handshake, Ticks, features},
    engine::{
        Outcome, cookie, is_addressed_to_us, mss,
        packet::Packet,
        rewrite::{replace_ends, set_macs},
        schedule,
        to_service::promote,
        vlan,
    },
    flow::{FlowEntry, Found, Place, Shift, Side, Spot, locate, locate_at_home},
    frame::Frame,
    headers::{Ethernet, Tcp, tcp_flags},
    ip::Ip,
    ports,
    shared::Shared64,
    tables::{FlowTable, Tables},
    trace::Decision,
    verdict::Verdict,
};

const SYN_ACK: u8 = tcp_flags::SYN | tcp_flags::ACK;

/// Whether a flow's backend listens at the source of `packet`.
#[inline(always)]
fn is_from_backend<T: Tables>(tables: &T, flow: &FlowEntry, packet: &Packet) -> bool {
    tables.backend(flow.backend()).is_some_and(|backend| {
        backend.port == packet.ports.source.get()
            && backend.address == packet.ip.source
            && flow.is_of_service_of(backend)
    })
}

/// Steers a packet whose source may be a backend. `PassNotOurs` when it belongs to no flow.
#[inline(always)]
pub(super) fn steer<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
) -> Outcome {
    let now = tables.now();
    let settings = tables.settings();
    let (client, port) = (packet.ip.destination, packet.ports.destination.get());
    let protocol = packet.ip.protocol;
    // One search for both kinds, or it would stand in the program twice.
    let mut place = Place::of(&settings, client, port, protocol);
    let mut source = None;
    if tables.has(features::FULL_NAT)
        && let Some(index) = tables.source_index(&client)
    {
        let owner = ports::owner_index(index, protocol, u16::from_be(port));
        let mark = tables.port_owner(owner).map_or(0, Shared64::load);
        if mark == 0 {
            return Verdict::PassNotOurs.into();
        }
        place = Place::from_hash(mark);
        source = Some(index as u8);
    }
    let is_mine = |flow: &FlowEntry| {
        let is_its_client = match source {
            Some(index) => flow.has_source(index, port) && flow.protocol() == protocol,
            None => flow.is_client(client, port, protocol),
        };
        is_its_client && is_from_backend(tables, flow, packet)
    };
    let mut spot = locate_at_home(tables, FlowTable::Established, place, is_mine);
    if !spot.is_found() {
        spot = locate(tables, FlowTable::Established, place, is_mine);
    }
    if !spot.is_found() {
        spot = locate(tables, FlowTable::HalfOpen, place, is_mine);
    }
    let spot = Spot(frame.forget(spot.0 as usize) as u64);
    if spot.is_found()
        && !is_addressed_to_us(frame, tables, now)
        && !is_addressed_to_sender(frame, tables, spot, place)
    {
        return Verdict::PassOtherHost.into();
    }
    if spot.is_in(FlowTable::Established)
        && let Some(found) = spot.get(tables, FlowTable::Established, place)
    {
        return established::<I, F, T>(frame, tables, packet, now, place, found, spot);
    }
    if spot.is_in(FlowTable::HalfOpen)
        && let Some(found) = spot.get(tables, FlowTable::HalfOpen, place)
    {
        return half_open::<I, F, T>(frame, tables, packet, now, place, found, spot);
    }
    tables.note(Decision::NoReply, 0);
    Verdict::PassNotOurs.into()
}

/// Whether a frame is addressed to the MAC that frames to the flow's backend come from. The
/// interface towards it may have another MAC than the one below, where steering attaches: a VLAN, a
/// macvlan, a bridge.
#[inline(always)]
fn is_addressed_to_sender<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    spot: Spot,
    place: Place,
) -> bool {
    let table = if spot.is_in(FlowTable::Established) {
        FlowTable::Established
    } else {
        FlowTable::HalfOpen
    };
    let hop = spot
        .get(tables, table, place)
        .and_then(|found| tables.backend(found.flow.backend()))
        .and_then(|backend| tables.next_hop(backend.next_hop));
    match (hop, frame.header::<Ethernet>(0)) {
        (Some(hop), Some(ethernet)) => ethernet.destination == hop.source,
        _ => false,
    }
}

/// Whether a backend answers a client that talks to it directly, by the port of a flow that full NAT
/// has.
#[inline(always)]
fn is_beside_us<T: Tables>(tables: &T, packet: &Packet, flow: &FlowEntry) -> bool {
    tables.has(features::FULL_NAT)
        && flow.path().has_source()
        && packet.ip.destination == flow.client()
}

#[inline(always)]
fn established<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    now: Ticks,
    place: Place,
    found: Found<'_>,
    spot: Spot,
) -> Outcome {
    let flow = found.flow;
    if is_beside_us(tables, packet, flow) {
        return Verdict::PassNotOurs.into();
    }
    let id = flow.backend();
    let Some(backend) = tables.backend(id) else {
        return Verdict::DropUnknownBackend.into();
    };
    let closed = if packet.is_tcp() && !packet.is_later_fragment {
        let Some(tcp) = frame.header::<Tcp>(packet.ip.payload) else {
            return Verdict::DropMalformed.into();
        };
        let flags = tcp.flags;
        if flags & SYN_ACK == SYN_ACK && flow.is_closed() {
            // The client did not open anew here, so it talks to the backend's own address.
            schedule::forget(tables, packet.ip.protocol, place, now, found);
            return Verdict::PassNotOurs.into();
        }
        if tables.has(features::SYN_COOKIES) && flags & SYN_ACK == SYN_ACK && flow.is_shifted() {
            // Our acknowledgement was lost.
            return Outcome::answer(Verdict::AnsweredForClient);
        }
        let closed = schedule::note_tcp(tables, flow, Side::Backend, flags, id);
        schedule::tell_closed(tables, place, closed, flags);
        closed
    } else {
        false
    };
    flow.expire_at(FlowEntry::next_expiry(now, closed, backend));
    let mut shift = Shift::NONE;
    if tables.has(features::SYN_COOKIES) && flow.is_shifted() {
        shift = spot.shift(tables, FlowTable::Established);
    }
    reply::<I, F, T>(frame, tables, packet, now, flow, shift)
}

#[inline(always)]
fn half_open<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    now: Ticks,
    place: Place,
    found: Found<'_>,
    spot: Spot,
) -> Outcome {
    let flow = found.flow;
    if is_beside_us(tables, packet, flow) {
        return Verdict::PassNotOurs.into();
    }
    let id = flow.backend();
    let Some(backend) = tables.backend(id) else {
        return Verdict::DropUnknownBackend.into();
    };
    if packet.is_later_fragment {
        return reply::<I, F, T>(frame, tables, packet, now, flow, Shift::NONE);
    }
    if packet.is_tcp() {
        let Some(tcp) = frame.header::<Tcp>(packet.ip.payload).map(|tcp| *tcp) else {
            return Verdict::DropMalformed.into();
        };
        let mut shift = Shift::NONE;
        if tables.has(features::SYN_COOKIES) && flow.is_awaiting() {
            shift = spot.shift(tables, FlowTable::HalfOpen);
            if tcp.flags & SYN_ACK == SYN_ACK {
                let difference = shift.value().wrapping_sub(tcp.sequence.get());
                promote(tables, place, now, found, backend, 0, Shift::by(difference));
                return Outcome::answer(Verdict::AnsweredForClient);
            }
            if tcp.flags & (tcp_flags::RST | tcp_flags::ACK) == tcp_flags::ACK {
                // The backend is still in an older connection of the same ports.
                return Outcome::answer(Verdict::AnsweredForClient);
            }
            if tcp.flags & tcp_flags::RST == 0 {
                return Verdict::DropEarly.into();
            }
        }
        if tcp.flags & SYN_ACK == SYN_ACK {
            flow.note_syn_ack(tcp.sequence.get());
            if tables.has(features::MSS_CLAMP) && backend.mss != 0 {
                mss::clamp(frame, packet, backend.mss);
            }
        } else if tcp.flags & tcp_flags::RST != 0 {
            if tables.has(features::HANDSHAKES) && flow.is_unheard() {
                tables.count_handshake(id, Handshake::Refused);
            }
            let closed = schedule::note_tcp(tables, flow, Side::Backend, tcp.flags, id);
            flow.expire_at(FlowEntry::next_expiry(now, closed, backend));
        }
        return reply::<I, F, T>(frame, tables, packet, now, flow, shift);
    }
    let outcome = reply::<I, F, T>(frame, tables, packet, now, flow, Shift::NONE);
    promote(tables, place, now, found, backend, 0, Shift::NONE);
    outcome
}

/// Sends a reply to its client.
#[inline(always)]
fn reply<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    now: Ticks,
    flow: &FlowEntry,
    shift: Shift,
) -> Outcome {
    if packet.ip.hop_limit <= 1 {
        return Verdict::DropTtlExceeded.into();
    }
    let link = flow.link();
    let id = flow.backend();
    tables.note(Decision::Reply, id);
    let Some(ethernet) = frame.header::<Ethernet>(0) else {
        return Verdict::DropMalformed.into();
    };
    let mut own_mac = ethernet.destination;
    if link.ingress != frame.ingress() {
        let Some(interface) = tables.interface(link.ingress, now) else {
            return Verdict::DropNoNextHop.into();
        };
        if u32::from(packet.ip.length) > interface.mtu {
            tables.note(Decision::TooLong, interface.mtu);
            return Outcome::answer_too_big(Verdict::AnsweredTooBig, interface.mtu as u16);
        }
        own_mac = interface.mac;
    }
    if tables.has(features::SYN_COOKIES) && shift.is_some() && !packet.is_later_fragment {
        cookie::raise_sequence(frame, packet, shift);
    }
    let service = Some((flow.service(), flow.service_port()));
    let is_translated = tables.has(features::FULL_NAT) && flow.path().has_source();
    let done = if is_translated {
        let client = Some((flow.client(), flow.client_port()));
        replace_ends::<I, F>(frame, packet, service, client)
    } else {
        replace_ends::<I, F>(frame, packet, service, None)
    };
    if done.is_none() {
        return Verdict::DropMalformed.into();
    }
    let addressed = set_macs(frame, own_mac, link.mac);
    if addressed.is_none() || vlan::retag(frame, &packet.link, link.tags).is_none() {
        return Verdict::DropNoRoom.into();
    }
    tables.count_reply(id, u64::from(packet.ip.length));
    Outcome::emit(Verdict::SteeredReply, link.ingress)
}

/// Whether another live flow of the client's endpoint goes to the same endpoint of a backend. One
/// that is over gives up its place: it would be found first and take the new flow's replies.
#[inline(always)]
pub(super) fn is_taken<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    place: Place,
    packet: &Packet,
    backend: &Backend,
    now: Ticks,
) -> bool {
    let meets = |flow: &FlowEntry| {
        flow.is_client(
            packet.ip.source,
            packet.ports.source.get(),
            packet.ip.protocol,
        ) && tables
            .backend(flow.backend())
            .is_some_and(|other| other.port == backend.port && other.address == backend.address)
    };
    // Each that is over is taken away; there are not more than a few of one client's port.
    for _ in 0..3 {
        let mut spot = locate(tables, FlowTable::Established, place, meets);
        if !spot.is_found() {
            spot = locate(tables, FlowTable::HalfOpen, place, meets);
        }
        let spot = Spot(frame.forget(spot.0 as usize) as u64);
        let found = if spot.is_in(FlowTable::Established) {
            spot.get(tables, FlowTable::Established, place)
        } else if spot.is_in(FlowTable::HalfOpen) {
            spot.get(tables, FlowTable::HalfOpen, place)
        } else {
            None
        };
        let Some(found) = found else { return false };
        if found.flow.is_active(now) {
            return true;
        }
        schedule::forget(tables, packet.ip.protocol, place, now, found);
    }
    true
}
