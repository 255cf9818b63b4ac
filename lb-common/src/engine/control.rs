//! What is neither TCP nor UDP, and fragments.

use crate::{
    abi::Protocol,
    engine::{
        Outcome, echo, fragments, has_services, icmp_error, is_addressed_to_us, packet::Link,
        refuse_if_service_address,
    },
    frame::Frame,
    headers::Icmp,
    ip::{Ip, IpInfo},
    tables::Tables,
    verdict::Verdict,
};

/// Handles a frame that the stage `flow` does not understand.
#[inline(always)]
pub(super) fn control<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Outcome {
    let Some(link) = Link::parse(frame) else {
        return Verdict::PassNotOurs.into();
    };
    let Some(ip) = I::parse(frame, link.payload) else {
        return Verdict::PassNotOurs.into();
    };
    if ip.is_fragment && Protocol::from_number(ip.protocol).is_some() {
        return fragments::track(frame, tables, &ip);
    }
    if ip.is_fragment {
        return refuse_if_service_address(tables, &ip.destination, Verdict::DropFragment);
    }
    if ip.protocol == I::ICMP {
        return icmp::<I, F, T>(frame, tables, &link, &ip);
    }
    refuse_if_service_address(tables, &ip.destination, Verdict::PassProtocol)
}

#[inline(always)]
fn icmp<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    link: &Link,
    ip: &IpInfo,
) -> Outcome {
    let is_whole = ip.payload + size_of::<Icmp>() <= link.payload + ip.length as usize;
    let Some(icmp) = frame
        .header::<Icmp>(ip.payload)
        .filter(|_| is_whole)
        .map(|icmp| *icmp)
    else {
        return refuse_if_service_address(tables, &ip.destination, Verdict::DropMalformed);
    };
    if I::is_error(icmp.kind) {
        if !is_addressed_to_us(frame, tables, tables.now()) {
            return Verdict::PassNotOurs.into();
        }
        return icmp_error::steer::<I, F, T>(frame, tables, link, ip);
    }
    if icmp.kind != I::ECHO_REQUEST || !has_services(tables, ip.destination) {
        return refuse_if_service_address(tables, &ip.destination, Verdict::PassProtocol);
    }
    if !is_addressed_to_us(frame, tables, tables.now()) {
        return Verdict::PassOtherHost.into();
    }
    if ip.source.is_martian() {
        return Verdict::DropMartian.into();
    }
    if has_services(tables, ip.source) {
        return Verdict::DropReflected.into();
    }
    echo::answer::<I, F>(frame, link, ip)
}
