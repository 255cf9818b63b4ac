//! What is known of a packet once it is read.

use crate::{
    abi::Protocol,
    address::Address,
    engine::Hint,
    flow::{ClientLink, FlowKey},
    frame::Frame,
    headers::{Ethernet, Mac, Ports, Tcp, Udp, Vlan, ethertype},
    ip::{Ip, IpInfo},
    tags::Tags,
};

/// The Ethernet header and its tags.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Receiver's MAC.
    pub destination: Mac,
    /// Sender's MAC.
    pub source: Mac,
    /// VLAN tags.
    pub tags: Tags,
    /// EtherType of the payload.
    pub ethertype: u16,
    /// Offset of the payload.
    pub payload: usize,
}

impl Link {
    /// Reads the Ethernet header and up to two tags.
    #[inline(always)]
    pub fn parse<F: Frame>(frame: &mut F) -> Option<Self> {
        const FIRST: usize = size_of::<Ethernet>();
        const SECOND: usize = FIRST + size_of::<Vlan>();
        let ethernet: &mut Ethernet = frame.header(0)?;
        let mut link = Self {
            destination: ethernet.destination,
            source: ethernet.source,
            tags: Tags::NONE,
            ethertype: ethernet.ethertype.get(),
            payload: FIRST,
        };
        if matches!(link.ethertype, ethertype::VLAN | ethertype::SERVICE_VLAN) {
            let is_service = link.ethertype == ethertype::SERVICE_VLAN;
            let tag = *frame.header::<Vlan>(FIRST)?;
            link.tags = Tags::one(tag.tci.get(), is_service);
            link.ethertype = tag.ethertype.get();
            link.payload = SECOND;
            if link.ethertype == ethertype::VLAN {
                let inner = *frame.header::<Vlan>(SECOND)?;
                link.tags = Tags::two(tag.tci.get(), inner.tci.get(), is_service);
                link.ethertype = inner.ethertype.get();
                link.payload = SECOND + size_of::<Vlan>();
            }
        }
        link.payload = frame.forget(link.payload);
        link.tags = Tags::of_number(frame.forget(link.tags.number() as usize) as u32);
        Some(link)
    }
}

/// A TCP or UDP packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Below IP.
    pub link: Link,
    /// IP.
    pub ip: IpInfo,
    /// Above IP.
    pub ports: Ports,
    /// Whether it is a later fragment, without a TCP or UDP header.
    pub is_later_fragment: bool,
}

/// What a frame is.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// TCP or UDP.
    Packet(Packet),
    /// Something else over IP, or a fragment.
    Control,
    /// TCP or UDP to that address, but its header is cut.
    Cut(Address),
    /// Not to be understood.
    NotIp,
}

impl Packet {
    /// Reads a frame down to its ports.
    #[inline(always)]
    #[must_use]
    pub fn read<I: Ip, F: Frame>(frame: &mut F, hint: Hint) -> Read {
        let Some(link) = Link::parse(frame) else {
            return Read::NotIp;
        };
        let Some(mut ip) = I::parse(frame, link.payload) else {
            return Read::NotIp;
        };
        if Protocol::from_number(ip.protocol).is_none() || (ip.is_fragment && !hint.is_fragment()) {
            return Read::Control;
        }
        // What lies behind the end of the packet is padding and no header.
        let shortest = if hint.is_later_fragment() {
            0
        } else if ip.protocol == Protocol::Tcp as u8 {
            size_of::<Tcp>()
        } else {
            size_of::<Udp>()
        };
        let is_whole = ip.payload - link.payload + shortest <= ip.length as usize;
        let ports = if hint.is_later_fragment() {
            hint.ports()
        } else if let Some(ports) = frame.header::<Ports>(ip.payload).filter(|_| is_whole) {
            ports.word()
        } else {
            return Read::Cut(ip.destination);
        };
        ip.protocol = frame.forget(usize::from(ip.protocol)) as u8;
        let is_later = frame.forget(usize::from(hint.is_later_fragment()));
        Read::Packet(Self {
            link,
            ip,
            ports: Ports::of_word(frame.forget(ports as usize) as u32),
            is_later_fragment: is_later & 1 != 0,
        })
    }

    /// Whether it is TCP; else it is UDP.
    #[inline(always)]
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.ip.protocol == Protocol::Tcp as u8
    }

    /// The key of its flow, if a client sent it.
    #[inline(always)]
    #[must_use]
    pub fn key(&self) -> FlowKey {
        FlowKey {
            client: self.ip.source,
            client_port: self.ports.source.get(),
            service: self.ip.destination,
            service_port: self.ports.destination.get(),
            protocol: self.ip.protocol,
        }
    }

    /// Eight bits of the MAC it is addressed to, see [`crate::flow::FlowEntry::was_addressed_to`].
    #[inline(always)]
    #[must_use]
    pub fn own_mac(&self) -> u8 {
        let [a, b, c, d, e, f] = self.link.destination;
        a ^ b ^ c ^ d ^ e ^ f
    }

    /// The way back to its sender.
    #[inline(always)]
    #[must_use]
    pub fn client_link(&self, ingress: u32) -> ClientLink {
        ClientLink {
            mac: self.link.source,
            tags: self.link.tags,
            ingress,
        }
    }
}
