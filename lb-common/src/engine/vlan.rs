//! Adds, changes and removes an IEEE 802.1Q tag.

use crate::{
    engine::packet::Link,
    frame::Frame,
    headers::{Ethernet, Vlan, ethertype},
};

const TAG: i32 = size_of::<Vlan>() as i32;

/// Gives the frame the tag `tci`, or none if it is 0. Offsets of anything behind the Ethernet
/// header are void afterwards. `None` when there is no room.
#[inline(always)]
pub(super) fn retag<F: Frame>(frame: &mut F, link: &Link, tci: u16) -> Option<()> {
    if link.tci == tci && link.tagged == (tci != 0) {
        return Some(());
    }
    if link.tagged && tci != 0 {
        frame.header::<Vlan>(size_of::<Ethernet>())?.tci = tci.into();
        return Some(());
    }
    let mut ethernet = *frame.header::<Ethernet>(0)?;
    if !frame.move_head(if link.tagged { TAG } else { -TAG }) {
        return None;
    }
    if link.tagged {
        ethernet.ethertype = link.ethertype.into();
    } else {
        ethernet.ethertype = ethertype::VLAN.into();
        *frame.header::<Vlan>(size_of::<Ethernet>())? = Vlan {
            tci: tci.into(),
            ethertype: link.ethertype.into(),
        };
    }
    *frame.header::<Ethernet>(0)? = ethernet;
    Some(())
}
