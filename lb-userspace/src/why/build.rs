//! Makes up a packet: what a client would send.

use std::net::IpAddr;

use lb_common::{
    abi::{Protocol, network_port},
    address::Address,
    checksum::Sum,
    headers::{Ethernet, Mac, Ports, Tcp, Udp, Word16},
    ip::{Ip, V4, V6},
};
use zerocopy::IntoBytes as _;

use super::{PacketAsked, query::Flags};

/// A MAC address that nobody has.
const SENDER: Mac = [2, 0, 0, 0, 0, 1];
/// Data of a datagram.
const DATA: &[u8] = b"lb why";

/// The packet as a frame to `receiver`.
///
/// # Errors
/// With a sentence, when the addresses are of two families.
pub fn build(asked: &PacketAsked, receiver: Mac) -> Result<Vec<u8>, String> {
    match (asked.from.ip().to_canonical(), asked.to.ip().to_canonical()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => Ok(frame::<V4>(asked, receiver)),
        (IpAddr::V6(_), IpAddr::V6(_)) => Ok(frame::<V6>(asked, receiver)),
        _ => Err(format!(
            "{} and {} are of two families: a packet has two IPv4 or two IPv6 addresses",
            asked.from, asked.to
        )),
    }
}

fn frame<I: Ip>(asked: &PacketAsked, receiver: Mac) -> Vec<u8> {
    let (source, destination): (Address, Address) = (asked.from.ip().into(), asked.to.ip().into());
    let ports = Ports {
        source: Word16::new(network_port(asked.from.port())),
        destination: Word16::new(network_port(asked.to.port())),
    };
    let transport = match asked.protocol {
        Protocol::Tcp => tcp(ports, asked.flags, source, destination),
        Protocol::Udp => udp(ports, source, destination),
    };
    let ethernet = Ethernet {
        destination: receiver,
        source: SENDER,
        ethertype: I::ETHERTYPE.into(),
    };
    let ip = I::header(
        source,
        destination,
        asked.protocol as u8,
        transport.len() as u16,
    );
    let mut frame = ethernet.as_bytes().to_vec();
    frame.extend_from_slice(ip.as_bytes());
    frame.extend_from_slice(&transport);
    frame
}

fn tcp(ports: Ports, flags: Flags, source: Address, destination: Address) -> Vec<u8> {
    let mut header = Tcp {
        ports,
        sequence: 1.into(),
        data_offset: 5 << 4,
        flags: flags.0,
        window: 64_240.into(),
        ..Tcp::default()
    };
    if flags.0 & lb_common::headers::tcp_flags::ACK != 0 {
        header.acknowledgement = 1.into();
    }
    let bytes = header.as_bytes();
    header.checksum = Word16::new(checksum(bytes, Protocol::Tcp, source, destination));
    header.as_bytes().to_vec()
}

fn udp(ports: Ports, source: Address, destination: Address) -> Vec<u8> {
    let mut header = Udp {
        ports,
        length: ((size_of::<Udp>() + DATA.len()) as u16).into(),
        checksum: Word16::ZERO,
    };
    let sum = checksum(
        &[header.as_bytes(), DATA].concat(),
        Protocol::Udp,
        source,
        destination,
    );
    header.checksum = Word16::new(if sum == 0 { u16::MAX } else { sum });
    [header.as_bytes(), DATA].concat()
}

fn checksum(bytes: &[u8], protocol: Protocol, source: Address, destination: Address) -> u16 {
    let pseudo = Sum::default()
        .add_address(source)
        .add_address(destination)
        .add16(u16::from(protocol as u8).to_be())
        .add16((bytes.len() as u16).to_be());
    let words = bytes.chunks(2).map(|pair| {
        let second = pair.get(1).copied().unwrap_or(0);
        u16::from_ne_bytes([pair[0], second])
    });
    words.fold(pseudo, Sum::add16).checksum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::why::summary;

    fn asked(from: &str, to: &str, protocol: Protocol) -> PacketAsked {
        PacketAsked {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            protocol,
            flags: Flags::default(),
        }
    }

    #[test]
    fn what_is_built_is_what_was_asked() {
        for (from, to) in [
            ("198.51.100.7:40000", "203.0.113.10:80"),
            ("[2001:db8::7]:40000", "[2001:db8::10]:80"),
        ] {
            for (protocol, word, flags) in
                [(Protocol::Tcp, "tcp", " [syn]"), (Protocol::Udp, "udp", "")]
            {
                let frame = build(&asked(from, to, protocol), [2; 6]).unwrap();
                let said = summary(&frame);
                assert_eq!(said, format!("{word} {from} > {to}{flags}, TTL 64"));
            }
        }
    }

    #[test]
    fn checksums_are_right() {
        // What is added up with its own checksum is all ones.
        let (source, destination) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let (source, destination) = (Address::from_v4(source), Address::from_v4(destination));
        let packet = udp(Ports::default(), source, destination);
        assert_eq!(checksum(&packet, Protocol::Udp, source, destination), 0);
        let packet = tcp(Ports::default(), Flags(2), source, destination);
        assert_eq!(checksum(&packet, Protocol::Tcp, source, destination), 0);
    }

    #[test]
    fn two_families_are_refused() {
        let asked = asked("10.0.0.1:1", "[::1]:2", Protocol::Tcp);
        assert!(build(&asked, [2; 6]).unwrap_err().contains("two families"));
    }
}
