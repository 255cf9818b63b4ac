//! Takes bytes out of a frame between its link headers and a packet.

use crate::{
    engine::packet::Link,
    frame::Frame,
    headers::{Word16, Word32, Word64},
};

/// Bytes of both MACs.
const MACS: usize = 12;
/// Bytes of a tag with its EtherType in front.
const TAG: usize = size_of::<Word32>();

/// Lets the packet at `start` follow the Ethernet header and its tags, whose priorities stay.
/// `None` when the frame cannot be shortened.
#[inline(always)]
pub(super) fn to<F: Frame>(frame: &mut F, link: &Link, start: usize, ethertype: u16) -> Option<()> {
    let by = start - link.payload;
    // From back to front, as a tunnel's header may be shorter than the link's: an IPv4 header has
    // 20 bytes, and Ethernet with two tags 22.
    let type_at = link.payload - size_of::<Word16>();
    frame.header::<Word16>(type_at + by)?.set(ethertype.to_be());
    if link.tags.count() == 2 {
        copy_tag(frame, MACS + TAG, by)?;
    }
    if link.tags.count() >= 1 {
        copy_tag(frame, MACS, by)?;
    }
    let low = frame.header::<Word32>(size_of::<Word64>())?.get();
    frame.header::<Word32>(size_of::<Word64>() + by)?.set(low);
    let high = frame.header::<Word64>(0)?.get();
    frame.header::<Word64>(by)?.set(high);
    if frame.move_head(by as i32) {
        Some(())
    } else {
        None
    }
}

#[inline(always)]
fn copy_tag<F: Frame>(frame: &mut F, at: usize, by: usize) -> Option<()> {
    let tag = frame.header::<Word32>(at)?.get();
    frame.header::<Word32>(at + by)?.set(tag);
    Some(())
}
