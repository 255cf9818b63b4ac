//! IPv4 and IPv6 behind one trait, so that everything above exists once.

use crate::{
    address::Address,
    checksum::Sum,
    frame::{Frame, Header},
    headers::{Extension, FragmentExtension, Ipv4, Ipv6, Word16, Word32, Word64, ethertype},
};

/// Protocol numbers that are more than a payload.
pub(crate) mod number {
    pub(crate) const UDP: u8 = 17;
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
}

/// IPv6 extension headers that are skipped; a packet with more is not steered.
pub const MAX_EXTENSIONS: usize = 6;

/// What an IP header says.
#[derive(Clone, Copy, Debug)]
pub struct IpInfo {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Whether it is a piece of a larger packet.
    pub is_fragment: bool,
    /// Whether it is such a piece and not the first one.
    pub is_later_fragment: bool,
    /// What the pieces of a packet have in common, as it stands in memory.
    pub identification: u32,
    /// Length of the IP packet.
    pub length: u16,
    /// Offset of the payload in the frame.
    pub payload: usize,
}

/// What the header around a packet takes from the packet's own (RFC 2003, RFC 2473, RFC 6040).
#[derive(Clone, Copy, Debug)]
pub struct ForOuter {
    /// DSCP and ECN: ECN has to be copied, so that congestion is seen inside too.
    pub traffic_class: u8,
    /// Identification of a packet that may be fragmented, as it stands in memory; else 0.
    pub identification: u16,
    /// Whether it must not be fragmented.
    pub dont_fragment: bool,
}

/// What a header around a packet is made of.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Protocol number of what follows.
    pub protocol: u8,
    /// Bytes of what follows.
    pub payload: u16,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// IPv4: identification, as it stands in memory.
    pub identification: u16,
    /// IPv4: "don't fragment".
    pub dont_fragment: bool,
    /// IPv6: the lower 20 bits are the flow label (RFC 6438).
    pub flow_label: u32,
}

/// An IP version.
pub trait Ip {
    /// Its fixed header.
    type Header: Header;
    /// Its EtherType.
    const ETHERTYPE: u16;
    /// Protocol number of its control messages.
    const ICMP: u8;
    /// Types of "echo request" and its answer.
    const ECHO_REQUEST: u8;
    /// See [`Ip::ECHO_REQUEST`].
    const ECHO_REPLY: u8;
    /// Its protocol number inside IP.
    const IN_IP: u8;
    /// Type and code of "port unreachable".
    const PORT_UNREACHABLE: (u8, u8);
    /// Type and code of "fragmentation needed" and "packet too big".
    const TOO_BIG: (u8, u8);
    /// Whether a UDP checksum may be left out (RFC 768; forbidden by RFC 8200, section 8.1, but
    /// tunnels do it by RFC 6936, so it is kept all the same).
    const ICMP_HAS_PSEUDO_HEADER: bool;

    /// Largest TCP segment that fits into an Ethernet frame behind this header (RFC 6691).
    const SEGMENT: u16 = (1500 - Self::LENGTH - size_of::<crate::headers::Tcp>()) as u16;

    /// Length of the fixed header.
    const LENGTH: usize = size_of::<Self::Header>();

    /// Reads the header at `offset`; `None` when it is truncated or lies about lengths.
    fn parse<F: Frame>(frame: &mut F, offset: usize) -> Option<IpInfo>;

    /// Replaces one or both addresses and takes 1 from the hop limit. `None` when the frame ends
    /// too early.
    fn rewrite<F: Frame>(
        frame: &mut F,
        offset: usize,
        source: Option<Address>,
        destination: Option<Address>,
    ) -> Option<()>;

    /// Takes 1 from the hop limit.
    fn decrement_hop_limit<F: Frame>(frame: &mut F, offset: usize) -> Option<()>;

    /// Whether a control message of that type is an error about a packet that it quotes.
    fn is_error(kind: u8) -> bool;

    /// Reads the header of a quoted packet, of which only the beginning may be there.
    fn quoted<F: Frame>(frame: &mut F, offset: usize) -> Option<IpInfo>;

