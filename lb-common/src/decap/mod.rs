//! Takes packets out of tunnels on app hosts: the other end of `dsr-ipip` and `dsr-gue`.
//!
//! One outer header comes off: IP in IP (RFC 2003, RFC 2473, RFC 4213) or generic UDP encapsulation
//! (draft-ietf-intarea-gue), and only around packets for a VIP of this host, so that tunnels of
//! the host's own go on. What is inside stays as it is, TTL and checksums too, but for the ECN bits,
//! which take over congestion that the outer header tells of.
//!
//! What it does not look at: the outer destination (the frame came here), a UDP checksum of the
//! outer packet (the packet inside has its own, and XDP sees no more than the headers), and what
//! optional fields of GUE say, which are skipped.

pub mod abi;
pub mod ecn;
mod gue;
#[cfg(any(test, feature = "host"))]
pub mod host;
mod strip;
pub mod verdict;

use crate::{
    abi::Protocol,
    address::Address,
    engine::packet::Link,
    frame::Frame,
    headers::ethertype,
    ip::{Ip, V4, V6},
};

pub use verdict::{Disposition, Verdict};

/// What the agent told the program.
pub trait Rules {
    /// The load-time constants.
    fn settings(&self) -> abi::Settings;

    /// Whether packets are taken out for that address.
    fn is_vip(&self, address: Address) -> bool;

    /// Whether tunnels may come from that address; asked only if sources are checked at all.
    fn is_source(&self, address: Address) -> bool;
}

/// The outer headers of a packet.
#[derive(Clone, Copy, Debug)]
struct Outer {
    source: Address,
    ecn: u8,
    inside: Inside,
}

/// Where the packet inside is.
#[derive(Clone, Copy, Debug)]
struct Inside {
    /// Its offset in the frame.
    start: usize,
    /// The end of what the outer headers enclose.
    end: usize,
    is_v4: bool,
}

/// Takes the outer header off a frame, or leaves it as it is.
#[inline(always)]
pub fn process<F: Frame, R: Rules>(frame: &mut F, rules: &R) -> Verdict {
    let Some(link) = Link::parse(frame) else {
        return Verdict::PassNotTunnelled;
    };
    let outer = match link.ethertype {
        ethertype::IPV4 => outer::<V4, _>(frame, link.payload, rules.settings().accepts),
        ethertype::IPV6 => outer::<V6, _>(frame, link.payload, rules.settings().accepts),
        _ => return Verdict::PassNotTunnelled,
    };
    let done = match outer {
        Ok(outer) if outer.inside.is_v4 => take_out::<V4, _, _>(frame, &link, &outer, rules),
        Ok(outer) => take_out::<V6, _, _>(frame, &link, &outer, rules),
        Err(verdict) => Err(verdict),
    };
    match done {
        Ok(()) => Verdict::Decapsulated,
        Err(verdict) => verdict,
    }
}

/// Reads the outer headers, from the IP header at `start` on.
#[inline(always)]
fn outer<I: Ip, F: Frame>(frame: &mut F, start: usize, accepts: u32) -> Result<Outer, Verdict> {
    let ip = I::parse(frame, start).ok_or(Verdict::PassMalformed)?;
    let is_ip = matches!(ip.protocol, V4::IN_IP | V6::IN_IP) && accepts & abi::accepts::IPIP != 0;
    let is_udp = ip.protocol == Protocol::Udp as u8 && accepts & abi::accepts::GUE != 0;
    if !is_ip && !is_udp {
        return Err(Verdict::PassNotTunnelled);
    }
    if ip.is_fragment {
        return Err(Verdict::PassFragment);
    }
    let end = frame.forget(start + usize::from(ip.length));
    let inside = if is_ip {
        Inside {
            start: ip.payload,
            end,
            is_v4: ip.protocol == V4::IN_IP,
        }
    } else {
        gue::read(frame, ip.payload, end)?
    };
    if !I::is_intact(frame, start, ip.payload) {
        return Err(Verdict::PassMalformed);
    }
    Ok(Outer {
        source: ip.source,
        ecn: I::ecn(frame, start).ok_or(Verdict::PassMalformed)?,
        inside: Inside {
            start: frame.forget(inside.start),
            end: frame.forget(inside.end),
            ..inside
        },
    })
}

/// Decides about the packet inside, and takes it out.
#[inline(always)]
fn take_out<I: Ip, F: Frame, R: Rules>(
    frame: &mut F,
    link: &Link,
    outer: &Outer,
    rules: &R,
) -> Result<(), Verdict> {
    let Inside { start, end, .. } = outer.inside;
    let ip = I::parse(frame, start).ok_or(Verdict::PassMalformed)?;
    if start + usize::from(ip.length) > end {
        return Err(Verdict::PassMalformed);
    }
    if !rules.is_vip(ip.destination) {
        return Err(Verdict::PassNotForVip);
    }
    if rules.settings().checks_sources != 0 && !rules.is_source(outer.source) {
        return Err(Verdict::DropSourceNotAllowed);
    }
    let own = I::ecn(frame, start).ok_or(Verdict::PassMalformed)?;
    let arriving = ecn::arriving(own, outer.ecn).ok_or(Verdict::DropCongestion)?;
    if arriving != own {
        I::set_ecn(frame, start, arriving).ok_or(Verdict::PassMalformed)?;
    }
    strip::to(frame, link, start, I::ETHERTYPE).ok_or(Verdict::DropNoRoom)
}
