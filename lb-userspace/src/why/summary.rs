//! A frame, in a line of words.

use std::{fmt::Write as _, net::SocketAddr};

use lb_common::{
    abi::{GUE_PORT, Protocol},
    engine::packet::Link,
    frame::Frame,
    headers::{Ports, Tcp, ethertype},
    host::HostFrame,
    ip::{Ip, IpInfo, V4, V6},
};

use super::query::Flags;

/// Tunnels in tunnels that are followed.
const DEPTH: usize = 3;
/// Protocol number of IPv4 in IP.
const IPV4_IN_IP: u8 = 4;
/// Protocol number of IPv6 in IP.
const IPV6_IN_IP: u8 = 41;

/// What a frame is, in words.
#[must_use]
pub fn summary(frame: &[u8]) -> String {
    let mut frame = HostFrame::new(frame, 0);
    let Some(link) = Link::parse(&mut frame) else {
        return "a frame without a whole Ethernet header".to_owned();
    };
    let mut words = match link.ethertype {
        ethertype::IPV4 => ip::<V4>(&mut frame, link.payload, DEPTH),
        ethertype::IPV6 => ip::<V6>(&mut frame, link.payload, DEPTH),
        ethertype::ARP => "ARP".to_owned(),
        other => format!("EtherType {other:#06x}"),
    };
    let tags = link.payload.saturating_sub(14) / 4;
    if tags > 0 {
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            words,
            ", {tags} VLAN tag{}",
            if tags == 1 { "" } else { "s" }
        );
    }
    words
}

fn ip<I: Ip>(frame: &mut HostFrame, offset: usize, depth: usize) -> String {
    let Some(info) = I::parse(frame, offset) else {
        return "an IP packet that is cut or lies about its length".to_owned();
    };
    let ends = |source: u16, destination: u16| {
        let end = |address, port| SocketAddr::new(std::net::IpAddr::from(address), port);
        format!(
            "{} > {}",
            end(info.source, source),
            end(info.destination, destination)
        )
    };
    let addresses = || {
        let [source, destination] = [info.source, info.destination].map(std::net::IpAddr::from);
        format!("{source} > {destination}")
    };
    let ports = if info.is_later_fragment {
        None
    } else {
        frame.header::<Ports>(info.payload).map(|ports| {
            (
                u16::from_be(ports.source.get()),
                u16::from_be(ports.destination.get()),
            )
        })
    };
    let mut words = match (Protocol::from_number(info.protocol), ports) {
        (Some(Protocol::Udp), Some((source, GUE_PORT))) if depth > 0 => {
            let inner = info.payload + 8;
            return format!(
                "GUE {}, in it {}",
                ends(source, GUE_PORT),
                inside(frame, inner, depth)
            );
        }
        (Some(protocol), Some((source, destination))) => {
            let mut words = match protocol {
                Protocol::Tcp => format!("tcp {}", ends(source, destination)),
                Protocol::Udp => format!("udp {}", ends(source, destination)),
            };
            if protocol == Protocol::Tcp
                && let Some(tcp) = frame.header::<Tcp>(info.payload)
            {
                let _ = write!(words, " [{}]", Flags(tcp.flags));
            }
            words
        }
        (Some(_), None) if info.is_later_fragment => format!("a later fragment {}", addresses()),
        _ if depth > 0 && matches!(info.protocol, IPV4_IN_IP | IPV6_IN_IP) => {
            return format!(
                "IP in IP {}, in it {}",
                addresses(),
                inside(frame, info.payload, depth)
            );
        }
        _ if info.protocol == I::ICMP => icmp::<I>(frame, &info, &addresses()),
        _ => format!("IP protocol {} {}", info.protocol, addresses()),
    };
    if info.is_fragment && !info.is_later_fragment {
        words.push_str(", a first fragment");
    }
    let _ = write!(words, ", TTL {}", info.hop_limit);
    words
}

fn inside(frame: &mut HostFrame, offset: usize, depth: usize) -> String {
    let version = frame.header::<[u8; 1]>(offset).map(|[first]| *first >> 4);
    match version {
        Some(4) => ip::<V4>(frame, offset, depth - 1),
        Some(6) => ip::<V6>(frame, offset, depth - 1),
        _ => "nothing that is IP".to_owned(),
    }
}

fn icmp<I: Ip>(frame: &mut HostFrame, info: &IpInfo, addresses: &str) -> String {
    let Some([kind, code]) = frame.header::<[u8; 2]>(info.payload).copied() else {
        return format!("a cut ICMP message {addresses}");
    };
    let what = if kind == I::ECHO_REQUEST {
        "echo request".to_owned()
    } else if kind == I::ECHO_REPLY {
        "echo reply".to_owned()
    } else if (kind, code) == I::TOO_BIG {
        "packet too big".to_owned()
    } else if (kind, code) == I::PORT_UNREACHABLE {
        "port unreachable".to_owned()
    } else {
        format!("type {kind} code {code}")
    };
    format!("ICMP {what} {addresses}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_makes_it_panic() {
        for length in 0..120 {
            for byte in [0x00, 0x08, 0x45, 0x60, 0x81, 0xff] {
                let _ = summary(&vec![byte; length]);
            }
        }
        let mut frame = [0; 80];
        for first in [0x45, 0x60] {
            for protocol in [1, 4, 6, 17, 41, 58] {
                frame[12..14].copy_from_slice(if first == 0x45 {
                    &[8, 0]
                } else {
                    &[0x86, 0xdd]
                });
                frame[14] = first;
                frame[17] = 66;
                frame[20] = protocol;
                frame[23] = protocol;
                for length in 14..80 {
                    let _ = summary(&frame[..length]);
                }
            }
        }
    }
}
