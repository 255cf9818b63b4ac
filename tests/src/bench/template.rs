//! Frames for the generator, with correct checksums.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use etherparse::{PacketBuilder, TcpHeader};
use lb_common::{
    headers::Mac,
    lab::{Plan, TEMPLATE},
};

/// What a generated TCP segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Begins a connection.
    Syn,
    /// Acknowledges, with that number.
    Ack(u32),
    /// Answers a SYN.
    SynAck,
}

/// An Ethernet frame with a TCP segment, padded to the length that the generator writes.
pub fn tcp_frame(
    macs: (Mac, Mac),
    from: SocketAddr,
    to: SocketAddr,
    segment: Segment,
) -> Result<Vec<u8>> {
    let mut tcp = TcpHeader::new(from.port(), to.port(), 1000, 65535);
    match segment {
        Segment::Syn => tcp.syn = true,
        Segment::SynAck => {
            (tcp.syn, tcp.ack) = (true, true);
            (tcp.sequence_number, tcp.acknowledgment_number) = (5000, 1001);
        }
        Segment::Ack(number) => (tcp.ack, tcp.acknowledgment_number) = (true, number),
    }
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
    let mut frame = Vec::with_capacity(TEMPLATE);
    builder.tcp_header(tcp).write(&mut frame, &[])?;
    frame.resize(if from.is_ipv4() { 64 } else { TEMPLATE }, 0);
    Ok(frame)
}

/// The plan that sends this frame in so many flows, a power of two, to services by this mask.
#[must_use]
pub fn plan(frame: &[u8], flows: u64, is_v6: bool, service_mask: u16) -> Plan {
    let mut template = [0; TEMPLATE];
    let length = frame.len().min(TEMPLATE);
    template[..length].copy_from_slice(&frame[..length]);
    Plan {
        template,
        flow_mask: flows - 1,
        is_v6: u32::from(is_v6),
        calls_target: 0,
        service_mask: u32::from(service_mask),
        length: frame.len() as u32,
    }
}
