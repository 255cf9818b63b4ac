//! Building frames.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, TcpOptions, UdpHeader,
    checksum::Sum16BitWords,
};

/// A MAC address.
pub type Mac = [u8; 6];

/// TCP flag: no more data from the sender.
pub const FIN: u8 = 0x01;
/// TCP flag: synchronize sequence numbers.
pub const SYN: u8 = 0x02;
/// TCP flag: reset.
pub const RST: u8 = 0x04;
/// TCP flag: hand the data to the application.
pub const PSH: u8 = 0x08;
/// TCP flag: the acknowledgement number is valid.
pub const ACK: u8 = 0x10;

/// What a TCP header says beside the ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// [`SYN`] and so on.
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Receive window.
    pub window: u16,
    /// Twelve bytes of options, as a timestamp takes.
    pub has_options: bool,
}

/// What stands above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp(Fields),
    /// UDP, with or without a checksum.
    Udp {
        /// Whether the checksum is there; 0 otherwise.
        has_checksum: bool,
    },
    /// ICMP or ICMPv6, as the addresses are, of that type and code.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
}

/// A packet in words. [`Packet::bytes`] makes the frame, with every length and checksum right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Sender's MAC.
    pub source_mac: Mac,
    /// Receiver's MAC.
    pub destination_mac: Mac,
    /// Tag control information of an IEEE 802.1Q tag.
    pub tag: Option<u16>,
    /// Sender.
    pub source: SocketAddr,
    /// Receiver, of the same family.
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Of IPv4.
    pub identification: u16,
    /// "Don't fragment" of IPv4.
    pub dont_fragment: bool,
    /// Offset in units of 8 bytes and "more fragments", for IPv4.
    pub fragment: Option<(u16, bool)>,
    /// IPv4 options, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: protocol number and bytes, of which the first, the next header, is
    /// filled in.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// What stands above IP.
    pub transport: Transport,
    /// TCP options, a multiple of 4 bytes, instead of those that [`Fields::has_options`] asks for.
    pub tcp_options: Vec<u8>,
    /// What that carries.
    pub payload: Vec<u8>,
}

impl Packet {
    /// A packet without MACs, tag, options and payload.
    #[must_use]
    pub fn new(source: SocketAddr, destination: SocketAddr, transport: Transport) -> Self {
        Self {
            source_mac: [0; 6],
            destination_mac: [0; 6],
            tag: None,
            source,
            destination,
            hop_limit: 64,
            traffic_class: 0,
            identification: 0,
            dont_fragment: true,
            fragment: None,
            options: Vec::new(),
            extensions: Vec::new(),
            transport,
            tcp_options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// A TCP packet.
    #[must_use]
    pub fn tcp(source: SocketAddr, destination: SocketAddr, fields: Fields) -> Self {
        Self::new(source, destination, Transport::Tcp(fields))
    }

    /// A UDP packet with a checksum.
    #[must_use]
    pub fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        let transport = Transport::Udp { has_checksum: true };
        Self::new(source, destination, transport)
    }

    /// The same between two MACs.
    #[must_use]
    pub fn macs(self, source_mac: Mac, destination_mac: Mac) -> Self {
        Self {
            source_mac,
            destination_mac,
            ..self
        }
    }

    /// The same with a payload.
    #[must_use]
    pub fn payload(self, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            payload: payload.into(),
            ..self
        }
    }

    /// The same with a tag.
    #[must_use]
    pub fn tagged(self, tci: u16) -> Self {
        Self {
            tag: Some(tci),
            ..self
        }
    }

    /// The same with a TTL or hop limit.
    #[must_use]
    pub fn hop_limit(self, hop_limit: u8) -> Self {
        Self { hop_limit, ..self }
    }

    /// Offset of the IP header in the frame.
    #[must_use]
    pub fn network_offset(&self) -> usize {
        if self.tag.is_some() { 18 } else { 14 }
    }

    /// Offset of what stands above IP in the frame.
    #[must_use]
    pub fn transport_offset(&self) -> usize {
        let fixed = if self.source.is_ipv4() { 20 } else { 40 };
        let extensions: usize = self.extensions.iter().map(|(_, bytes)| bytes.len()).sum();
        self.network_offset() + fixed + self.options.len() + extensions
    }

