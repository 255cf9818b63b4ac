//! Adds, changes and removes VLAN tags.

use crate::{
    engine::packet::Link,
    frame::Frame,
    headers::{Ethernet, Mac, Vlan, ethertype},
    tags::Tags,
};

const FIRST: usize = size_of::<Ethernet>();
const TAG: usize = size_of::<Vlan>();

/// Gives the frame those tags. Offsets of anything behind the Ethernet header are void afterwards.
/// `None` when there is no room.
#[inline(always)]
pub(super) fn retag<F: Frame>(frame: &mut F, link: &Link, tags: Tags) -> Option<()> {
    if link.tags == tags {
        return Some(());
    }
    let ethernet = *frame.header::<Ethernet>(0)?;
    let delta = (link.tags.count() as i32 - tags.count() as i32) * TAG as i32;
    if delta != 0 && !frame.move_head(delta) {
        return None;
    }
    write(
        frame,
        ethernet.destination,
        ethernet.source,
        tags,
        link.ethertype,
    )
}

/// Writes an Ethernet header and tags at the beginning of a frame.
#[inline(always)]
pub(super) fn write<F: Frame>(
    frame: &mut F,
    destination: Mac,
    source: Mac,
    tags: Tags,
    payload: u16,
) -> Option<()> {
    let first = if tags.is_service() {
        ethertype::SERVICE_VLAN
    } else {
        ethertype::VLAN
    };
    let count = tags.count();
    *frame.header::<Ethernet>(0)? = Ethernet {
        destination,
        source,
        ethertype: if count == 0 { payload } else { first }.into(),
    };
    if count == 0 {
        return Some(());
    }
    let is_double = count == 2;
    let tci = if is_double {
        tags.outer()
    } else {
        tags.inner()
    };
    *frame.header::<Vlan>(FIRST)? = Vlan {
        tci: tci.into(),
        ethertype: if is_double { ethertype::VLAN } else { payload }.into(),
    };
    if is_double {
        *frame.header::<Vlan>(FIRST + TAG)? = Vlan {
            tci: tags.inner().into(),
            ethertype: payload.into(),
        };
    }
    Some(())
}
