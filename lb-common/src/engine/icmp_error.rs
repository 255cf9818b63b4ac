//! ICMP errors about flows: they quote a packet that was translated on its way, and are translated
//! back (RFC 5508), or else path MTU discovery and "unreachable" would die at the balancer.
//!
//! Eight bytes of TCP or UDP are enough. An error neither begins a flow nor keeps one alive.

use crate::{
    abi::{Backend, Forwarding, Protocol, features},
    checksum::Sum,
    engine::{
        Outcome, encapsulate, filter_has,
        packet::{Link, Packet},
        refuse_if_service_address,
        rewrite::{End, set_macs},
        vlan,
    },
    filter::Role,
    flow::{FlowEntry, FlowKey, Place, Shift, Spot, locate},
    frame::Frame,
    headers::{Ethernet, Icmp, Ports, TransportStart, Word16},
    ip::{Ip, IpInfo},
    ports,
    shared::Shared64,
    tables::{FlowTable, Tables},
    tags::Tags,
    trace::Decision,
    verdict::Verdict,
};

/// The quoted packet.
#[derive(Clone, Copy)]
struct Quote {
    /// Offset of its IP header.
    header: usize,
    ip: IpInfo,
    ports: Ports,
}

/// Steers an error.
#[inline(always)]
pub(super) fn steer<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    link: &Link,
    ip: &IpInfo,
) -> Outcome {
    let is_martian = ip.source.is_martian();
    if !is_martian && let Some(quote) = read::<I, F>(frame, link, ip) {
        let outcome = translated::<I, F, T>(frame, tables, link, ip, &quote);
        if outcome.verdict != Verdict::PassNotOurs {
            return outcome;
        }
    }
    let verdict = if is_martian {
        Verdict::DropMartian
    } else {
        Verdict::DropErrorNoFlow
    };
    refuse_if_service_address(tables, &ip.destination, verdict)
}

/// `PassNotOurs` when it is about no flow.
#[inline(always)]
fn translated<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    link: &Link,
    ip: &IpInfo,
    quote: &Quote,
) -> Outcome {
    if filter_has(
        tables,
        Role::Service,
        quote.ip.source,
        quote.ports.source.get(),
        quote.ip.protocol,
    ) {
        let outcome = to_backend::<I, F, T>(frame, tables, link, ip, quote);
        if outcome.verdict != Verdict::PassNotOurs {
            return outcome;
        }
    }
    if tables.has(features::NAT | features::FULL_NAT)
        && filter_has(
            tables,
            Role::Backend,
            quote.ip.destination,
            quote.ports.destination.get(),
            quote.ip.protocol,
        )
    {
        return to_client::<I, F, T>(frame, tables, link, ip, quote);
    }
    Verdict::PassNotOurs.into()
}

#[inline(always)]
fn read<I: Ip, F: Frame>(frame: &mut F, link: &Link, ip: &IpInfo) -> Option<Quote> {
    const PORTS_AND_MORE: usize = 8;
    let header = ip.payload + size_of::<Icmp>();
    let mut quoted = I::quoted(frame, header)?;
    let end = link.payload + ip.length as usize;
    if quoted.is_later_fragment || quoted.payload + PORTS_AND_MORE > end {
        return None;
    }
    let ports = frame.header::<Ports>(quoted.payload).map(|ports| *ports)?;
    quoted.payload = frame.forget(quoted.payload);
    Some(Quote {
        header,
        ip: quoted,
        ports,
    })
}

#[inline(always)]
fn locate_anywhere<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    place: Place,
    is_mine: impl Fn(&FlowEntry) -> bool + Copy,
) -> Spot {
    let mut spot = locate(tables, FlowTable::Established, place, is_mine);
    if !spot.is_found() {
        spot = locate(tables, FlowTable::HalfOpen, place, is_mine);
    }
    Spot(frame.forget(spot.0 as usize) as u64)
}

#[inline(always)]
fn get<T: Tables>(tables: &T, spot: Spot, place: Place) -> Option<&FlowEntry> {
    let found = if spot.is_in(FlowTable::Established) {
        spot.get(tables, FlowTable::Established, place)
    } else if spot.is_in(FlowTable::HalfOpen) {
        spot.get(tables, FlowTable::HalfOpen, place)
    } else {
        None
    };
    found.map(|found| found.flow)
}

