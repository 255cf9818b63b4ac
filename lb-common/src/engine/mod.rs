//! A packet's way.
//!
//! It goes through *stages*, each a function of its own in the kernel, which the verifier walks
//! through alone: [`wall`] asks the firewall, [`served`] looks at the Ethernet header, [`flow`] finds
//! what is known, [`open`] begins flows and handles what became of old ones, [`forward`] sends their
//! packets, [`cookie`] takes the answers to SYN cookies, [`control`] is for ICMP and fragments,
//! [`answer`] for packets that the balancer sends itself, [`check`] for health checks; limits of
//! sources and the lock-down of the host are asked in between, see [`drive()`]. A stage reads the frame
//! anew; what one wants to tell the next stands in a [`Hint`].

pub mod packet;

mod answer;
mod check;
mod control;
mod cookie;
mod drive;
mod echo;
mod encapsulate;
mod fragments;
mod icmp_error;
mod lock;
mod mss;
mod offender;
mod outcome;
pub mod pick;
mod rewrite;
mod schedule;
mod segment;
mod server_id;
mod step;
mod to_client;
mod to_service;
mod vlan;
mod wall;

pub use drive::{Stages, drive, process};
pub use outcome::{Hint, Next, Outcome};

use crate::{
    abi::{EndpointKey, Ticks, features},
    address::Address,
    filter::{Bit, Role},
    flow::Place,
    frame::Frame,
    headers::{Ethernet, ethertype},
    ip::Ip,
    tables::Tables,
    trace::Decision,
    verdict::{Disposition, Verdict},
};
use packet::{Link, Packet, Read};

/// Which IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// Looks at the Ethernet header: which IP version it is and where it begins, or what becomes of the
/// frame.
#[inline(always)]
pub fn first<F: Frame>(frame: &mut F) -> Result<(Family, usize), Verdict> {
    let Some(link) = Link::parse(frame) else {
        return Err(Verdict::PassNotOurs);
    };
    match link.ethertype {
        ethertype::IPV4 => Ok((Family::V4, link.payload)),
        ethertype::IPV6 => Ok((Family::V6, link.payload)),
        ethertype::ARP => Err(Verdict::PassArp),
        ethertype::MPLS | ethertype::MPLS_MULTICAST => Err(Verdict::PassMpls),
        ethertype::PPPOE_DISCOVERY | ethertype::PPPOE_SESSION => Err(Verdict::PassPppoe),
        _ => Err(Verdict::PassNotIp),
    }
}

/// The same, with the IP versions that are in use only. The program has no code for another.
///
/// # Errors
/// The verdict, where that is all there is to do.
#[inline(always)]
pub fn served<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Result<Family, Verdict> {
    let (family, _) = first(frame)?;
    let version = match family {
        Family::V4 => features::IPV4,
        Family::V6 => features::IPV6,
    };
    if tables.has(version) {
        Ok(family)
    } else {
        Err(Verdict::PassNotOurs)
    }
}

/// Says what becomes of a frame whose sender may not send, or not so much, and nothing of all others.
/// It looks at both IP versions, whichever are in use.
#[inline(always)]
pub fn wall<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Option<Verdict> {
    if !tables.has(features::FIREWALL | features::PACKET_LIMIT | features::OFFENDERS) {
        return None;
    }
    let (family, payload) = first(frame).ok()?;
    wall::judge(frame, tables, family, payload).err()
}

/// Says what becomes of a frame that may begin a connection, where its source has begun as many as it
/// may. Whoever exceeds that may be denied for a while, if it is `deliberate`.
#[inline(always)]
pub fn rate<F: Frame, T: Tables>(frame: &mut F, tables: &T, deliberate: bool) -> Option<Verdict> {
    if !tables.has(features::RATE_LIMIT | features::FLOW_LIMIT) {
        return None;
    }
    let (family, payload) = first(frame).ok()?;
    wall::begin(frame, tables, family, payload, deliberate).err()
}

/// Says what becomes of a frame that would go to the host with that verdict, where the host is locked
/// down and the frame may not pass. It looks at both IP versions, whichever are in use.
#[inline(always)]
pub fn lock<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Option<Verdict> {
    if !tables.has(features::LOCK_DOWN) {
        return None;
    }
    lock::guard(frame, tables).err()
}

/// Whether [`lock`] is to be asked. Address resolution passes, and so does what is for a backend on
/// this host.
#[inline(always)]
#[must_use]
pub fn is_for_host(verdict: Verdict) -> bool {
    verdict.disposition() == Disposition::Pass
        && !matches!(verdict, Verdict::PassArp | Verdict::SteeredLocal)
}