    /// Gives a quoted packet other addresses, whose sum differs by `change`, and returns by how much
    /// the sum over its header changed.
    fn readdress<F: Frame>(
        frame: &mut F,
        offset: usize,
        source: Address,
        destination: Address,
        change: Sum,
    ) -> Option<Sum>;

    /// Sends the packet back to its sender, with a fresh hop limit.
    fn turn<F: Frame>(frame: &mut F, offset: usize, info: &IpInfo) -> Option<()>;

    /// The ECN bits of a header.
    fn ecn<F: Frame>(frame: &mut F, offset: usize) -> Option<u8>;

    /// Sets the ECN bits.
    fn set_ecn<F: Frame>(frame: &mut F, offset: usize, ecn: u8) -> Option<()>;

    /// Whether the header's own checksum is right, if it has one; it ends at `end`.
    fn is_intact<F: Frame>(frame: &mut F, offset: usize, end: usize) -> bool;

    /// What a header around the packet takes from it.
    fn for_outer<F: Frame>(frame: &mut F, offset: usize) -> Option<ForOuter>;

    /// A header around a packet.
    fn outer(outer: &Outer) -> Self::Header;

    /// A fresh header for a packet that the balancer itself sends.
    fn header(source: Address, destination: Address, protocol: u8, payload: u16) -> Self::Header;
}

/// RFC 791
#[derive(Debug)]
pub struct V4;

/// RFC 8200
#[derive(Debug)]
pub struct V6;

const OWN_HOP_LIMIT: u8 = 64;
const FLOW_LABEL_MASK: u32 = 0x000f_ffff;
const DONT_FRAGMENT: u16 = 0x4000;
/// "More fragments" and the offset.
const FRAGMENT_MASK: u16 = 0x3fff;
const OFFSET_MASK: u16 = 0x1fff;
const ECN_MASK: u8 = 3;
/// Words of the longest IPv4 header.
const MOST_V4_WORDS: usize = 15;

#[inline(always)]
fn ttl_word(header: &Ipv4) -> u16 {
    u16::from_ne_bytes([header.ttl, header.protocol])
}

/// Takes 1 from the TTL and returns the change of the checksum.
#[inline(always)]
fn decrement_ttl(header: &mut Ipv4) -> Sum {
    let old = ttl_word(header);
    header.ttl = header.ttl.wrapping_sub(1);
    Sum::default().remove16(old).add16(ttl_word(header))
}

impl Ip for V4 {
    type Header = Ipv4;
    const ETHERTYPE: u16 = ethertype::IPV4;
    const ICMP: u8 = 1;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const IN_IP: u8 = 4;
    const PORT_UNREACHABLE: (u8, u8) = (3, 3);
    const TOO_BIG: (u8, u8) = (3, 4);
    const ICMP_HAS_PSEUDO_HEADER: bool = false;

    #[inline(always)]
    fn parse<F: Frame>(frame: &mut F, offset: usize) -> Option<IpInfo> {
        let available = frame.len().checked_sub(offset)?;
        let header: &mut Ipv4 = frame.header(offset)?;
        if header.version_ihl >> 4 != 4 {
            return None;
        }
        let header_length = ((header.version_ihl & 0x0f) as usize) << 2;
        let length = header.total_length.get();
        if header_length < Self::LENGTH
            || (length as usize) < header_length
            || length as usize > available
        {
            return None;
        }
        Some(IpInfo {
            source: Address::from_v4(header.source.to_bytes()),
            destination: Address::from_v4(header.destination.to_bytes()),
            protocol: header.protocol,
            hop_limit: header.ttl,
            is_fragment: header.fragment.get() & FRAGMENT_MASK != 0,
            is_later_fragment: header.fragment.get() & OFFSET_MASK != 0,
            identification: u32::from(header.identification.get()),
            length,
            payload: offset + header_length,
        })
    }

    #[inline(always)]
    fn rewrite<F: Frame>(
        frame: &mut F,
        offset: usize,
        source: Option<Address>,
        destination: Option<Address>,
    ) -> Option<()> {
        let header: &mut Ipv4 = frame.header(offset)?;
        let mut delta = decrement_ttl(header);
        if let Some(new) = source {
            let new = u32::from_ne_bytes(new.v4_octets());
            delta = delta.add32(!header.source.get()).add32(new);
            header.source.set(new);
        }
        if let Some(new) = destination {
            let new = u32::from_ne_bytes(new.v4_octets());
            delta = delta.add32(!header.destination.get()).add32(new);
            header.destination.set(new);
        }
        delta.update(&mut header.checksum);
        Some(())
    }

