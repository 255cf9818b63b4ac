//! Packet headers as they stand on the wire.
//!
//! Fields that are only compared, copied or summed are native-endian words of the memory
//! (`Word…`); fields whose number matters are network-endian.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, native_endian, network_endian,
};

/// Two bytes of memory.
pub type Word16 = native_endian::U16;
/// Four bytes of memory.
pub type Word32 = native_endian::U32;
/// Eight bytes of memory.
pub type Word64 = native_endian::U64;

/// A MAC address.
pub type Mac = [u8; 6];

/// EtherTypes.
pub mod ethertype {
    /// IPv4
    pub const IPV4: u16 = 0x0800;
    /// IPv6
    pub const IPV6: u16 = 0x86dd;
    /// IEEE 802.1Q tag
    pub const VLAN: u16 = 0x8100;
    /// IEEE 802.1ad tag
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// Address resolution (RFC 826)
    pub const ARP: u16 = 0x0806;
    /// MPLS (RFC 3032), unicast
    pub const MPLS: u16 = 0x8847;
    /// MPLS, multicast or upstream-assigned label
    pub const MPLS_MULTICAST: u16 = 0x8848;
    /// PPPoE discovery (RFC 2516)
    pub const PPPOE_DISCOVERY: u16 = 0x8863;
    /// PPPoE session
    pub const PPPOE_SESSION: u16 = 0x8864;
}

/// Bits of [`Tcp::flags`] (RFC 9293, section 3.1).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
}

macro_rules! header {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq,
            FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
        )]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
    };
}

header! {
    /// Ethernet II.
    Ethernet {
        /// Receiver.
        destination: Mac,
        /// Sender.
        source: Mac,
        /// See [`ethertype`].
        ethertype: network_endian::U16,
    }
}

header! {
    /// What follows the EtherType of an IEEE 802.1Q tag.
    Vlan {
        /// Priority, drop eligibility and VLAN id.
        tci: network_endian::U16,
        /// EtherType of what the tag encloses.
        ethertype: network_endian::U16,
    }
}

header! {
    /// RFC 791
    Ipv4 {
        /// Version 4 and header length in units of 4 bytes.
        version_ihl: u8,
        /// DSCP and ECN.
        traffic_class: u8,
        /// Header and payload, in bytes.
        total_length: network_endian::U16,
        /// Identification.
        identification: network_endian::U16,
        /// Three flags and the offset in units of 8 bytes.
        fragment: network_endian::U16,
        /// Time to live.
        ttl: u8,
        /// Protocol number of the payload.
        protocol: u8,
        /// Checksum of this header.
        checksum: Word16,
        /// Source address.
        source: Word32,
        /// Destination address.
        destination: Word32,
    }
}

header! {
    /// RFC 8200
    Ipv6 {
        /// Version 6, traffic class, flow label.
        version_class_flow: network_endian::U32,
        /// Everything after this header, in bytes.
        payload_length: network_endian::U16,
        /// Protocol number of what follows.
        next_header: u8,
        /// As the TTL of IPv4.
        hop_limit: u8,
        /// Source address.
        source: [Word64; 2],
        /// Destination address.
        destination: [Word64; 2],
    }
}

header! {
    /// What the common IPv6 extension headers begin with (RFC 8200, section 4).
    Extension {
        /// Protocol number of what follows.
        next_header: u8,
        /// Length in units of 8 bytes beyond the first 8.
        length: u8,
        /// Of a routing header.
        kind: u8,
        /// Of a routing header: how many more hosts the packet has to come to after this one.
        segments_left: u8,
    }
}

header! {
    /// The IPv6 fragment header (RFC 8200, section 4.5).
    FragmentExtension {
        /// Protocol number of what follows.
        next_header: u8,
        /// Always 0.
        reserved: u8,
        /// The offset in units of 8 bytes, in the upper 13 bits, and "more fragments".
        fragment: network_endian::U16,
        /// The same for all fragments of a packet.
        identification: Word32,
    }
}

header! {
    /// The first four bytes of TCP and UDP.
    Ports {
        /// Source port.
        source: Word16,
        /// Destination port.
        destination: Word16,
    }
}

impl Ports {
    /// Both as one word of memory.
    #[inline(always)]
    #[must_use]
    pub fn word(self) -> u32 {
        u32::from(self.source.get()) | u32::from(self.destination.get()) << 16
    }

    /// From [`Ports::word`].
    #[inline(always)]
    #[must_use]
    pub fn of_word(word: u32) -> Self {
        Self {
            source: Word16::new(word as u16),
            destination: Word16::new((word >> 16) as u16),
        }
    }
}

header! {
    /// RFC 9293
    Tcp {
        /// Ports.
        ports: Ports,
        /// Sequence number.
        sequence: network_endian::U32,
        /// Acknowledgement number.
        acknowledgement: network_endian::U32,
        /// Header length in units of 4 bytes, in the upper four bits.
        data_offset: u8,
        /// See [`tcp_flags`].
        flags: u8,
        /// Receive window.
        window: network_endian::U16,
        /// Checksum of pseudo header, header and payload.
        checksum: Word16,
        /// Urgent pointer.
        urgent: network_endian::U16,
    }
}

header! {
    /// RFC 768
    Udp {
        /// Ports.
        ports: Ports,
        /// Header and payload, in bytes.
        length: network_endian::U16,
        /// Checksum of pseudo header, header and payload; 0 is "none".
        checksum: Word16,
    }
}

header! {
    /// Generic UDP encapsulation, variant 0 (draft-ietf-intarea-gue, section 3.2).
    Gue {
        /// Variant (2 bits), "control message" (1), words of four bytes that follow (5).
        first: u8,
        /// Protocol number of the payload, or type of the control message.
        protocol: u8,
        /// Which optional fields are there.
        flags: network_endian::U16,
    }
}

header! {
    /// RFC 792 and RFC 4443
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Checksum; over a pseudo header too for ICMPv6.
        checksum: Word16,
        /// Meaning depends on the type.
        rest: Word32,
    }
}

header! {
    /// What all TCP options but two begin with (RFC 9293, section 3.1).
    TcpOption {
        /// Which option.
        kind: u8,
        /// Bytes of kind, length and data.
        length: u8,
    }
}

header! {
    /// The TCP option "maximum segment size" (RFC 9293, section 3.7.1).
    TcpMss {
        /// 2
        kind: u8,
        /// 4
        length: u8,
        /// The size.
        size: network_endian::U16,
    }
}

header! {
    /// The first eight bytes of UDP, and of TCP, where the rest of them is the sequence number.
    TransportStart {
        /// Ports.
        ports: Ports,
        /// UDP: length.
        length: Word16,
        /// UDP: checksum.
        udp_checksum: Word16,
    }
}
