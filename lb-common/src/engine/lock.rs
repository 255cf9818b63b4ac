//! What this host gets to see, where it is locked down: only packets that would go to it come here.

use crate::{
    abi::Protocol,
    address::Address,
    engine::packet::Link,
    firewall::{
        self, Control, Key,
        lock::{TRUSTED, bit_of_port},
    },
    frame::{Frame, Header},
    headers::{Icmp, Tcp, Udp, ethertype, tcp_flags},
    ip::{Ip, IpInfo, V4, V6},
    tables::Tables,
    trace::Decision,
    verdict::{Event, Verdict},
};

const IGMP: u8 = 2;
const VRRP: u8 = 112;

/// What a packet is, as far as it matters here.
struct Asked {
    /// Whether anybody may send it.
    may_pass: bool,
    /// Who sends it; nobody in what is not understood.
    source: Option<Address>,
    /// For [`Decision::LockedDown`].
    about: u32,
}

const UNKNOWN: Asked = Asked {
    may_pass: false,
    source: None,
    about: 0,
};

/// Lets a packet pass to the host, or says that it may not.
#[inline(always)]
pub(super) fn guard<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Result<(), Verdict> {
    let control = Control(tables.firewall_word(firewall::CONTROL));
    if !control.is_locked() {
        return Ok(());
    }
    let asked = match Link::parse(frame) {
        None => UNKNOWN,
        Some(link) => match link.ethertype {
            ethertype::IPV4 => ask::<V4, F, T>(frame, tables, &link),
            ethertype::IPV6 => ask::<V6, F, T>(frame, tables, &link),
            // Here IP may follow, which nobody looks into.
            ethertype::VLAN
            | ethertype::SERVICE_VLAN
            | ethertype::MPLS
            | ethertype::MPLS_MULTICAST
            | ethertype::PPPOE_DISCOVERY
            | ethertype::PPPOE_SESSION => UNKNOWN,
            // What switches and links say to each other.
            _ => return Ok(()),
        },
    };
    if asked.may_pass {
        return Ok(());
    }
    if let Some(source) = asked.source {
        let entry = tables.firewall_entry(&Key::of(control.generation(), TRUSTED, source));
        if entry.is_there() {
            tables.note(Decision::Trusted, entry.length());
            return Ok(());
        }
    }
    tables.note(Decision::LockedDown, asked.about);
    if control.is_dry_run() {
        tables.note(Decision::DryRun, 0);
        tables.count_event(Event::FirewallWouldDrop);
        return Ok(());
    }
    Err(Verdict::DropLockedDown)
}

#[inline(always)]
fn ask<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, link: &Link) -> Asked {
    let Some(ip) = I::parse(frame, link.payload) else {
        return UNKNOWN;
    };
    let about = |port: u16| u32::from(ip.protocol) << 16 | u32::from(port);
    let (may_pass, about) = if ip.is_later_fragment {
        // Nothing comes of it without the first one.
        (true, 0)
    } else if ip.protocol == Protocol::Tcp as u8 {
        let header: Option<&Tcp> = header(frame, link, &ip);
        header.map_or((false, about(0)), |tcp| {
            let begins = tcp.flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
            let port = u16::from_be(tcp.ports.destination.get());
            (!begins || is_open(tables, false, port), about(port))
        })
    } else if ip.protocol == Protocol::Udp as u8 {
        let header: Option<&Udp> = header(frame, link, &ip);
        header.map_or((false, about(0)), |udp| {
            let port = u16::from_be(udp.ports.destination.get());
            (is_open(tables, true, port), about(port))
        })
    } else if ip.protocol == I::ICMP {
        let header: Option<&Icmp> = header(frame, link, &ip);
        header.map_or((false, about(0)), |icmp| {
            let kind = icmp.kind;
            (is_essential::<I>(kind), about(u16::from(kind)))
        })
    } else {
        let is_group = match ip.protocol {
            IGMP => is_v4::<I>(),
            // To all routers, and to nobody in particular: a martian as a destination is a group.
            VRRP => ip.destination.is_martian(),
            _ => false,
        };
        (is_group, about(0))
    };
    Asked {
        may_pass,
        source: Some(ip.source),
        about,
    }
}

#[inline(always)]
const fn is_v4<I: Ip>() -> bool {
    I::ICMP == V4::ICMP
}

/// Whether a control message is one that IP does not work without: echoes and errors, and with IPv6
/// neighbours, routers and groups. Redirects are none.
#[inline(always)]
fn is_essential<I: Ip>(kind: u8) -> bool {
    if is_v4::<I>() {
        matches!(kind, 0 | 3 | 8 | 11 | 12)
    } else {
        matches!(kind, 1..=4 | 128..=136 | 143)
    }
}

/// The header above IP, if it is all in the packet.
#[inline(always)]
fn header<'f, F: Frame, H>(frame: &'f mut F, link: &Link, ip: &IpInfo) -> Option<&'f H>
where
    H: Header,
{
    let is_whole = ip.payload - link.payload + size_of::<H>() <= ip.length as usize;
    let header: &mut H = frame.header(ip.payload)?;
    is_whole.then_some(header)
}

/// Whether anybody may begin to talk to a port in host order.
#[inline(always)]
fn is_open<T: Tables>(tables: &T, is_udp: bool, port: u16) -> bool {
    let bit = bit_of_port(is_udp, port);
    tables.firewall_word(bit.word) & bit.mask != 0
}
