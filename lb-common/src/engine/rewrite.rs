//! Changes addresses and ports, and keeps every checksum right.

use crate::{
    address::Address,
    checksum::Sum,
    engine::packet::Packet,
    frame::Frame,
    headers::{Ethernet, Mac, Tcp, Udp},
    ip::Ip,
};

/// An address and a port in network order.
pub(super) type End = (Address, u16);

/// Replaces one or both ends of a packet and takes 1 from its hop limit. `None` when the TCP or
/// UDP header is truncated; the frame is untouched then.
#[inline(always)]
pub(super) fn replace_ends<I: Ip, F: Frame>(
    frame: &mut F,
    packet: &Packet,
    source: Option<End>,
    destination: Option<End>,
) -> Option<()> {
    let (new_source, new_destination) = (source.map(|end| end.0), destination.map(|end| end.0));
    if !packet.is_later_fragment {
        let mut delta = Sum::default();
        if let Some((address, port)) = source {
            delta = delta
                .remove_address(packet.ip.source)
                .add_address(address)
                .remove16(packet.ports.source.get())
                .add16(port);
        }
        if let Some((address, port)) = destination {
            delta = delta
                .remove_address(packet.ip.destination)
                .add_address(address)
                .remove16(packet.ports.destination.get())
                .add16(port);
        }
        let ports = if packet.is_tcp() {
            let tcp: &mut Tcp = frame.header(packet.ip.payload)?;
            delta.update(&mut tcp.checksum);
            &mut tcp.ports
        } else {
            let udp: &mut Udp = frame.header(packet.ip.payload)?;
            delta.update_udp(&mut udp.checksum);
            &mut udp.ports
        };
        if let Some((_, port)) = source {
            ports.source.set(port);
        }
        if let Some((_, port)) = destination {
            ports.destination.set(port);
        }
    }
    I::rewrite(frame, packet.link.payload, new_source, new_destination)
}

/// Sets both MACs.
#[inline(always)]
pub(super) fn set_macs<F: Frame>(frame: &mut F, source: Mac, destination: Mac) -> Option<()> {
    let ethernet: &mut Ethernet = frame.header(0)?;
    ethernet.source = source;
    ethernet.destination = destination;
    Some(())
}
