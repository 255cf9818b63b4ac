//! Changes addresses and ports, and keeps every checksum right.

use crate::{
    address::Address,
    checksum::Sum,
    engine::packet::Packet,
    frame::Frame,
    headers::{Ethernet, Mac, Tcp, Udp},
    ip::{End, Ip},
};

/// Replaces one end of a packet and takes 1 from its hop limit; the port is in network order.
/// `None` when the TCP or UDP header is truncated; the frame is untouched then.
#[inline(always)]
pub(super) fn replace_end<I: Ip, F: Frame>(
    frame: &mut F,
    packet: &Packet,
    end: End,
    address: Address,
    port: u16,
) -> Option<()> {
    let (old_address, old_port) = match end {
        End::Source => (packet.ip.source, packet.ports.source.get()),
        End::Destination => (packet.ip.destination, packet.ports.destination.get()),
    };
    let delta = Sum::default()
        .remove_address(old_address)
        .add_address(address)
        .remove16(old_port)
        .add16(port);
    let ports = if packet.is_tcp() {
        let tcp: &mut Tcp = frame.header(packet.ip.payload)?;
        delta.update(&mut tcp.checksum);
        &mut tcp.ports
    } else {
        let udp: &mut Udp = frame.header(packet.ip.payload)?;
        // 0 is "no checksum" and stays; a checksum that comes out as 0 is written as its other
        // representation (RFC 768).
        if udp.checksum.get() != 0 {
            delta.update(&mut udp.checksum);
            if udp.checksum.get() == 0 {
                udp.checksum.set(0xffff);
            }
        }
        &mut udp.ports
    };
    match end {
        End::Source => ports.source.set(port),
        End::Destination => ports.destination.set(port),
    }
    I::rewrite(frame, packet.link.payload, end, address)
}

/// Sets both MACs.
#[inline(always)]
pub(super) fn set_macs<F: Frame>(frame: &mut F, source: Mac, destination: Mac) -> Option<()> {
    let ethernet: &mut Ethernet = frame.header(0)?;
    ethernet.source = source;
    ethernet.destination = destination;
    Some(())
}
