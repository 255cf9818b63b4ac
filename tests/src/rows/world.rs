//! Who talks to whom in a row: a client, a service and three backends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::{
    abi::{Forwarding, Protocol},
    host::{Fixture, INGRESS, MAC_BACKEND, MAC_BALANCER, MAC_CLIENT},
};
use lb_packets::{ACK, Fields, Packet, SYN};

use super::{Expect, Row};

/// Initial sequence number of clients.
pub const CLIENT_SEQUENCE: u32 = 1000;
/// Initial sequence number of backends; its successor wraps around.
pub const BACKEND_SEQUENCE: u32 = u32::MAX;

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// A service with three backends, and the packets between everybody.
#[derive(Clone, Debug)]
pub struct World {
    /// IP version of everybody.
    pub family: Family,
    /// Of the service.
    pub protocol: Protocol,
    /// Of the service.
    pub forwarding: Forwarding,
    /// The service.
    pub service: SocketAddr,
    /// Its backends, in their order. Their ids count from 1.
    pub backends: Vec<SocketAddr>,
}

impl World {
    /// A world with `nat` and a port change.
    #[must_use]
    pub fn nat(family: Family, protocol: Protocol) -> Self {
        Self {
            family,
            protocol,
            forwarding: Forwarding::Nat,
            service: family.service(10, 80),
            backends: (11..14).map(|host| family.backend(host, 8080)).collect(),
        }
    }

    /// A world with `dsr-l2`.
    #[must_use]
    pub fn dsr(family: Family, protocol: Protocol) -> Self {
        Self {
            forwarding: Forwarding::DsrL2,
            backends: (11..14).map(|host| family.backend(host, 80)).collect(),
            ..Self::nat(family, protocol)
        }
    }

    /// `nat` in all four combinations.
    #[must_use]
    pub fn all_nat() -> Vec<Self> {
        Self::combine(&[Protocol::Tcp, Protocol::Udp], Self::nat)
    }

    /// `nat` for TCP, in both families.
    #[must_use]
    pub fn tcp_nat() -> Vec<Self> {
        Self::combine(&[Protocol::Tcp], Self::nat)
    }

    /// `nat` for UDP, in both families.
    #[must_use]
    pub fn udp_nat() -> Vec<Self> {
        Self::combine(&[Protocol::Udp], Self::nat)
    }

    /// `dsr-l2` in all four combinations.
    #[must_use]
    pub fn all_dsr() -> Vec<Self> {
        Self::combine(&[Protocol::Tcp, Protocol::Udp], Self::dsr)
    }

    fn combine(protocols: &[Protocol], make: impl Fn(Family, Protocol) -> Self) -> Vec<Self> {
        let families = [Family::V4, Family::V6];
        families
            .iter()
            .flat_map(|family| protocols.iter().map(|protocol| make(*family, *protocol)))
            .collect()
    }

