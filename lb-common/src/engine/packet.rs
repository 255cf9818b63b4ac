//! What is known of a packet once it is read.

use crate::{
    abi::Protocol,
    flow::{ClientLink, FlowKey},
    frame::Frame,
    headers::{Ethernet, Mac, Ports, Vlan, ethertype},
    ip::IpInfo,
};

/// The Ethernet header and its tag.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Receiver's MAC.
    pub destination: Mac,
    /// Sender's MAC.
    pub source: Mac,
    /// Tag control information; 0 without a tag.
    pub tci: u16,
    /// Whether there is a tag.
    pub tagged: bool,
    /// EtherType of the payload.
    pub ethertype: u16,
    /// Offset of the payload.
    pub payload: usize,
}

impl Link {
    /// Reads the Ethernet header and one IEEE 802.1Q tag.
    #[inline(always)]
    pub fn parse<F: Frame>(frame: &mut F) -> Option<Self> {
        let ethernet: &mut Ethernet = frame.header(0)?;
        let mut link = Self {
            destination: ethernet.destination,
            source: ethernet.source,
            tci: 0,
            tagged: false,
            ethertype: ethernet.ethertype.get(),
            payload: size_of::<Ethernet>(),
        };
        if link.ethertype == ethertype::VLAN {
            let vlan: &mut Vlan = frame.header(size_of::<Ethernet>())?;
            link.tci = vlan.tci.get();
            link.tagged = true;
            link.ethertype = vlan.ethertype.get();
            link.payload = size_of::<Ethernet>() + size_of::<Vlan>();
        }
        link.payload = frame.forget(link.payload);
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
}

impl Packet {
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
            tci: self.link.tci,
            ingress,
        }
    }
}
