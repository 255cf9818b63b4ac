//! Generic UDP encapsulation (draft-ietf-intarea-gue).

use super::{Inside, verdict::Verdict};
use crate::{
    abi::GUE_PORT,
    frame::Frame,
    headers::{Gue, Udp},
    ip::{Ip as _, V4, V6},
};

/// A control message, in the first byte.
const CONTROL: u8 = 0x20;
/// Words of four bytes behind the first four, in the first byte.
const LENGTH: u8 = 0x1f;

/// Reads the UDP header at `at` and what follows; `end` is that of the packet.
#[inline(always)]
pub(super) fn read<F: Frame>(frame: &mut F, at: usize, end: usize) -> Result<Inside, Verdict> {
    const UDP: usize = size_of::<Udp>();
    let udp = frame.header::<Udp>(at).ok_or(Verdict::PassMalformed)?;
    let (port, length) = (udp.ports.destination.get(), usize::from(udp.length.get()));
    if at + UDP > end {
        return Err(Verdict::PassMalformed);
    }
    if port != GUE_PORT.to_be() {
        return Err(Verdict::PassNotTunnelled);
    }
    if length < UDP + size_of::<Gue>() || at + length > end {
        return Err(Verdict::PassMalformed);
    }
    let (at, end) = (at + UDP, at + length);
    let gue = frame.header::<Gue>(at).ok_or(Verdict::PassMalformed)?;
    let (first, protocol) = (gue.first, gue.protocol);
    let (start, is_v4) = match first >> 6 {
        0 if first & CONTROL != 0 => return Err(Verdict::PassControl),
        0 => {
            let options = usize::from(first & LENGTH) << 2;
            let is_v4 = match protocol {
                V4::IN_IP => true,
                V6::IN_IP => false,
                _ => return Err(Verdict::PassUnknownVariant),
            };
            (at + size_of::<Gue>() + options, is_v4)
        }
        // No header at all: these are the first bits of IP's version.
        1 if first >> 4 == 4 => (at, true),
        1 if first >> 4 == 6 => (at, false),
        _ => return Err(Verdict::PassUnknownVariant),
    };
    if start > end {
        return Err(Verdict::PassMalformed);
    }
    Ok(Inside { start, end, is_v4 })
}