    /// The frame.
    ///
    /// # Panics
    /// When the fields do not fit into a packet or the two addresses are of different families.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let (protocol, segment) = self.segment();
        let mut frame = self.ethernet();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let length = (segment.len() + self.options.len()) as u16;
                let mut header = Ipv4Header::new(
                    length,
                    self.hop_limit,
                    protocol,
                    source.octets(),
                    destination.octets(),
                )
                .expect("the payload fits");
                header.options = self.options[..].try_into().expect("options fit");
                header.total_len = header.header_len() as u16 + segment.len() as u16;
                header.dscp = (self.traffic_class >> 2).try_into().expect("six bits");
                header.ecn = (self.traffic_class & 3).try_into().expect("two bits");
                header.identification = self.identification;
                header.dont_fragment = self.dont_fragment;
                if let Some((offset, more)) = self.fragment {
                    header.dont_fragment = false;
                    header.fragment_offset = offset.try_into().expect("thirteen bits");
                    header.more_fragments = more;
                }
                header.header_checksum = header.calc_header_checksum();
                frame.extend_from_slice(&header.to_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (first, chain) = self.chain(protocol);
                let header = Ipv6Header {
                    traffic_class: self.traffic_class,
                    payload_length: (chain.len() + segment.len()) as u16,
                    next_header: first,
                    hop_limit: self.hop_limit,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                frame.extend_from_slice(&header.to_bytes());
                frame.extend_from_slice(&chain);
            }
            _ => panic!("{} and {} do not talk", self.source, self.destination),
        }
        frame.extend_from_slice(&segment);
        frame
    }

    fn ethernet(&self) -> Vec<u8> {
        let inner = if self.source.is_ipv4() {
            EtherType::IPV4
        } else {
            EtherType::IPV6
        };
        let header = Ethernet2Header {
            source: self.source_mac,
            destination: self.destination_mac,
            ether_type: match self.tag {
                Some(_) => EtherType::VLAN_TAGGED_FRAME,
                None => inner,
            },
        };
        let mut frame = header.to_bytes().to_vec();
        if let Some(tci) = self.tag {
            frame.extend_from_slice(&tci.to_be_bytes());
            frame.extend_from_slice(&inner.0.to_be_bytes());
        }
        frame
    }

    /// The first protocol number and the bytes of all extension headers.
    fn chain(&self, protocol: IpNumber) -> (IpNumber, Vec<u8>) {
        let numbers = self.extensions.iter().map(|(number, _)| IpNumber(*number));
        let mut numbers = numbers.chain([protocol]);
        let first = numbers.next().unwrap_or(protocol);
        let mut chain = Vec::new();
        for ((_, bytes), next) in self.extensions.iter().zip(numbers) {
            chain.push(next.0);
            chain.extend_from_slice(&bytes[1..]);
        }
        (first, chain)
    }

    /// Everything above IP.
    fn segment(&self) -> (IpNumber, Vec<u8>) {
        match self.transport {
            Transport::Tcp(fields) => (IpNumber::TCP, self.tcp_segment(fields)),
            Transport::Udp { has_checksum } => (IpNumber::UDP, self.datagram(has_checksum)),
            Transport::Icmp { kind, code } => self.message(kind, code),
        }
    }

    fn tcp_segment(&self, fields: Fields) -> Vec<u8> {
        let mut header = TcpHeader::new(
            self.source.port(),
            self.destination.port(),
            fields.sequence,
            fields.window,
        );
        header.acknowledgment_number = fields.acknowledgement;
        header.fin = fields.flags & FIN != 0;
        header.syn = fields.flags & SYN != 0;
        header.rst = fields.flags & RST != 0;
        header.psh = fields.flags & PSH != 0;
        header.ack = fields.flags & ACK != 0;
        if !self.tcp_options.is_empty() {
            header.options = TcpOptions::try_from_slice(&self.tcp_options).expect("options fit");
        } else if fields.has_options {
            // Two paddings and a timestamp.
            let bytes = [1, 1, 8, 10, 0, 1, 2, 3, 4, 5, 6, 7];
            header.options = TcpOptions::try_from_slice(&bytes).expect("twelve bytes");
        }
        let checksum = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                header.calc_checksum_ipv4_raw(source.octets(), destination.octets(), &self.payload)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                header.calc_checksum_ipv6_raw(source.octets(), destination.octets(), &self.payload)
            }
            _ => panic!("{} and {} do not talk", self.source, self.destination),
        };
        header.checksum = checksum.expect("the payload fits");
        [&header.to_bytes(), &self.payload[..]].concat()
    }

    fn datagram(&self, has_checksum: bool) -> Vec<u8> {
        let mut header = UdpHeader {
            source_port: self.source.port(),
            destination_port: self.destination.port(),
            length: (8 + self.payload.len()) as u16,
            checksum: 0,
        };
        if has_checksum {
            let checksum = match (self.source.ip(), self.destination.ip()) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => header.calc_checksum_ipv4_raw(
                    source.octets(),
                    destination.octets(),
                    &self.payload,
                ),
                (IpAddr::V6(source), IpAddr::V6(destination)) => header.calc_checksum_ipv6_raw(
                    source.octets(),
                    destination.octets(),
                    &self.payload,
                ),
                _ => panic!("{} and {} do not talk", self.source, self.destination),
            };
            header.checksum = checksum.expect("the payload fits");
        }
        [&header.to_bytes(), &self.payload[..]].concat()
    }

    /// An ICMP or ICMPv6 message whose second four bytes are 0.
    fn message(&self, kind: u8, code: u8) -> (IpNumber, Vec<u8>) {
        let mut message = [&[kind, code, 0, 0, 0, 0, 0, 0], &self.payload[..]].concat();
        let mut sum = Sum16BitWords::new().add_slice(&message);
        let mut number = IpNumber::ICMP;
        if let (IpAddr::V6(source), IpAddr::V6(destination)) =
            (self.source.ip(), self.destination.ip())
        {
            number = IpNumber::IPV6_ICMP;
            sum = sum
                .add_16bytes(source.octets())
                .add_16bytes(destination.octets())
                .add_4bytes((message.len() as u32).to_be_bytes())
                .add_4bytes([0, 0, 0, number.0]);
        }
        message[2..4].copy_from_slice(&sum.ones_complement().to_ne_bytes());
        (number, message)
    }
}

impl From<Packet> for Vec<u8> {
    fn from(packet: Packet) -> Self {
        packet.bytes()
    }
}

impl From<&Packet> for Vec<u8> {
    fn from(packet: &Packet) -> Self {
        packet.bytes()
    }
}
