//! A packet's way.
//!
//! [`process`] reads it ([`packet`]), asks the endpoint filter what it can be, and hands it to
//! [`to_service`] or [`to_client`]. A packet for a service finds its flow or gets one
//! ([`schedule`]), is rewritten ([`rewrite`]) and leaves, or is answered ([`answer`]).

pub mod packet;

mod answer;
mod rewrite;
mod schedule;
mod to_client;
mod to_service;
mod vlan;

use crate::{
    abi::{EndpointKey, Protocol},
    address::Address,
    filter::{Bit, Role},
    frame::Frame,
    headers::{Ethernet, Ports, Tcp, Udp, ethertype},
    ip::{Ip, V4, V6},
    tables::Tables,
    verdict::Verdict,
};
use packet::{Link, Packet};

/// What to do with a frame.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What happened and why.
    pub verdict: Verdict,
    /// Interface to leave by, where the verdict's disposition is to emit; else 0.
    pub egress: u32,
}

impl From<Verdict> for Outcome {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self { verdict, egress: 0 }
    }
}

/// Decides about a frame and rewrites it.
#[inline(always)]
pub fn process<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Outcome {
    let Some(link) = Link::parse(frame) else {
        return Verdict::PassNotOurs.into();
    };
    match link.ethertype {
        ethertype::IPV4 => process_ip::<V4, F, T>(frame, tables, link),
        ethertype::IPV6 => process_ip::<V6, F, T>(frame, tables, link),
        _ => Verdict::PassNotOurs.into(),
    }
}

#[inline(always)]
fn process_ip<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, link: Link) -> Outcome {
    let Some(ip) = I::parse(frame, link.payload) else {
        return Verdict::PassNotOurs.into();
    };
    if Protocol::from_number(ip.protocol).is_none() {
        return Verdict::PassNotOurs.into();
    }
    if ip.is_fragment {
        return refuse_if_service_address(tables, &ip.destination, Verdict::DropFragment);
    }
    // What lies behind the end of the packet is padding and no header.
    let shortest = if ip.protocol == Protocol::Tcp as u8 {
        size_of::<Tcp>()
    } else {
        size_of::<Udp>()
    };
    let is_whole = ip.payload - link.payload + shortest <= ip.length as usize;
    let ports = frame.header::<Ports>(ip.payload).filter(|_| is_whole);
    let Some(ports) = ports.map(|ports| *ports) else {
        return refuse_if_service_address(tables, &ip.destination, Verdict::DropMalformed);
    };
    let packet = Packet { link, ip, ports };
    if filter_has(
        tables,
        Role::Service,
        ip.destination,
        ports.destination.get(),
        ip.protocol,
    ) {
        let outcome = to_service::steer::<I, F, T>(frame, tables, &packet);
        if outcome.verdict != Verdict::PassNotOurs {
            return outcome;
        }
    }
    if filter_has(
        tables,
        Role::Backend,
        ip.source,
        ports.source.get(),
        ip.protocol,
    ) {
        return to_client::steer::<I, F, T>(frame, tables, &packet);
    }
    Verdict::PassNotOurs.into()
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
fn is_addressed_to_us<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> bool {
    let ingress = frame.ingress();
    let Some(ethernet) = frame.header::<Ethernet>(0) else {
        return false;
    };
    let mac = ethernet.destination;
    let Some(interface) = tables.interface(ingress) else {
        return true;
    };
    mac == interface.mac
        || (mac[0] == 0 && mac[1] == 0 && mac[2] == 0x5e && mac[3] == 0 && matches!(mac[4], 1 | 2))
}