    #[inline(always)]
    fn decrement_hop_limit<F: Frame>(frame: &mut F, offset: usize) -> Option<()> {
        let header: &mut Ipv4 = frame.header(offset)?;
        decrement_ttl(header).update(&mut header.checksum);
        Some(())
    }

    /// Destination unreachable, time exceeded, parameter problem.
    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn quoted<F: Frame>(frame: &mut F, offset: usize) -> Option<IpInfo> {
        let header: &mut Ipv4 = frame.header(offset)?;
        let header_length = ((header.version_ihl & 0x0f) as usize) << 2;
        if header.version_ihl >> 4 != 4 || header_length < Self::LENGTH {
            return None;
        }
        Some(IpInfo {
            source: Address::from_v4(header.source.to_bytes()),
            destination: Address::from_v4(header.destination.to_bytes()),
            protocol: header.protocol,
            hop_limit: header.ttl,
            is_fragment: header.fragment.get() & FRAGMENT_MASK != 0,
            is_later_fragment: header.fragment.get() & OFFSET_MASK != 0,
            identification: u32::from(header.identification.get()),
            length: header.total_length.get(),
            payload: offset + header_length,
        })
    }

    #[inline(always)]
    fn readdress<F: Frame>(
        frame: &mut F,
        offset: usize,
        source: Address,
        destination: Address,
        change: Sum,
    ) -> Option<Sum> {
        let header: &mut Ipv4 = frame.header(offset)?;
        header.source = source.v4_octets().into();
        header.destination = destination.v4_octets().into();
        let old = header.checksum.get();
        change.update(&mut header.checksum);
        Some(change.remove16(old).add16(header.checksum.get()))
    }

    #[inline(always)]
    fn turn<F: Frame>(frame: &mut F, offset: usize, _: &IpInfo) -> Option<()> {
        let header: &mut Ipv4 = frame.header(offset)?;
        (header.source, header.destination) = (header.destination, header.source);
        let old = ttl_word(header);
        header.ttl = OWN_HOP_LIMIT;
        let delta = Sum::default().remove16(old).add16(ttl_word(header));
        delta.update(&mut header.checksum);
        Some(())
    }

    #[inline(always)]
    fn ecn<F: Frame>(frame: &mut F, offset: usize) -> Option<u8> {
        let header: &mut Ipv4 = frame.header(offset)?;
        Some(header.traffic_class & ECN_MASK)
    }

    #[inline(always)]
    fn set_ecn<F: Frame>(frame: &mut F, offset: usize, ecn: u8) -> Option<()> {
        let header: &mut Ipv4 = frame.header(offset)?;
        let word = |class: u8| u16::from_ne_bytes([header.version_ihl, class]);
        let new = header.traffic_class & !ECN_MASK | ecn;
        let change = Sum::default()
            .remove16(word(header.traffic_class))
            .add16(word(new));
        header.traffic_class = new;
        change.update(&mut header.checksum);
        Some(())
    }

    #[inline(always)]
    fn is_intact<F: Frame>(frame: &mut F, offset: usize, end: usize) -> bool {
        let mut sum = Sum::default();
        for index in 0..MOST_V4_WORDS {
            let at = offset + index * size_of::<Word32>();
            if at >= end {
                break;
            }
            match frame.header::<Word32>(at) {
                Some(word) => sum = sum.add32(word.get()),
                None => return false,
            }
        }
        sum.fold() == 0xffff
    }

    #[inline(always)]
    fn for_outer<F: Frame>(frame: &mut F, offset: usize) -> Option<ForOuter> {
        let header: &mut Ipv4 = frame.header(offset)?;
        let dont_fragment = header.fragment.get() & DONT_FRAGMENT != 0;
        Some(ForOuter {
            traffic_class: header.traffic_class,
            identification: if dont_fragment {
                0
            } else {
                header.identification.get().to_be()
            },
            dont_fragment,
        })
    }

