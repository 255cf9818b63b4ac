//! What a frame says, for the oracle.

use lb_common::{
    abi::FragmentKey,
    address::Address,
    engine::{
        Family, Hint, first,
        packet::{Link, Packet, Read},
    },
    frame::Frame,
    headers::Ports,
    host::{HostFrame, HostTables},
    ip::{Ip, IpInfo, V4, V6},
};

/// An address and a port in network order.
pub(super) type End = (Address, u16);

/// A TCP or UDP packet, or a piece of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) link: Link,
    pub(super) ip: IpInfo,
    pub(super) source: End,
    pub(super) destination: End,
}

/// Reads a frame; a piece that is not the first of its packet has the ports that are known of it.
pub(super) fn read(frame: &[u8], tables: &HostTables) -> Option<Reading> {
    let mut frame = HostFrame::new(frame, 0);
    match first(&mut frame).ok()?.0 {
        Family::V4 => read_as::<V4>(&mut frame, tables),
        Family::V6 => read_as::<V6>(&mut frame, tables),
    }
}

fn read_as<I: Ip>(frame: &mut HostFrame, tables: &HostTables) -> Option<Reading> {
    let (link, ip, ports) = match Packet::read::<I, _>(frame, Hint::default()) {
        Read::Packet(packet) => (packet.link, packet.ip, packet.ports),
        Read::Control => {
            let (link, ip) = ip_of::<I>(frame)?;
            if !ip.is_fragment || !matches!(ip.protocol, 6 | 17) {
                return None;
            }
            let ports = if ip.is_later_fragment {
                let key = FragmentKey {
                    source: ip.source,
                    destination: ip.destination,
                    identification: ip.identification,
                    protocol: u32::from(ip.protocol),
                };
                let known = *tables.fragments.borrow().get(&key)?;
                Ports {
                    source: known.source_port.into(),
                    destination: known.destination_port.into(),
                }
            } else {
                *frame.header::<Ports>(ip.payload)?
            };
            (link, ip, ports)
        }
        Read::Cut(_) | Read::NotIp => return None,
    };
    Some(Reading {
        link,
        ip,
        source: (ip.source, ports.source.get()),
        destination: (ip.destination, ports.destination.get()),
    })
}

/// The headers up to IP, whatever stands above.
pub(super) fn read_ip(frame: &[u8]) -> Option<(Link, IpInfo)> {
    let mut frame = HostFrame::new(frame, 0);
    match first(&mut frame).ok()?.0 {
        Family::V4 => ip_of::<V4>(&mut frame),
        Family::V6 => ip_of::<V6>(&mut frame),
    }
}

fn ip_of<I: Ip>(frame: &mut HostFrame) -> Option<(Link, IpInfo)> {
    let link = Link::parse(frame)?;
    let ip = I::parse(frame, link.payload)?;
    Some((link, ip))
}

/// The ends of the packet in a frame that was made of a quote, which may be cut off.
pub(super) fn quoted_ends(frame: &[u8]) -> Option<(u8, End, End)> {
    let mut frame = HostFrame::new(frame, 0);
    let ip = match first(&mut frame).ok()?.0 {
        Family::V4 => V4::quoted(&mut frame, 14)?,
        Family::V6 => V6::quoted(&mut frame, 14)?,
    };
    let ports = *frame.header::<Ports>(ip.payload)?;
    Some((
        ip.protocol,
        (ip.source, ports.source.get()),
        (ip.destination, ports.destination.get()),
    ))
}

/// The flags of a TCP header, 0 of other packets.
pub(super) fn tcp_flags(frame: &[u8], reading: &Reading) -> u8 {
    if reading.ip.protocol != 6 || reading.ip.is_later_fragment {
        return 0;
    }
    frame.get(reading.ip.payload + 13).copied().unwrap_or(0)
}

/// What a TCP header announces as its largest segment, and where, as the engine looks for it: among
/// the first six options.
pub(super) fn segment_size(frame: &[u8], reading: &Reading) -> Option<(usize, u16)> {
    if reading.ip.protocol != 6 || reading.ip.is_later_fragment {
        return None;
    }
    let tcp = reading.ip.payload;
    let end = tcp + usize::from(frame.get(tcp + 12)? >> 4) * 4;
    let mut at = tcp + 20;
    for _ in 0..6 {
        if at + 4 > end {
            return None;
        }
        match *frame.get(at)? {
            0 => return None,
            1 => at += 1,
            2 => {
                let size = u16::from_be_bytes([*frame.get(at + 2)?, *frame.get(at + 3)?]);
                return (frame[at + 1] == 4).then_some((at + 2, size));
            }
            _ => at += usize::from(*frame.get(at + 1)?).max(2),
        }
    }
    None
}

/// Whether the sum over an IPv4 header is right; other packets have none.
pub(super) fn has_sound_header(packet: &[u8]) -> bool {
    let Some(first) = packet.first().filter(|first| *first >> 4 == 4) else {
        return true;
    };
    let Some(header) = packet.get(..usize::from(first & 15) * 4) else {
        return true;
    };
    let sum: u32 = header
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    sum.is_multiple_of(0xffff) && sum != 0
}

/// The packet with everything set to 0 that a way through the balancer may change; `rewritten`
/// is whether its ends may.
pub(super) fn masked(frame: &[u8], reading: &Reading, rewritten: bool, sized: bool) -> Vec<u8> {
    let start = reading.link.payload;
    let mut frame = frame.to_vec();
    let (hop_limit, addresses) = if frame[start] >> 4 == 4 {
        frame[start + 10..start + 12].fill(0);
        (8, 12..20)
    } else {
        (7, 8..40)
    };
    frame[start + hop_limit] = 0;
    let payload = reading.ip.payload;
    if rewritten {
        frame[start + addresses.start..start + addresses.end].fill(0);
        if !reading.ip.is_later_fragment {
            frame[payload..payload + 4].fill(0);
        }
    }
    if (rewritten || sized) && !reading.ip.is_later_fragment {
        let at = payload + if reading.ip.protocol == 6 { 16 } else { 6 };
        if let Some(checksum) = frame.get_mut(at..at + 2) {
            checksum.fill(0);
        }
    }
    if sized && let Some((at, _)) = segment_size(&frame, reading) {
        frame[at..at + 2].fill(0);
    }
    frame.split_off(start)
}

/// The packet that an ICMP error quotes, behind an Ethernet header; `None` if it is no error.
pub(super) fn quoted(frame: &[u8]) -> Option<Vec<u8>> {
    let (link, ip) = read_ip(frame)?;
    let end = link.payload + usize::from(ip.length);
    let message = frame.get(ip.payload..end)?;
    let kind = *message.first()?;
    let (is_error, ethertype) = if ip.destination.is_v4() {
        (ip.protocol == 1 && V4::is_error(kind), [0x08, 0x00])
    } else {
        (ip.protocol == 58 && V6::is_error(kind), [0x86, 0xdd])
    };
    let quote = message.get(8..).filter(|_| is_error && !ip.is_fragment)?;
    Some([&frame[..12], &ethertype, quote].concat())
}