/// About a packet that a backend sent as the service.
#[inline(always)]
fn to_backend<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    link: &Link,
    ip: &IpInfo,
    quote: &Quote,
) -> Outcome {
    let key = FlowKey {
        client: quote.ip.destination,
        client_port: quote.ports.destination.get(),
        service: quote.ip.source,
        service_port: quote.ports.source.get(),
        protocol: quote.ip.protocol,
    };
    let place = Place::of(
        &tables.settings(),
        key.client,
        key.client_port,
        key.protocol,
    );
    let spot = locate_anywhere(frame, tables, place, |flow: &FlowEntry| flow.is_flow(&key));
    let Some(flow) = get(tables, spot, place) else {
        return Verdict::PassNotOurs.into();
    };
    let (id, path) = (flow.backend(), flow.path());
    tables.note(Decision::ErrorToBackend, id);
    let Some(backend) = tables.backend(id) else {
        return Verdict::DropUnknownBackend.into();
    };
    if !flow.is_of_service_of(backend) {
        return Verdict::PassNotOurs.into();
    }
    if ip.hop_limit <= 1 {
        return Verdict::DropTtlExceeded.into();
    }
    let index = backend.next_hop;
    let hop = tables.next_hop(index).filter(|_| index != 0);
    let Some(hop) = hop else {
        return Verdict::DropNoNextHop.into();
    };
    if hop.ifindex == 0 {
        return Verdict::SteeredLocal.into();
    }
    let tags = Tags::of_next_hop(hop.vlan, hop.outer_vlan);
    if tables.has(features::TUNNEL)
        && (backend.forwarding == Forwarding::DsrIpip as u8
            || backend.forwarding == Forwarding::DsrGue as u8)
    {
        let packet = Packet {
            link: *link,
            ip: *ip,
            ports: quote.ports,
            is_later_fragment: true,
        };
        let wrapped = encapsulate::wrap::<I, F>(frame, &packet, backend, hop, tags, place);
        return wrapped.map_or(Verdict::DropNoRoom.into(), |()| {
            Outcome::emit(Verdict::SteeredError, hop.ifindex)
        });
    }
    if tables.has(features::SYN_COOKIES)
        && flow.is_shifted()
        && spot.is_in(FlowTable::Established)
        && quote.ip.protocol == Protocol::Tcp as u8
    {
        let shift = spot.shift(tables, FlowTable::Established);
        if lower_quoted_sequence(frame, ip, quote, shift).is_none() {
            return Verdict::DropMalformed.into();
        }
    }
    let done = if Forwarding::sees_replies(backend.forwarding) {
        let mut receiver = (key.client, key.client_port);
        if tables.has(features::FULL_NAT) && path.has_source() {
            let Some(address) = tables.source(u32::from(path.address())) else {
                return Verdict::DropUnknownBackend.into();
            };
            receiver = (address, path.port());
        }
        let sender = (backend.address, backend.port);
        let outer = (ip.source, backend.address);
        translate::<I, F>(frame, link, ip, quote, [sender, receiver], outer)
    } else {
        I::decrement_hop_limit(frame, link.payload)
    };
    leave(
        frame,
        link,
        done,
        hop.source,
        hop.destination,
        tags,
        hop.ifindex,
    )
}

/// About a packet that we sent to a backend for a client.
#[inline(always)]
fn to_client<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    link: &Link,
    ip: &IpInfo,
    quote: &Quote,
) -> Outcome {
    let (sender, port) = (quote.ip.source, quote.ports.source.get());
    let protocol = quote.ip.protocol;
    let mut place = Place::of(&tables.settings(), sender, port, protocol);
    let mut source = None;
    if tables.has(features::FULL_NAT)
        && let Some(index) = tables.source_index(&sender)
    {
        let owner = ports::owner_index(index, protocol, u16::from_be(port));
        let mark = tables.port_owner(owner).map_or(0, Shared64::load);
        if mark == 0 {
            return Verdict::PassNotOurs.into();
        }
        place = Place::from_hash(mark);
        source = Some(index as u8);
    }
    let is_for = |backend: &Backend| {
        backend.port == quote.ports.destination.get() && backend.address == quote.ip.destination
    };
    let is_mine = |flow: &FlowEntry| {
        let is_its_client = match source {
            Some(index) => flow.has_source(index, port) && flow.protocol() == protocol,
            None => flow.is_client(sender, port, protocol),
        };
        is_its_client && tables.backend(flow.backend()).is_some_and(is_for)
    };
    let spot = locate_anywhere(frame, tables, place, is_mine);
    let Some(flow) = get(tables, spot, place) else {
        return Verdict::PassNotOurs.into();
    };
    if ip.hop_limit <= 1 {
        return Verdict::DropTtlExceeded.into();
    }
    tables.note(Decision::ErrorToClient, flow.backend());
    let client = (flow.client(), flow.client_port());
    let service = (flow.service(), flow.service_port());
    let way = flow.link();
    let Some(ethernet) = frame.header::<Ethernet>(0) else {
        return Verdict::DropMalformed.into();
    };
    let mut own_mac = ethernet.destination;
    if way.ingress != frame.ingress() {
        let Some(interface) = tables.interface(way.ingress, tables.now()) else {
            return Verdict::DropNoNextHop.into();
        };
        own_mac = interface.mac;
    }
    // What the backend itself says comes from the service.
    let speaker = if ip.source == quote.ip.destination {
        service.0
    } else {
        ip.source
    };
    let outer = (speaker, client.0);
    let done = translate::<I, F>(frame, link, ip, quote, [client, service], outer);
    leave(frame, link, done, own_mac, way.mac, way.tags, way.ingress)
}

