//! Packets around packets: tunnels, and errors that quote.

use std::net::{IpAddr, SocketAddr};

use crate::{Packet, Transport, network_offset};

/// UDP port of generic UDP encapsulation.
pub const GUE_PORT: u16 = 6080;

/// Takes the packet out of an IP-in-IP packet or out of a generic UDP encapsulation, and gives it
/// the same MACs without a tag. `None` if the frame holds none.
#[must_use]
pub fn decapsulate(frame: &[u8]) -> Option<Vec<u8>> {
    let network = network_offset(frame);
    let ip = frame.get(network..)?;
    let (protocol, header, end) = match ip.first()? >> 4 {
        4 => (
            *ip.get(9)?,
            usize::from(ip[0] & 15) * 4,
            usize::from(u16::from_be_bytes([ip[2], ip[3]])),
        ),
        6 => (
            *ip.get(6)?,
            40,
            40 + usize::from(u16::from_be_bytes([ip[4], ip[5]])),
        ),
        _ => return None,
    };
    let mut inner = ip.get(header..end)?;
    if protocol == 17 {
        if inner.get(2..4)? != GUE_PORT.to_be_bytes() {
            return None;
        }
        inner = &inner[8..];
    } else if protocol != 4 && protocol != 41 {
        return None;
    }
    let ethertype: [u8; 2] = match (inner.first()? >> 4, protocol) {
        (4, 4 | 17) => [0x08, 0x00],
        (6, 41 | 17) => [0x86, 0xdd],
        _ => return None,
    };
    Some([&frame[..12], &ethertype, inner].concat())
}

/// Puts a packet into another one with those ends, by IP in IP.
#[must_use]
pub fn encapsulate(frame: &[u8], source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let inner = &frame[network_offset(frame)..];
    let number = if inner.first().is_some_and(|byte| byte >> 4 == 4) {
        4
    } else {
        41
    };
    // A UDP packet whose header is taken out again.
    let ends: [SocketAddr; 2] = [(source, 0).into(), (destination, 0).into()];
    let mut packet = Packet::udp(ends[0], ends[1]).payload(inner);
    packet.source_mac.copy_from_slice(&frame[6..12]);
    packet.destination_mac.copy_from_slice(&frame[..6]);
    let at = packet.transport_offset();
    let mut bytes = packet.bytes();
    bytes.drain(at..at + 8);
    let ip = &mut bytes[14..at];
    if source.is_ipv4() {
        let length = (20 + inner.len()) as u16;
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        ip[9] = number;
        ip[10..12].fill(0);
        let sum = etherparse::checksum::Sum16BitWords::new().add_slice(ip);
        ip[10..12].copy_from_slice(&sum.ones_complement().to_ne_bytes());
    } else {
        ip[4..6].copy_from_slice(&(inner.len() as u16).to_be_bytes());
        ip[6] = number;
    }
    bytes
}

/// An ICMP error about the packet in a frame, of which it quotes so many bytes.
#[must_use]
pub fn error_about(
    frame: &[u8],
    from: IpAddr,
    to: IpAddr,
    (kind, code): (u8, u8),
    quoted: usize,
) -> Packet {
    let ip = &frame[network_offset(frame).min(frame.len())..];
    let quote = &ip[..quoted.min(ip.len())];
    Packet::new(
        (from, 0).into(),
        (to, 0).into(),
        Transport::Icmp { kind, code },
    )
    .payload(quote)
}

/// What an error quotes at least: the IP header and eight bytes.
#[must_use]
pub fn least_quote(is_v4: bool) -> usize {
    if is_v4 { 28 } else { 48 }
}

/// The packet that an ICMP error quotes, with the error's MACs; `None` if the frame is no error.
#[must_use]
pub fn quoted(frame: &[u8]) -> Option<Vec<u8>> {
    let network = network_offset(frame);
    let ip = frame.get(network..)?;
    let (at, end, ethertype) = match ip.first()? >> 4 {
        4 if *ip.get(9)? == 1 => (
            usize::from(ip[0] & 15) * 4,
            usize::from(u16::from_be_bytes([ip[2], ip[3]])),
            [0x08, 0x00],
        ),
        6 if *ip.get(6)? == 58 => (
            40,
            40 + usize::from(u16::from_be_bytes([ip[4], ip[5]])),
            [0x86, 0xdd],
        ),
        _ => return None,
    };
    let message = ip.get(at..end)?;
    let is_error = match ethertype {
        [0x08, _] => matches!(message.first()?, 3 | 11 | 12),
        _ => matches!(message.first()?, 1..=4),
    };
    let quote = message.get(8..).filter(|_| is_error)?;
    Some([&frame[..12], &ethertype, quote].concat())
}