    #[inline(always)]
    fn outer(outer: &Outer) -> Ipv4 {
        let total = outer.payload + Self::LENGTH as u16;
        let fragment = if outer.dont_fragment {
            DONT_FRAGMENT
        } else {
            0
        };
        let mut header = Ipv4 {
            version_ihl: 0x45,
            traffic_class: outer.traffic_class,
            total_length: total.into(),
            identification: u16::from_be(outer.identification).into(),
            fragment: fragment.into(),
            ttl: OWN_HOP_LIMIT,
            protocol: outer.protocol,
            checksum: Word16::new(0),
            source: outer.source.v4_octets().into(),
            destination: outer.destination.v4_octets().into(),
        };
        let sum = Sum::default()
            .add16(u16::from_ne_bytes([0x45, outer.traffic_class]))
            .add16(total.to_be())
            .add16(outer.identification)
            .add16(fragment.to_be())
            .add16(ttl_word(&header))
            .add32(header.source.get())
            .add32(header.destination.get());
        header.checksum = Word16::new(sum.checksum());
        header
    }

    #[inline(always)]
    fn header(source: Address, destination: Address, protocol: u8, payload: u16) -> Ipv4 {
        Self::outer(&Outer {
            source,
            destination,
            protocol,
            payload,
            traffic_class: 0,
            identification: 0,
            dont_fragment: true,
            flow_label: 0,
        })
    }
}

#[inline(always)]
fn address(words: [Word64; 2]) -> Address {
    Address::from_words([words[0].get(), words[1].get()])
}

#[inline(always)]
fn words(address: Address) -> [Word64; 2] {
    let [high, low] = address.words();
    [Word64::new(high), Word64::new(low)]
}

impl Ip for V6 {
    type Header = Ipv6;
    const ETHERTYPE: u16 = ethertype::IPV6;
    const ICMP: u8 = 58;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const IN_IP: u8 = 41;
    const PORT_UNREACHABLE: (u8, u8) = (1, 4);
    const TOO_BIG: (u8, u8) = (2, 0);
    const ICMP_HAS_PSEUDO_HEADER: bool = true;

    #[inline(always)]
    fn parse<F: Frame>(frame: &mut F, offset: usize) -> Option<IpInfo> {
        let available = frame.len().checked_sub(offset)?;
        let header: &mut Ipv6 = frame.header(offset)?;
        if header.version_class_flow.get() >> 28 != 6 {
            return None;
        }
        let length = header.payload_length.get() as usize + Self::LENGTH;
        let (source, destination) = (address(header.source), address(header.destination));
        // In tables that form is IPv4. It has no place on the wire, and hosts drop it too.
        if length > available || length > u16::MAX as usize || source.is_v4() || destination.is_v4()
        {
            return None;
        }
        let mut info = IpInfo {
            source,
            destination,
            protocol: header.next_header,
            hop_limit: header.hop_limit,
            is_fragment: false,
            is_later_fragment: false,
            identification: 0,
            length: length as u16,
            payload: offset + Self::LENGTH,
        };
        for _ in 0..MAX_EXTENSIONS {
            match info.protocol {
                number::HOP_BY_HOP | number::ROUTING | number::DESTINATION_OPTIONS => {
                    let extension: &mut Extension = frame.header(info.payload)?;
                    // The packet is not for that destination, but through it.
                    if info.protocol == number::ROUTING && extension.segments_left != 0 {
                        break;
                    }
                    info.protocol = extension.next_header;
                    info.payload += (extension.length as usize + 1) << 3;
                }
                number::FRAGMENT => {
                    let extension: &mut FragmentExtension = frame.header(info.payload)?;
                    info.protocol = extension.next_header;
                    info.is_later_fragment |= extension.fragment.get() & 0xfff8 != 0;
                    info.identification = extension.identification.get();
                    // An "atomic" fragment (RFC 6946) is whole: offset 0 and nothing to follow.
                    info.is_fragment |= extension.fragment.get() & 0xfff9 != 0;
                    info.payload += 8;
                }
                _ => break,
            }
        }
        info.payload = frame.forget(info.payload);
        Some(info)
    }

