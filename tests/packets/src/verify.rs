//! Judging frames.

use std::{fmt, net::IpAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice, checksum::Sum16BitWords};

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// etherparse cannot read it: truncated, or a length lies.
    Unreadable(String),
    /// A checksum is wrong.
    Checksum {
        /// Of what.
        of: &'static str,
        /// What it should be.
        expected: u16,
        /// What it is.
        found: u16,
    },
    /// The UDP length differs from the IP length.
    UdpLength,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(formatter, "unreadable: {why}"),
            Self::Checksum {
                of,
                expected,
                found,
            } => {
                write!(
                    formatter,
                    "checksum of {of}: {found:#06x} instead of {expected:#06x}"
                )
            }
            Self::UdpLength => write!(formatter, "the UDP length differs from the IP length"),
        }
    }
}

/// What a good frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Sender and receiver, if it is IP.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// Source and destination port, if it has some.
    pub ports: Option<(u16, u16)>,
    /// Payload of TCP or UDP; of ICMP what follows its eight bytes.
    pub payload: Vec<u8>,
    /// Bytes after the IP packet.
    pub padding: usize,
    /// Whether a checksum of TCP, UDP or ICMP was there and right.
    pub has_verified_checksum: bool,
}

/// Reads a frame strictly, and computes every checksum in it anew.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn verify(frame: &[u8]) -> Result<Seen, Fault> {
    let sliced =
        SlicedPacket::from_ethernet(frame).map_err(|error| Fault::Unreadable(error.to_string()))?;
    let mut seen = Seen {
        addresses: None,
        ports: None,
        payload: Vec::new(),
        padding: 0,
        has_verified_checksum: false,
    };
    let (addresses, payload) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            compare(
                "the IPv4 header",
                header.calc_header_checksum(),
                header.header_checksum,
            )?;
            let addresses = (
                IpAddr::from(header.source),
                IpAddr::from(header.destination),
            );
            (addresses, ip.payload())
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header().to_header();
            let addresses = (
                IpAddr::from(header.source),
                IpAddr::from(header.destination),
            );
            (addresses, ip.payload())
        }
        Some(NetSlice::Arp(_)) | None => return Ok(seen),
    };
    let end = payload.payload.as_ptr_range().end as usize;
    seen.padding = frame.as_ptr_range().end as usize - end;
    seen.addresses = Some(addresses);
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let expected = match addresses {
                (IpAddr::V4(a), IpAddr::V4(b)) => tcp.calc_checksum_ipv4(a.octets(), b.octets()),
                (IpAddr::V6(a), IpAddr::V6(b)) => tcp.calc_checksum_ipv6(a.octets(), b.octets()),
                _ => return Ok(seen),
            };
            let expected = expected.map_err(|error| Fault::Unreadable(error.to_string()))?;
            compare("TCP", expected, tcp.checksum())?;
            seen.ports = Some((tcp.source_port(), tcp.destination_port()));
            seen.payload = tcp.payload().to_vec();
            seen.has_verified_checksum = true;
        }
        Some(TransportSlice::Udp(udp)) => {
            if usize::from(udp.length()) != payload.payload.len() {
                return Err(Fault::UdpLength);
            }
            seen.ports = Some((udp.source_port(), udp.destination_port()));
            seen.payload = udp.payload().to_vec();
            if udp.checksum() != 0 {
                let header = udp.to_header();
                let expected = match addresses {
                    (IpAddr::V4(a), IpAddr::V4(b)) => {
                        header.calc_checksum_ipv4_raw(a.octets(), b.octets(), udp.payload())
                    }
                    (IpAddr::V6(a), IpAddr::V6(b)) => {
                        header.calc_checksum_ipv6_raw(a.octets(), b.octets(), udp.payload())
                    }
                    _ => return Ok(seen),
                };
                let expected = expected.map_err(|error| Fault::Unreadable(error.to_string()))?;
                compare("UDP", expected, udp.checksum())?;
                seen.has_verified_checksum = true;
            }
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let sum = Sum16BitWords::new()
                .add_slice(icmp.slice())
                .ones_complement();
            compare("ICMP", 0, sum)?;
            seen.payload = icmp.payload().to_vec();
            seen.has_verified_checksum = true;
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            if let (IpAddr::V6(a), IpAddr::V6(b)) = addresses
                && !icmp.is_checksum_valid(a.octets(), b.octets())
            {
                return Err(Fault::Checksum {
                    of: "ICMPv6",
                    expected: 0,
                    found: icmp.checksum(),
                });
            }
            seen.payload = icmp.payload().to_vec();
            seen.has_verified_checksum = true;
        }
        Some(TransportSlice::Igmp(_)) | None => {}
    }
    Ok(seen)
}

/// Compares checksums; +0 and -0 are the same number.
fn compare(of: &'static str, expected: u16, found: u16) -> Result<(), Fault> {
    if expected == found || (expected.is_multiple_of(0xffff) && found.is_multiple_of(0xffff)) {
        return Ok(());
    }
    Err(Fault::Checksum {
        of,
        expected,
        found,
    })
}