    /// Whether the service is TCP.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.protocol == Protocol::Tcp
    }

    /// A row whose name begins like `V6 Udp Nat: …`.
    #[must_use]
    pub fn row(&self, description: &str) -> Row {
        let world = self.clone();
        let Self {
            family,
            protocol,
            forwarding,
            ..
        } = self;
        let name = format!("{family:?} {protocol:?} {forwarding:?}: {description}");
        Row::new(name, move || world.fixture())
    }

    /// Tables with the service.
    #[must_use]
    pub fn fixture(&self) -> Fixture {
        let mut fixture = Fixture::default();
        self.add_to(&mut fixture);
        fixture
    }

    /// Adds the service and returns the ids of its backends.
    pub fn add_to(&self, fixture: &mut Fixture) -> Vec<u32> {
        fixture.service(self.service, self.protocol, self.forwarding, &self.backends)
    }

    /// One of very many clients.
    #[must_use]
    pub fn client(&self, number: u32) -> SocketAddr {
        self.family.client(number)
    }

    /// A packet of a client; TCP if the service is.
    #[must_use]
    pub fn from_client(&self, client: SocketAddr, flags: u8) -> Packet {
        let fields = Fields {
            flags,
            sequence: CLIENT_SEQUENCE + u32::from(flags & SYN == 0),
            acknowledgement: match flags & ACK {
                0 => 0,
                _ => BACKEND_SEQUENCE.wrapping_add(1),
            },
            window: 64240,
            has_options: false,
        };
        let packet = match self.protocol {
            Protocol::Tcp => Packet::tcp(client, self.service, fields),
            Protocol::Udp => Packet::udp(client, self.service).payload(*b"question"),
        };
        packet.macs(MAC_CLIENT, MAC_BALANCER)
    }

    /// A packet of a backend to a client; TCP if the service is.
    #[must_use]
    pub fn from_backend(&self, backend: usize, client: SocketAddr, flags: u8) -> Packet {
        let fields = Fields {
            flags,
            sequence: BACKEND_SEQUENCE.wrapping_add(u32::from(flags & SYN == 0)),
            acknowledgement: CLIENT_SEQUENCE + 1,
            window: 65160,
            has_options: false,
        };
        let source = self.backends[backend];
        let packet = match self.protocol {
            Protocol::Tcp => Packet::tcp(source, client, fields),
            Protocol::Udp => Packet::udp(source, client).payload(*b"the answer"),
        };
        packet.macs(self.backend_mac(backend), MAC_BALANCER)
    }

    /// The MAC of a backend, or of the router to it.
    #[must_use]
    pub fn backend_mac(&self, backend: usize) -> [u8; 6] {
        let mut mac = MAC_BACKEND;
        mac[4] = backend as u8 + 1;
        mac
    }

    /// What a packet of a client looks like when it leaves for a backend.
    #[must_use]
    pub fn to_backend(&self, packet: &Packet, backend: usize) -> Packet {
        let mut packet = packet
            .clone()
            .macs(MAC_BALANCER, self.backend_mac(backend))
            .hop_limit(packet.hop_limit - 1);
        // The fixture's next hops have no tag, whatever the client's packets had.
        packet.tag = None;
        if self.forwarding == Forwarding::Nat {
            packet.destination = self.backends[backend];
        }
        packet
    }

    /// What a packet of a backend looks like when it leaves for its client.
    #[must_use]
    pub fn to_client(&self, packet: &Packet) -> Packet {
        Packet {
            source: self.service,
            ..packet
                .clone()
                .macs(MAC_BALANCER, MAC_CLIENT)
                .hop_limit(packet.hop_limit - 1)
        }
    }

    /// Adds a packet of a client that goes to a backend.
    #[must_use]
    pub fn forward(&self, row: Row, packet: &Packet, backend: usize) -> Row {
        row.send(packet, Expect::steered(self.to_backend(packet, backend)))
    }

    /// Adds a packet of a backend that goes to its client.
    #[must_use]
    pub fn reply(&self, row: Row, packet: &Packet) -> Row {
        row.send(packet, Expect::replied(self.to_client(packet)))
    }

    /// Adds a client's first packet, which goes to that backend.
    #[must_use]
    pub fn open(&self, row: Row, client: SocketAddr, backend: usize) -> Row {
        self.forward(row, &self.from_client(client, SYN), backend)
    }

    /// Adds what proves a flow: a handshake, or a datagram and its answer. With direct return only
    /// the client's side passes here.
    #[must_use]
    pub fn establish(&self, row: Row, client: SocketAddr, backend: usize) -> Row {
        let mut row = self.open(row, client, backend);
        if self.forwarding == Forwarding::Nat {
            row = self.reply(row, &self.from_backend(backend, client, SYN | ACK));
        }
        self.forward(row, &self.from_client(client, ACK), backend)
    }
}

impl Family {
    fn address(self, v4: [u8; 4], v6: [u16; 8]) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from(v4).into(),
            Self::V6 => Ipv6Addr::from(v6).into(),
        }
    }

    /// An endpoint among the services.
    #[must_use]
    pub fn service(self, host: u8, port: u16) -> SocketAddr {
        let v6 = [0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()];
        (self.address([203, 0, 113, host], v6), port).into()
    }

    /// An endpoint among the backends.
    #[must_use]
    pub fn backend(self, host: u8, port: u16) -> SocketAddr {
        let v6 = [0xfd00, 0, 0, 0, 0, 0, 0, host.into()];
        (self.address([10, 0, 0, host], v6), port).into()
    }

    /// An endpoint among the clients.
    #[must_use]
    pub fn client(self, number: u32) -> SocketAddr {
        let [a, b, c, d] = number.to_be_bytes();
        let v4 = [198, 18 + (b & 1), c, d];
        let low = u16::from_be_bytes([c, d]);
        let v6 = [
            0x2001,
            0xdb8,
            0xc11e,
            u16::from_be_bytes([a, b]),
            0,
            0,
            0,
            low,
        ];
        (self.address(v4, v6), 40_000 + (number % 20_000) as u16).into()
    }

    /// EtherType.
    #[must_use]
    pub fn ethertype(self) -> u16 {
        match self {
            Self::V4 => 0x0800,
            Self::V6 => 0x86dd,
        }
    }
}

/// Interface by which everything comes in unless a row says otherwise.
pub const HERE: u32 = INGRESS;
/// Another interface.
pub const ELSEWHERE: u32 = 7;