    #[inline(always)]
    fn rewrite<F: Frame>(
        frame: &mut F,
        offset: usize,
        source: Option<Address>,
        destination: Option<Address>,
    ) -> Option<()> {
        let header: &mut Ipv6 = frame.header(offset)?;
        if let Some(new) = source {
            header.source = words(new);
        }
        if let Some(new) = destination {
            header.destination = words(new);
        }
        header.hop_limit = header.hop_limit.wrapping_sub(1);
        Some(())
    }

    #[inline(always)]
    fn decrement_hop_limit<F: Frame>(frame: &mut F, offset: usize) -> Option<()> {
        let header: &mut Ipv6 = frame.header(offset)?;
        header.hop_limit = header.hop_limit.wrapping_sub(1);
        Some(())
    }

    /// Destination unreachable, packet too big, time exceeded, parameter problem.
    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }

    /// A quoted packet with extension headers is not understood.
    #[inline(always)]
    fn quoted<F: Frame>(frame: &mut F, offset: usize) -> Option<IpInfo> {
        let header: &mut Ipv6 = frame.header(offset)?;
        if header.version_class_flow.get() >> 28 != 6 {
            return None;
        }
        Some(IpInfo {
            source: address(header.source),
            destination: address(header.destination),
            protocol: header.next_header,
            hop_limit: header.hop_limit,
            is_fragment: false,
            is_later_fragment: false,
            identification: 0,
            length: header.payload_length.get(),
            payload: offset + Self::LENGTH,
        })
    }

    #[inline(always)]
    fn readdress<F: Frame>(
        frame: &mut F,
        offset: usize,
        source: Address,
        destination: Address,
        change: Sum,
    ) -> Option<Sum> {
        let header: &mut Ipv6 = frame.header(offset)?;
        header.source = words(source);
        header.destination = words(destination);
        Some(change)
    }

    #[inline(always)]
    fn turn<F: Frame>(frame: &mut F, offset: usize, info: &IpInfo) -> Option<()> {
        let header: &mut Ipv6 = frame.header(offset)?;
        header.source = words(info.destination);
        header.destination = words(info.source);
        header.hop_limit = OWN_HOP_LIMIT;
        Some(())
    }

    #[inline(always)]
    fn ecn<F: Frame>(frame: &mut F, offset: usize) -> Option<u8> {
        let header: &mut Ipv6 = frame.header(offset)?;
        Some((header.version_class_flow.get() >> 20) as u8 & ECN_MASK)
    }

    #[inline(always)]
    fn set_ecn<F: Frame>(frame: &mut F, offset: usize, ecn: u8) -> Option<()> {
        let header: &mut Ipv6 = frame.header(offset)?;
        let word = header.version_class_flow.get() & !(u32::from(ECN_MASK) << 20);
        header
            .version_class_flow
            .set(word | u32::from(ecn & ECN_MASK) << 20);
        Some(())
    }

    #[inline(always)]
    fn is_intact<F: Frame>(_: &mut F, _: usize, _: usize) -> bool {
        true
    }

    #[inline(always)]
    fn for_outer<F: Frame>(frame: &mut F, offset: usize) -> Option<ForOuter> {
        let header: &mut Ipv6 = frame.header(offset)?;
        Some(ForOuter {
            traffic_class: (header.version_class_flow.get() >> 20) as u8,
            identification: 0,
            dont_fragment: true,
        })
    }

    #[inline(always)]
    fn outer(outer: &Outer) -> Ipv6 {
        let word =
            6 << 28 | u32::from(outer.traffic_class) << 20 | (outer.flow_label & FLOW_LABEL_MASK);
        Ipv6 {
            version_class_flow: word.into(),
            payload_length: outer.payload.into(),
            next_header: outer.protocol,
            hop_limit: OWN_HOP_LIMIT,
            source: words(outer.source),
            destination: words(outer.destination),
        }
    }

    #[inline(always)]
    fn header(source: Address, destination: Address, protocol: u8, payload: u16) -> Ipv6 {
        Self::outer(&Outer {
            source,
            destination,
            protocol,
            payload,
            traffic_class: 0,
            identification: 0,
            dont_fragment: true,
            flow_label: 0,
        })
    }
}
