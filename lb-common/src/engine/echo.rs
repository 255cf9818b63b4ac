//! Answers an echo request for a service's address (RFC 792, RFC 4443), in place.
//!
//! There is no limit to them: an answer is as large as the question and costs as much as any
//! packet that is steered.

use crate::{
    checksum::Sum,
    engine::{Outcome, packet::Link},
    frame::Frame,
    headers::{Ethernet, Icmp},
    ip::{Ip, IpInfo},
    verdict::Verdict,
};

/// Turns the request into its answer.
#[inline(always)]
pub(super) fn answer<I: Ip, F: Frame>(frame: &mut F, link: &Link, ip: &IpInfo) -> Outcome {
    turn::<I, F>(frame, link, ip).map_or(Verdict::DropMalformed.into(), |()| {
        Outcome::emit(Verdict::AnsweredEcho, frame.ingress())
    })
}

#[inline(always)]
fn turn<I: Ip, F: Frame>(frame: &mut F, link: &Link, ip: &IpInfo) -> Option<()> {
    let icmp: &mut Icmp = frame.header(ip.payload)?;
    let word = |kind| u16::from_ne_bytes([kind, icmp.code]);
    // Addresses that change places in the pseudo header of ICMPv6 change no sum.
    let delta = Sum::default()
        .remove16(word(I::ECHO_REQUEST))
        .add16(word(I::ECHO_REPLY));
    icmp.kind = I::ECHO_REPLY;
    // Of nothing but zeros the checksum is 0xffff, and of anything else that comes out as 0 it may
    // be: the same rule as for UDP, whose checksum is never 0 here.
    delta.update(&mut icmp.checksum);
    if icmp.checksum.get() == 0 {
        icmp.checksum.set(0xffff);
    }
    I::turn(frame, link.payload, ip)?;
    let ethernet: &mut Ethernet = frame.header(0)?;
    (ethernet.source, ethernet.destination) = (ethernet.destination, ethernet.source);
    Some(())
}
