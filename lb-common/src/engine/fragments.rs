//! Fragments: the first one has the ports, and the others follow it.
//!
//! What the first says is kept for [`LIFETIME_SECONDS`] in a table of bounded size, in which the
//! packets that were seen least recently make room. Fragments that overtake the first one are
//! dropped; the sender of the packet sends it again.

use crate::{
    abi::{Fragment, FragmentKey, Ticks, features},
    engine::{Outcome, filter_has, refuse_if_service_address},
    filter::Role,
    frame::Frame,
    headers::Ports,
    ip::IpInfo,
    tables::Tables,
    trace::Decision,
    verdict::Verdict,
};

/// Seconds for which fragments follow their first one (RFC 791 and Linux have 15 to 30).
const LIFETIME_SECONDS: u32 = 30;

/// Seconds for which no other packet may have the same identification. Busy senders use theirs again
/// after some seconds, with other ports.
const YOUNG_SECONDS: u32 = 1;

/// Finds the ports of a fragment.
#[inline(always)]
pub(super) fn track<F: Frame, T: Tables>(frame: &mut F, tables: &T, ip: &IpInfo) -> Outcome {
    const LIFETIME: u32 = Ticks::from_seconds(LIFETIME_SECONDS).0;
    const YOUNG: u32 = Ticks::from_seconds(YOUNG_SECONDS).0;
    let key = FragmentKey {
        source: ip.source,
        destination: ip.destination,
        identification: ip.identification,
        protocol: u32::from(ip.protocol),
    };
    let now = tables.now();
    let known = tables.fragment(&key);
    let is_known = now.0 <= known.expires;
    let known_until = known.expires;
    let known = ports(&known).word();
    if ip.is_later_fragment && is_known {
        tables.note(Decision::Fragment, known);
        return Outcome::fragment(known, true);
    }
    if ip.is_later_fragment {
        tables.note(Decision::NoFirstFragment, 0);
        return refuse_if_service_address(tables, &ip.destination, Verdict::DropFragment);
    }
    let Some(first) = frame.header::<Ports>(ip.payload).map(|ports| *ports) else {
        return refuse_if_service_address(tables, &ip.destination, Verdict::DropMalformed);
    };
    if !is_ours(tables, ip, first) {
        return Verdict::PassNotOurs.into();
    }
    let is_young = now.since(Ticks(known_until.wrapping_sub(LIFETIME))) <= YOUNG;
    if is_known && is_young && known != first.word() {
        return Verdict::DropFragmentMismatch.into();
    }
    let value = Fragment {
        source_port: first.source.get(),
        destination_port: first.destination.get(),
        expires: now.0.wrapping_add(LIFETIME),
    };
    tables.set_fragment(&key, &value);
    tables.note(Decision::Fragment, first.word());
    Outcome::fragment(first.word(), false)
}

#[inline(always)]
fn ports(fragment: &Fragment) -> Ports {
    Ports {
        source: fragment.source_port.into(),
        destination: fragment.destination_port.into(),
    }
}

/// Whether a packet may be for a service, or a reply of a backend.
#[inline(always)]
fn is_ours<T: Tables>(tables: &T, ip: &IpInfo, ports: Ports) -> bool {
    let (source, destination) = (ports.source.get(), ports.destination.get());
    filter_has(
        tables,
        Role::Service,
        ip.destination,
        destination,
        ip.protocol,
    ) || (tables.has(features::NAT | features::FULL_NAT)
        && filter_has(tables, Role::Backend, ip.source, source, ip.protocol))
}
