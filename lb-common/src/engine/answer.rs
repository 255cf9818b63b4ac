//! Packets that the balancer itself sends, built in place of the packet they answer.

use crate::{
    abi::features,
    checksum::Sum,
    engine::{
        Hint, Outcome, cookie,
        packet::{Packet, Read},
        segment, vlan,
    },
    frame::Frame,
    headers::{Ethernet, Icmp, Ports, Tcp, Word16, Word32, tcp_flags},
    ip::Ip,
    tables::Tables,
    verdict::Verdict,
};

/// Bytes of a packet that an ICMP error quotes at most: every header that may stand before the
/// ports, and a few bytes more. A multiple of 4.
const QUOTE: usize = 128;

/// Builds the answer that an outcome asks for.
#[inline(always)]
pub(super) fn build<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    outcome: Outcome,
) -> Outcome {
    let Read::Packet(packet) = Packet::read::<I, F>(frame, Hint::default()) else {
        // Fragments are not answered: what is said of one is said of the packet.
        return if outcome.verdict == Verdict::AnsweredTooBig {
            Verdict::DropTooBig.into()
        } else {
            Verdict::DropFragment.into()
        };
    };
    let verdict = outcome.verdict;
    let done = match Kind::of(verdict) {
        Kind::Reset => build_reset::<I, F>(frame, &packet).and_then(|()| swap_macs(frame)),
        Kind::SynCookie if tables.has(features::SYN_COOKIES) => {
            cookie::build_syn_ack::<I, F, T>(frame, tables, &packet).and_then(|()| swap_macs(frame))
        }
        Kind::ForClient if tables.has(features::SYN_COOKIES) => {
            cookie::build_ack::<I, F>(frame, &packet).and_then(|()| swap_macs(frame))
        }
        Kind::SynCookie | Kind::ForClient => None,
        Kind::Unreachable | Kind::TooBig if !tables.may_send_error(tables.now()) => {
            return Verdict::DropAnswerLimited.into();
        }
        Kind::Unreachable => {
            let (kind, code) = I::PORT_UNREACHABLE;
            build_error::<I, F>(frame, &packet, kind, code, 0)
        }
        Kind::TooBig => {
            let (kind, code) = I::TOO_BIG;
            build_error::<I, F>(frame, &packet, kind, code, outcome.mtu)
        }
    };
    done.map_or(Verdict::DropNoRoom.into(), |()| {
        Outcome::emit(verdict, frame.ingress())
    })
}

/// What is sent.
enum Kind {
    /// A TCP RST (RFC 9293, section 3.10.7.1).
    Reset,
    /// A SYN-ACK with a SYN cookie.
    SynCookie,
    /// The acknowledgement of a SYN-ACK.
    ForClient,
    /// "Port unreachable" (RFC 792, RFC 4443), sent by the service's address.
    Unreachable,
    /// "Fragmentation needed" (RFC 1191) or "packet too big" (RFC 4443), sent by the address that
    /// the packet was meant for: whoever gets it expects packets of that address from here, so
    /// that a filter of forged sources lets it in.
    TooBig,
}

impl Kind {
    #[inline(always)]
    const fn of(verdict: Verdict) -> Self {
        if verdict as u8 == Verdict::AnsweredTooBig as u8 {
            Self::TooBig
        } else if verdict as u8 == Verdict::AnsweredUnreachableNoBackend as u8
            || verdict as u8 == Verdict::AnsweredUnreachableNoSourcePort as u8
        {
            Self::Unreachable
        } else if verdict as u8 == Verdict::AnsweredSynCookie as u8 {
            Self::SynCookie
        } else if verdict as u8 == Verdict::AnsweredForClient as u8 {
            Self::ForClient
        } else {
            Self::Reset
        }
    }
}

#[inline(always)]
fn build_reset<I: Ip, F: Frame>(frame: &mut F, packet: &Packet) -> Option<()> {
    let cause = *frame.header::<Tcp>(packet.ip.payload)?;
    let l3 = packet.link.payload;
    let headers = packet.ip.payload - l3 + ((cause.data_offset >> 4) as usize) * 4;
    let payload = (packet.ip.length as usize).saturating_sub(headers) as u32;
    let mut answer = Tcp {
        ports: Ports {
            source: cause.ports.destination,
            destination: cause.ports.source,
        },
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
    let (source, destination) = (packet.ip.destination, packet.ip.source);
    segment::put::<I, F, false>(frame, packet, source, destination, answer, 0)
}

#[inline(always)]
fn build_error<I: Ip, F: Frame>(
    frame: &mut F,
    packet: &Packet,
    kind: u8,
    code: u8,
    mtu: u16,
) -> Option<()> {
    const ICMP: usize = size_of::<Icmp>();
    let l3 = packet.link.payload;
    let quote = (packet.ip.length as usize).min(QUOTE) & !3;
    let ethernet = *frame.header::<Ethernet>(0)?;
    let grown = I::LENGTH + ICMP;
    if !frame.move_head(-(grown as i32)) {
        return None;
    }
    // Source and destination change places further down.
    vlan::write(
        frame,
        ethernet.destination,
        ethernet.source,
        packet.link.tags,
        I::ETHERTYPE,
    )?;
    if !frame.set_len(l3 + grown + quote) {
        return None;
    }
    let length = (ICMP + quote) as u16;
    // Both versions have the MTU where the lower 16 bits of the rest are.
    let [high, low] = mtu.to_be_bytes();
    let rest = Word32::from_bytes([0, 0, high, low]);
    let mut sum = Sum::default()
        .add16(u16::from_ne_bytes([kind, code]))
        .add32(rest.get());
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
        rest,
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
