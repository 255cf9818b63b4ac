//! Packets that the balancer itself sends, built in place of the packet they answer.

use crate::{
    abi::Ticks,
    checksum::Sum,
    engine::{Outcome, packet::Packet},
    frame::Frame,
    headers::{Ethernet, Icmp, Ports, Tcp, Vlan, Word16, Word32, tcp_flags},
    ip::Ip,
    tables::Tables,
    verdict::Verdict,
};

/// Bytes of a packet that an ICMP error quotes at most: every header that may stand before the
/// ports, and a few bytes more. A multiple of 4.
const QUOTE: usize = 128;

/// Answers a TCP packet with a RST (RFC 9293, section 3.10.7.1).
#[inline(always)]
pub(super) fn reset<I: Ip, F: Frame>(frame: &mut F, packet: &Packet, verdict: Verdict) -> Outcome {
    build_reset::<I, F>(frame, packet).map_or(Verdict::DropNoRoom.into(), |()| Outcome {
        verdict,
        egress: frame.ingress(),
    })
}

#[inline(always)]
fn build_reset<I: Ip, F: Frame>(frame: &mut F, packet: &Packet) -> Option<()> {
    const LENGTH: usize = size_of::<Tcp>();
    let cause = *frame.header::<Tcp>(packet.ip.payload)?;
    let l3 = packet.link.payload;
    let headers = packet.ip.payload - l3 + ((cause.data_offset >> 4) as usize) * 4;
    let payload = (packet.ip.length as usize).saturating_sub(headers) as u32;
    let mut answer = Tcp {
        ports: Ports {
            source: cause.ports.destination,
            destination: cause.ports.source,
        },
        data_offset: ((LENGTH / 4) as u8) << 4,
        ..Tcp::default()
    };
    if cause.flags & tcp_flags::ACK != 0 {
        answer.flags = tcp_flags::RST;
        answer.sequence = cause.acknowledgement;
    } else {
        let occupied = payload
            + u32::from(cause.flags & tcp_flags::SYN != 0)
            + u32::from(cause.flags & tcp_flags::FIN != 0);
        answer.flags = tcp_flags::RST | tcp_flags::ACK;
        answer.acknowledgement = cause.sequence.get().wrapping_add(occupied).into();
    }
    let sum = pseudo_header(packet, packet.ip.protocol, LENGTH as u16)
        .add16(answer.ports.source.get())
        .add16(answer.ports.destination.get())
        .add32(answer.sequence.get().to_be())
        .add32(answer.acknowledgement.get().to_be())
        .add16(u16::from_ne_bytes([answer.data_offset, answer.flags]));
    answer.checksum = Word16::new(sum.checksum());

    if !frame.set_len(l3 + I::LENGTH + LENGTH) {
        return None;
    }
    *frame.header::<Tcp>(l3 + I::LENGTH)? = answer;
    *frame.header::<I::Header>(l3)? = I::header(
        packet.ip.destination,
        packet.ip.source,
        packet.ip.protocol,
        LENGTH as u16,
    );
    swap_macs(frame)
}

/// Answers a packet with an ICMP or ICMPv6 "port unreachable" (RFC 792, RFC 4443), sent by the
/// service's address.
#[inline(always)]
pub(super) fn unreachable<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    now: Ticks,
) -> Outcome {
    if !tables.may_send_error(now) {
        return Verdict::DropAnswerLimited.into();
    }
    build_unreachable::<I, F>(frame, packet).map_or(Verdict::DropNoRoom.into(), |()| Outcome {
        verdict: Verdict::AnsweredUnreachableNoBackend,
        egress: frame.ingress(),
    })
}

#[inline(always)]
fn build_unreachable<I: Ip, F: Frame>(frame: &mut F, packet: &Packet) -> Option<()> {
    const ICMP: usize = size_of::<Icmp>();
    let l3 = packet.link.payload;
    let quote = (packet.ip.length as usize).min(QUOTE) & !3;
    let ethernet = *frame.header::<Ethernet>(0)?;
    let grown = I::LENGTH + ICMP;
    if !frame.move_head(-(grown as i32)) {
        return None;
    }
    *frame.header::<Ethernet>(0)? = ethernet;
    if packet.link.tagged {
        *frame.header::<Vlan>(size_of::<Ethernet>())? = Vlan {
            tci: packet.link.tci.into(),
            ethertype: I::ETHERTYPE.into(),
        };
    }
    if !frame.set_len(l3 + grown + quote) {
        return None;
    }
    let (kind, code) = I::PORT_UNREACHABLE;
    let length = (ICMP + quote) as u16;
    let mut sum = Sum::default().add16(u16::from_ne_bytes([kind, code]));
    if I::ICMP_HAS_PSEUDO_HEADER {
        sum = sum.merge(pseudo_header(packet, I::ICMP, length));
    }
    for index in 0..QUOTE / 4 {
        if index * 4 >= quote {
            break;
        }
        sum = sum.add32(frame.header::<Word32>(l3 + grown + index * 4)?.get());
    }
    *frame.header::<Icmp>(l3 + I::LENGTH)? = Icmp {
        kind,
        code,
        checksum: Word16::new(sum.checksum()),
        ..Icmp::default()
    };
    *frame.header::<I::Header>(l3)? =
        I::header(packet.ip.destination, packet.ip.source, I::ICMP, length);
    swap_macs(frame)
}

/// The pseudo header of an answer to `packet`; source and destination may change places in a sum.
#[inline(always)]
fn pseudo_header(packet: &Packet, protocol: u8, length: u16) -> Sum {
    Sum::default()
        .add_address(packet.ip.source)
        .add_address(packet.ip.destination)
        .add16(u16::from(protocol).to_be())
        .add16(length.to_be())
}

#[inline(always)]
fn swap_macs<F: Frame>(frame: &mut F) -> Option<()> {
    let ethernet: &mut Ethernet = frame.header(0)?;
    (ethernet.source, ethernet.destination) = (ethernet.destination, ethernet.source);
    Some(())
}