/// Steers a packet of a known flow. Most packets never see another stage.
#[inline(always)]
pub fn flow<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, hint: Hint) -> Outcome {
    let packet = match Packet::read::<I, F>(frame, hint) {
        Read::Packet(packet) => packet,
        Read::Control => return Outcome::then(Next::Control),
        Read::Cut(destination) => {
            return refuse_if_service_address(tables, &destination, Verdict::DropMalformed);
        }
        Read::NotIp => return Verdict::PassNotOurs.into(),
    };
    let ip = &packet.ip;
    let destination_port = packet.ports.destination.get();
    let is_service = !hint.is_reply()
        && filter_has(
            tables,
            Role::Service,
            ip.destination,
            destination_port,
            ip.protocol,
        );
    if is_service {
        if tables.has(features::CHECKS) && check::comes_by(frame, tables) {
            return Outcome::then(Next::Check);
        }
        let outcome = to_service::steer::<I, F, T, false>(frame, tables, &packet, hint);
        if outcome.verdict != Verdict::PassNotOurs || outcome.next != Next::Done {
            return outcome;
        }
    }
    if tables.has(features::NAT | features::FULL_NAT)
        && filter_has(
            tables,
            Role::Backend,
            ip.source,
            packet.ports.source.get(),
            ip.protocol,
        )
    {
        let outcome = to_client::steer::<I, F, T>(frame, tables, &packet);
        return check::or_reply(tables, &packet, outcome);
    }
    tables.note(Decision::NoEndpoint, 0);
    check::or_reply(tables, &packet, Verdict::PassNotOurs.into())
}

/// Begins a flow, or deals with one that is not what it was. Only for packets whose destination
/// may be a service.
#[inline(always)]
pub fn open<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, hint: Hint) -> Outcome {
    let Read::Packet(packet) = Packet::read::<I, F>(frame, hint) else {
        return Verdict::DropMalformed.into();
    };
    let outcome = to_service::steer::<I, F, T, true>(frame, tables, &packet, hint);
    let is_foreign = outcome.verdict == Verdict::PassNotOurs && outcome.next == Next::Done;
    if is_foreign
        && tables.has(features::NAT | features::FULL_NAT)
        && filter_has(
            tables,
            Role::Backend,
            packet.ip.source,
            packet.ports.source.get(),
            packet.ip.protocol,
        )
    {
        return Outcome::then(Next::Flow);
    }
    check::or_reply(tables, &packet, outcome)
}

/// Handles what is neither TCP nor UDP, and fragments, whose ports have to be looked up first.
#[inline(always)]
pub fn control<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Outcome {
    control::control::<I, F, T>(frame, tables)
}

/// Builds the packet that answers this one.
#[inline(always)]
pub fn answer<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, outcome: Outcome) -> Outcome {
    answer::build::<I, F, T>(frame, tables, outcome)
}

/// Sends a packet of a health check to its backend, or that backend's reply to the check.
#[inline(always)]
pub fn check<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Outcome {
    if !tables.has(features::CHECKS) {
        return Verdict::PassNotOurs.into();
    }
    check::steer::<I, F, T>(frame, tables)
}

/// Makes a packet that fits a SYN cookie the SYN that its client once sent.
#[inline(always)]
pub fn cookie<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, outcome: Outcome) -> Outcome {
    if !tables.has(features::SYN_COOKIES) {
        return Verdict::PassNotOurs.into();
    }
    cookie::take::<I, F, T>(frame, tables, outcome)
}

/// Sends a packet to the backend that [`open`] has found. A stage of its own, because both together
/// are more than the stack holds.
#[inline(always)]
pub fn forward<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    outcome: Outcome,
    hint: Hint,
) -> Outcome {
    let Read::Packet(packet) = Packet::read::<I, F>(frame, hint) else {
        return Verdict::DropMalformed.into();
    };
    let (backend, path) = outcome.target();
    let place = Place::of(
        &tables.settings(),
        packet.ip.source,
        packet.ports.source.get(),
        packet.ip.protocol,
    );
    to_service::forward::<I, F, T, true, false>(frame, tables, &packet, backend, path, place)
}

#[inline(always)]
fn filter_has<T: Tables>(
    tables: &T,
    role: Role,
    address: Address,
    port: u16,
    protocol: u8,
) -> bool {
    let settings = tables.settings();
    let bit = Bit::of(
        settings.hash_seed,
        settings.filter_mask,
        role,
        address,
        port,
        protocol,
    );
    tables.filter_word(bit.word) & bit.mask != 0
}

/// The verdict, if the address has services; else the packet is not ours.
#[inline(always)]
fn refuse_if_service_address<T: Tables>(
    tables: &T,
    address: &Address,
    verdict: Verdict,
) -> Outcome {
    if has_services(tables, *address) {
        verdict.into()
    } else {
        Verdict::PassNotOurs.into()
    }
}

/// Whether any port of an address is a service.
#[inline(always)]
fn has_services<T: Tables>(tables: &T, address: Address) -> bool {
    filter_has(tables, Role::Service, address, 0, 0)
        && tables.service(&EndpointKey::any_port(address)).is_some()
}

/// Whether a frame is addressed to the MAC of the interface it came in by, or to a virtual MAC of
/// VRRP (RFC 9568, section 7.3), and not merely seen here because a switch flooded it.
#[inline(always)]
fn is_addressed_to_us<F: Frame, T: Tables>(frame: &mut F, tables: &T, now: Ticks) -> bool {
    let ingress = frame.ingress();
    let Some(ethernet) = frame.header::<Ethernet>(0) else {
        return false;
    };
    let mac = ethernet.destination;
    let Some(interface) = tables.interface(ingress, now) else {
        return true;
    };
    if mac == interface.mac {
        return true;
    }
    // It may have got another MAC a moment ago.
    let is_new = tables
        .interface_anew(ingress, now)
        .is_some_and(|interface| mac == interface.mac);
    is_new
        || (mac[0] == 0 && mac[1] == 0 && mac[2] == 0x5e && mac[3] == 0 && matches!(mac[4], 1 | 2))
}
