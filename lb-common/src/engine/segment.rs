//! TCP segments that the balancer makes itself, in place of a packet.

use crate::{
    address::Address,
    checksum::Sum,
    engine::packet::Packet,
    frame::Frame,
    headers::{Tcp, TcpMss, Word16},
    ip::Ip,
};

/// Kind and length of the option "maximum segment size".
const MSS_OPTION: (u8, u8) = (2, size_of::<TcpMss>() as u8);

/// Puts a segment without data in the place of a packet, with that segment size announced, if it is
/// not 0. Its offset and checksum are made here, the Ethernet header is left alone.
#[inline(always)]
pub(super) fn put<I: Ip, F: Frame, const MSS: bool>(
    frame: &mut F,
    packet: &Packet,
    source: Address,
    destination: Address,
    mut tcp: Tcp,
    mss: u16,
) -> Option<()> {
    let length = size_of::<Tcp>() + if MSS { size_of::<TcpMss>() } else { 0 };
    tcp.data_offset = ((length / 4) as u8) << 4;
    let mut sum = Sum::default()
        .add_address(source)
        .add_address(destination)
        .add16(u16::from(packet.ip.protocol).to_be())
        .add16((length as u16).to_be())
        .add32(tcp.ports.word())
        .add32(tcp.sequence.get().to_be())
        .add32(tcp.acknowledgement.get().to_be())
        .add16(u16::from_ne_bytes([tcp.data_offset, tcp.flags]))
        .add16(tcp.window.get().to_be());
    if MSS {
        let (kind, size) = MSS_OPTION;
        sum = sum
            .add16(u16::from_ne_bytes([kind, size]))
            .add16(mss.to_be());
    }
    tcp.checksum = Word16::new(sum.checksum());
    let l3 = packet.link.payload;
    let l4 = l3 + I::LENGTH;
    if !frame.set_len(l4 + length) {
        return None;
    }
    *frame.header::<Tcp>(l4)? = tcp;
    if MSS {
        let (kind, length) = MSS_OPTION;
        *frame.header::<TcpMss>(l4 + size_of::<Tcp>())? = TcpMss {
            kind,
            length,
            size: mss.into(),
        };
    }
    *frame.header::<I::Header>(l3)? =
        I::header(source, destination, packet.ip.protocol, length as u16);
    Some(())
}
