//! Health checks through the data path: connections of the balancer itself to a service, each steered
//! to the one backend that is checked, whatever its weight, state and health, in the way that clients'
//! packets go there.
//!
//! They come by an interface of their own, where a check's port names the backend. There is no flow,
//! so a check neither counts nor moves a cursor nor follows what happens to live flows. A reply is
//! known by the port it goes to, and by whom it comes from. With full NAT a check keeps its port,
//! which is one of those that the host gives to its own connections, and so no flow's.

use crate::{
    abi::{Backend, Check, Forwarding, features},
    engine::{
        Hint, Next, Outcome,
        packet::{Packet, Read},
        rewrite::{replace_ends, set_macs},
        to_service, vlan,
    },
    flow::{Path, Place},
    frame::Frame,
    ip::Ip,
    tables::Tables,
    tags::Tags,
    trace::Decision,
    verdict::Verdict,
};

/// No port: the entry there names the interface of checks.
const INTERFACE: u16 = 0;

/// Whether a frame came by the interface of checks.
#[inline(always)]
pub(super) fn comes_by<F: Frame, T: Tables>(frame: &F, tables: &T) -> bool {
    tables
        .check(INTERFACE)
        .is_some_and(|entry| entry.interface == frame.ingress())
}

/// What was decided about a packet, unless it is nobody's and may be a reply to a check.
#[inline(always)]
pub(super) fn or_reply<T: Tables>(tables: &T, packet: &Packet, outcome: Outcome) -> Outcome {
    let is_nobodys = outcome.verdict == Verdict::PassNotOurs && outcome.next == Next::Done;
    if is_nobodys
        && tables.has(features::CHECKS)
        && under_way(tables, packet.ports.destination.get()).is_some()
    {
        return Outcome::then(Next::Check);
    }
    outcome
}

/// The check that asks from a port in network order. What an agent that died left belongs to an
/// interface that is no more.
#[inline(always)]
fn under_way<T: Tables>(tables: &T, port: u16) -> Option<&Check> {
    let interface = tables.check(INTERFACE)?.interface;
    tables
        .check(u16::from_be(port))
        .filter(|check| check.backend != 0 && check.interface == interface)
}

/// See [`super::check`].
#[inline(always)]
pub(super) fn steer<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Outcome {
    let is_asking = comes_by(frame, tables);
    let Read::Packet(packet) = Packet::read::<I, F>(frame, Hint::default()) else {
        // No check asks or is answered in fragments.
        return if is_asking {
            Verdict::DropNoCheck.into()
        } else {
            Verdict::PassNotOurs.into()
        };
    };
    if is_asking {
        to_backend::<I, F, T>(frame, tables, &packet)
    } else {
        reply::<I, F, T>(frame, tables, &packet)
    }
}

#[inline(always)]
fn to_backend<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, packet: &Packet) -> Outcome {
    let (source, port) = (packet.ip.source, packet.ports.source.get());
    let Some(check) = under_way(tables, port).filter(|check| check.source == source) else {
        return Verdict::DropNoCheck.into();
    };
    let id = check.backend;
    let asked = tables.backend(id).filter(|backend| {
        backend.service_port == packet.ports.destination.get()
            && backend.service_address == packet.ip.destination
            && backend.protocol == packet.ip.protocol
    });
    let Some(backend) = asked else {
        return Verdict::DropNoCheck.into();
    };
    tables.note(Decision::Chosen, id);
    let path = if is_full_nat(tables, backend) {
        Path::with_source(backend.first_source as u8, port)
    } else {
        Path::DIRECT
    };
    let place = Place::of(&tables.settings(), source, port, packet.ip.protocol);
    to_service::forward::<I, F, T, true, true>(frame, tables, packet, id, path, place)
}

#[inline(always)]
fn is_full_nat<T: Tables>(tables: &T, backend: &Backend) -> bool {
    tables.has(features::FULL_NAT) && backend.forwarding == Forwarding::FullNat as u8
}

/// `PassNotOurs` when it is none.
#[inline(always)]
fn reply<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, packet: &Packet) -> Outcome {
    let Some(check) = under_way(tables, packet.ports.destination.get()) else {
        return Verdict::PassNotOurs.into();
    };
    let Some(backend) = tables.backend(check.backend) else {
        return Verdict::PassNotOurs.into();
    };
    let service = (backend.service_address, backend.service_port);
    let passes_here = Forwarding::sees_replies(backend.forwarding);
    let sender = if passes_here {
        (backend.address, backend.port)
    } else {
        service
    };
    let (receiver, asker) = if is_full_nat(tables, backend) {
        let asker = (check.source, packet.ports.destination.get());
        (tables.source(u32::from(backend.first_source)), Some(asker))
    } else {
        (Some(check.source), None)
    };
    if receiver != Some(packet.ip.destination)
        || sender.0 != packet.ip.source
        || sender.1 != packet.ports.source.get()
        || backend.protocol != packet.ip.protocol
    {
        return Verdict::PassNotOurs.into();
    }
    let Some(interface) = tables.interface(check.interface, tables.now()) else {
        return Verdict::DropNoNextHop.into();
    };
    if u32::from(packet.ip.length) > interface.mtu {
        return Verdict::DropTooBig.into();
    }
    let (mac, egress) = (interface.mac, check.interface);
    if passes_here && replace_ends::<I, F>(frame, packet, Some(service), asker).is_none() {
        return Verdict::DropMalformed.into();
    }
    let addressed = set_macs(frame, mac, mac);
    if addressed.is_none() || vlan::retag(frame, &packet.link, Tags::NONE).is_none() {
        return Verdict::DropNoRoom.into();
    }
    Outcome::emit(Verdict::SteeredCheck, egress)
}