#[inline(always)]
fn leave<F: Frame>(
    frame: &mut F,
    link: &Link,
    done: Option<()>,
    source: [u8; 6],
    destination: [u8; 6],
    tags: Tags,
    egress: u32,
) -> Outcome {
    if done.is_none() {
        return Verdict::DropMalformed.into();
    }
    let addressed = set_macs(frame, source, destination);
    if addressed.is_none() || vlan::retag(frame, link, tags).is_none() {
        return Verdict::DropNoRoom.into();
    }
    Outcome::emit(Verdict::SteeredError, egress)
}

/// Gives the quoted packet the sequence number that its backend sent.
#[inline(always)]
fn lower_quoted_sequence<F: Frame>(
    frame: &mut F,
    ip: &IpInfo,
    quote: &Quote,
    shift: Shift,
) -> Option<()> {
    let start: &mut TransportStart = frame.header(quote.ip.payload)?;
    let old = Ports {
        source: start.length,
        destination: start.udp_checksum,
    };
    let number = u32::from_be(old.word()).wrapping_sub(shift.value());
    let new = Ports::of_word(number.to_be());
    start.length = new.source;
    start.udp_checksum = new.destination;
    let delta = Sum::default().add32(!old.word()).add32(new.word());
    let icmp: &mut Icmp = frame.header(ip.payload)?;
    delta.update(&mut icmp.checksum);
    Some(())
}

/// Gives the quoted packet other ends, and the error itself other addresses.
#[inline(always)]
fn translate<I: Ip, F: Frame>(
    frame: &mut F,
    link: &Link,
    ip: &IpInfo,
    quote: &Quote,
    [source, destination]: [End; 2],
    outer: (crate::address::Address, crate::address::Address),
) -> Option<()> {
    // What changes the sum of the quoted addresses changes the checksum over them by the same.
    let addresses = Sum::default()
        .remove_address(quote.ip.source)
        .add_address(source.0)
        .remove_address(quote.ip.destination)
        .add_address(destination.0);
    let ports = Sum::default()
        .remove16(quote.ports.source.get())
        .add16(source.1)
        .remove16(quote.ports.destination.get())
        .add16(destination.1);
    let mut delta = ports;
    let start: &mut TransportStart = frame.header(quote.ip.payload)?;
    start.ports.source.set(source.1);
    start.ports.destination.set(destination.1);
    // Of TCP, eight bytes do not reach the checksum; nobody looks at one that is cut off.
    if quote.ip.protocol == Protocol::Udp as u8 {
        let old = start.udp_checksum.get();
        let mut checksum = Word16::new(old);
        ports.merge(addresses).update_udp(&mut checksum);
        start.udp_checksum = checksum;
        delta = delta.remove16(old).add16(checksum.get());
    }
    delta = delta.merge(I::readdress(
        frame,
        quote.header,
        source.0,
        destination.0,
        addresses,
    )?);
    if I::ICMP_HAS_PSEUDO_HEADER {
        delta = delta
            .remove_address(ip.source)
            .add_address(outer.0)
            .remove_address(ip.destination)
            .add_address(outer.1);
    }
    let icmp: &mut Icmp = frame.header(ip.payload)?;
    delta.update(&mut icmp.checksum);
    I::rewrite(frame, link.payload, Some(outer.0), Some(outer.1))
}
