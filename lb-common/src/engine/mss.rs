//! Lowers the maximum segment size that a SYN or SYN-ACK announces (RFC 9293, section 3.7.1).

use crate::{
    checksum::Sum,
    engine::packet::Packet,
    frame::Frame,
    headers::{Tcp, TcpMss, TcpOption, tcp_flags},
};

mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NOTHING: u8 = 1;
    pub(super) const MSS: u8 = 2;
}

/// Options that are looked at. MSS is the first one in practice.
const OPTIONS: usize = 6;

/// The size that a packet announces; 0 if it announces none.
#[inline(always)]
pub(super) fn announced<F: Frame>(frame: &mut F, packet: &Packet) -> u16 {
    find(frame, packet).map_or(0, |(_, option)| option.size.get())
}

/// Makes the announced size at most `most`. A packet that announces none, or has malformed options,
/// stays as it is.
#[inline(always)]
pub(super) fn clamp<F: Frame>(frame: &mut F, packet: &Packet, most: u16) -> Option<()> {
    let (at, old) = find(frame, packet)?;
    if old.size.get() <= most {
        return None;
    }
    let value: &mut TcpMss = frame.header(packet.ip.payload + at)?;
    value.size = most.into();
    // An option may begin at an odd offset, where a word is half in one 16-bit word of the sum and
    // half in the next: there, both bytes count for the other half.
    let (mut before, mut after) = (old.size.get().to_be(), most.to_be());
    if at & 1 == 1 {
        before = before.swap_bytes();
        after = after.swap_bytes();
    }
    let delta = Sum::default().remove16(before).add16(after);
    let header: &mut Tcp = frame.header(packet.ip.payload)?;
    delta.update(&mut header.checksum);
    Some(())
}

/// Where the option stands in the TCP header of a SYN or SYN-ACK, and what it says.
#[inline(always)]
fn find<F: Frame>(frame: &mut F, packet: &Packet) -> Option<(usize, TcpMss)> {
    let start = packet.ip.payload;
    if packet.is_later_fragment {
        return None;
    }
    let header: &mut Tcp = frame.header(start)?;
    if header.flags & tcp_flags::SYN == 0 {
        return None;
    }
    let length = ((header.data_offset >> 4) as usize) << 2;
    let mut at = size_of::<Tcp>();
    for _ in 0..OPTIONS {
        if at + size_of::<TcpMss>() > length {
            return None;
        }
        let option = *frame.header::<TcpOption>(start + at)?;
        match option.kind {
            kind::END => return None,
            kind::NOTHING => at += 1,
            kind::MSS => {
                let option = *frame.header::<TcpMss>(start + at)?;
                let is_whole = usize::from(option.length) == size_of::<TcpMss>();
                return is_whole.then_some((at, option));
            }
            _ => at += usize::from(option.length.max(2)),
        }
        at = frame.forget(at) & 0x3f;
    }
    None
}
