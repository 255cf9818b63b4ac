//! Frames for the generator, with correct checksums.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use etherparse::{PacketBuilder, TcpHeader};
use lb_common::{
    headers::Mac,
    lab::{Plan, TEMPLATE},
};

/// What a generated TCP segment says, or a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Begins a connection.
    Syn,
    /// Acknowledges, with that number.
    Ack(u32),
    /// Answers a SYN.
    SynAck,
    /// UDP, with this payload.
    Datagram(&'static [u8]),
}

impl Segment {
    /// Whether it is UDP.
    #[must_use]
    pub const fn is_udp(self) -> bool {
        matches!(self, Self::Datagram(_))
    }
}

/// An Ethernet frame with a segment, padded to the length that the generator writes.
pub fn frame(
    macs: (Mac, Mac),
    from: SocketAddr,
    to: SocketAddr,
    segment: Segment,
) -> Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2(macs.0, macs.1);
    let builder = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            ethernet.ipv4(from.ip().octets(), to.ip().octets(), 64)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            ethernet.ipv6(from.ip().octets(), to.ip().octets(), 64)
        }
        _ => bail!("{from} and {to} are of different families"),
    };
    let mut tcp = TcpHeader::new(from.port(), to.port(), 1000, 65535);
    let mut frame = Vec::with_capacity(TEMPLATE);
    match segment {
        Segment::Datagram(_) => {}
        Segment::Syn => tcp.syn = true,
        Segment::SynAck => {
            (tcp.syn, tcp.ack) = (true, true);
            (tcp.sequence_number, tcp.acknowledgment_number) = (5000, 1001);
        }
        Segment::Ack(number) => (tcp.ack, tcp.acknowledgment_number) = (true, number),
    }
    match segment {
        Segment::Datagram(payload) => builder
            .udp(from.port(), to.port())
            .write(&mut frame, payload)?,
        Segment::Syn | Segment::SynAck | Segment::Ack(_) => {
            builder.tcp_header(tcp).write(&mut frame, &[])?;
        }
    }
    let length = if from.is_ipv4() { 64 } else { TEMPLATE };
    ensure!(frame.len() <= length, "the payload does not fit");
    frame.resize(length, 0);
    Ok(frame)
}

/// The plan that sends this frame in so many flows, a power of two, to services by this mask.
#[must_use]
pub fn plan(frame: &[u8], flows: u64, service_mask: u16) -> Plan {
    const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
    const UDP: u8 = 17;
    let is_v6 = frame.get(12..14) == Some(&ETHERTYPE_IPV6);
    let is_udp = frame.get(if is_v6 { 20 } else { 23 }) == Some(&UDP);
    let mut template = [0; TEMPLATE];
    let length = frame.len().min(TEMPLATE);
    template[..length].copy_from_slice(&frame[..length]);
    Plan {
        template,
        flow_mask: flows - 1,
        is_v6: u32::from(is_v6),
        is_udp: u32::from(is_udp),
        calls_target: 0,
        service_mask: u32::from(service_mask),
        length: frame.len() as u32,
        grows_behind: 0,
    }
}
