//! A reply of a backend, on its way back to the client.

use crate::{
    abi::{Backend, Ticks},
    engine::{
        Outcome,
        packet::Packet,
        rewrite::{replace_end, set_macs},
        to_service::promote,
        vlan,
    },
    flow::{FlowEntry, Found, Place, Side, find, find_at_home},
    frame::Frame,
    headers::{Ethernet, Tcp, tcp_flags},
    ip::{End, Ip},
    tables::{FlowTable, Tables},
    verdict::Verdict,
};

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
    let settings = tables.settings();
    let (client, port) = (packet.ip.destination, packet.ports.destination.get());
    let place = Place::of(&settings, client, port, packet.ip.protocol);
    let is_mine = |flow: &FlowEntry| {
        flow.is_client(client, port, packet.ip.protocol) && is_from_backend(tables, flow, packet)
    };
    let now = tables.now();
    if let Some(found) = find_at_home(tables, FlowTable::Established, place, is_mine)
        .or_else(|| find(tables, FlowTable::Established, place, is_mine))
    {
        return established::<I, F, T>(frame, tables, packet, now, found);
    }
    if let Some(found) = find(tables, FlowTable::HalfOpen, place, is_mine) {
        return half_open::<I, F, T>(frame, tables, packet, now, place, found);
    }
    Verdict::PassNotOurs.into()
}

#[inline(always)]
fn established<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    now: Ticks,
    found: Found<'_>,
) -> Outcome {
    let flow = found.flow;
    let id = flow.backend();
    let Some(backend) = tables.backend(id) else {
        return Verdict::DropUnknownBackend.into();
    };
    let closed = if packet.is_tcp() {
        let Some(tcp) = frame.header::<Tcp>(packet.ip.payload) else {
            return Verdict::DropMalformed.into();
        };
        let flags = tcp.flags;
        flow.note_tcp(Side::Backend, flags)
    } else {
        false
    };
    flow.expire_at(FlowEntry::next_expiry(now, closed, backend));
    reply::<I, F, T>(frame, tables, packet, flow)
}

#[inline(always)]
fn half_open<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    now: Ticks,
    place: Place,
    found: Found<'_>,
) -> Outcome {
    const SYN_ACK: u8 = tcp_flags::SYN | tcp_flags::ACK;
    let flow = found.flow;
    let id = flow.backend();
    let Some(backend) = tables.backend(id) else {
        return Verdict::DropUnknownBackend.into();
    };
    if packet.is_tcp() {
        let Some(tcp) = frame.header::<Tcp>(packet.ip.payload).map(|tcp| *tcp) else {
            return Verdict::DropMalformed.into();
        };
        if tcp.flags & SYN_ACK == SYN_ACK {
            flow.note_syn_ack(tcp.sequence.get());
        } else if tcp.flags & tcp_flags::RST != 0 {
            let closed = flow.note_tcp(Side::Backend, tcp.flags);
            flow.expire_at(FlowEntry::next_expiry(now, closed, backend));
        }
        return reply::<I, F, T>(frame, tables, packet, flow);
    }
    let outcome = reply::<I, F, T>(frame, tables, packet, flow);
    promote(tables, place, now, found, backend, 0);
    outcome
}

/// Sends a reply to its client.
#[inline(always)]
fn reply<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    flow: &FlowEntry,
) -> Outcome {
    if packet.ip.hop_limit <= 1 {
        return Verdict::DropTtlExceeded.into();
    }
    let link = flow.link();
    let id = flow.backend();
    let Some(ethernet) = frame.header::<Ethernet>(0) else {
        return Verdict::DropMalformed.into();
    };
    let mut own_mac = ethernet.destination;
    if link.ingress != frame.ingress() {
        let Some(interface) = tables.interface(link.ingress) else {
            return Verdict::DropNoNextHop.into();
        };
        if u32::from(packet.ip.length) > interface.mtu {
            return Verdict::DropTooBig.into();
        }
        own_mac = interface.mac;
    }
    let (address, port) = (flow.service(), flow.service_port());
    if replace_end::<I, F>(frame, packet, End::Source, address, port).is_none() {
        return Verdict::DropMalformed.into();
    }
    let addressed = set_macs(frame, own_mac, link.mac);
    if addressed.is_none() || vlan::retag(frame, &packet.link, link.tci).is_none() {
        return Verdict::DropNoRoom.into();
    }
    tables.count_reply(id, u64::from(packet.ip.length));
    Outcome {
        verdict: Verdict::SteeredReply,
        egress: link.ingress,
    }
}

/// Whether another live flow of the client's endpoint goes to the same endpoint of a backend. One
/// that is over gives up its place: it would be found first and take the new flow's replies.
#[inline(always)]
pub(super) fn is_taken<T: Tables>(
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
        let found = find(tables, FlowTable::Established, place, meets)
            .or_else(|| find(tables, FlowTable::HalfOpen, place, meets));
        let Some(found) = found else { return false };
        if found.flow.is_active(now) {
            return true;
        }
        found.release(tables);
    }
    true
}
