//! What is neither TCP nor UDP, and fragments.

use crate::{
    abi::Protocol,
    engine::{Outcome, fragments, packet::Link, refuse_if_service_address},
    frame::Frame,
    ip::Ip,
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
    Verdict::PassNotOurs.into()
}
