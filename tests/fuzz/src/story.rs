//! Bytes become a story.
//!
//! Every byte string is one, and small changes of the bytes are small changes of the story, which
//! is what a fuzzer needs to make headway.

use std::net::SocketAddr;

use lb_common::{
    abi::{Forwarding, OnBackendDown, OnNoBackend, Protocol, Ticks, backend_flags},
    host::{Fixture, HostTables, INGRESS, MAC_BALANCER, MAC_CLIENT},
    verdict::Verdict,
};
use lb_packets::{ACK, Fields, Mac, Packet, SYN, Transport};

/// Another interface than [`INGRESS`].
pub const OTHER_INTERFACE: u32 = 2;
const MAC_OTHER: Mac = [2, 0, 0, 0, 0, 0x2b];

/// What happens next.
pub enum Step {
    /// A frame comes in.
    Frame {
        /// The frame.
        bytes: Vec<u8>,
        /// The interface.
        ingress: u32,
    },
    /// The agent changes something, or time goes by.
    Change(Box<dyn FnOnce(&mut HostTables)>),
}

impl std::fmt::Debug for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Frame { bytes, ingress } => formatter
                .debug_struct("Frame")
                .field("bytes", bytes)
                .field("ingress", ingress)
                .finish(),
            Self::Change(_) => formatter.write_str("Change"),
        }
    }
}

/// The bytes that are left, and what was seen.
#[derive(Debug)]
pub struct Story<'i> {
    input: &'i [u8],
    services: Vec<(SocketAddr, Protocol)>,
    last_out: Vec<u8>,
    last_steered: Vec<u8>,
}

impl<'i> Story<'i> {
    /// A story told by these bytes.
    #[must_use]
    pub fn new(input: &'i [u8]) -> Self {
        Self {
            input,
            services: Vec::new(),
            last_out: Vec::new(),
            last_steered: Vec::new(),
        }
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.input.split_first() else {
            return 0;
        };
        self.input = rest;
        *first
    }

    fn take(&mut self, count: usize) -> &'i [u8] {
        let (taken, rest) = self.input.split_at(count.min(self.input.len()));
        self.input = rest;
        taken
    }

    /// Small tables with services of every kind; the first bytes choose among policies.
    pub fn tables(&mut self) -> HostTables {
        let mut fixture = Fixture::with_limits(16, 16);
        for (index, (forwarding, port)) in [(Forwarding::Nat, 8080), (Forwarding::DsrL2, 80)]
            .into_iter()
            .enumerate()
        {
            for (protocol, version) in [
                (Protocol::Tcp, 4),
                (Protocol::Udp, 4),
                (Protocol::Tcp, 6),
                (Protocol::Udp, 6),
            ] {
                let host = index as u8 + 1;
                let service = endpoint(version, 1, host, 80);
                let backends: Vec<_> = (0..2)
                    .map(|n| endpoint(version, 2, 10 * host + n, port))
                    .collect();
                fixture.service(service, protocol, forwarding, &backends);
                self.services.push((service, protocol));
            }
        }
        let mut tables = fixture.tables;
        let policies = self.byte();
        for (id, backend) in tables.backends.iter_mut().enumerate() {
            backend.on_backend_down = match (policies as usize + id) % 3 {
                0 => OnBackendDown::Reschedule,
                1 => OnBackendDown::Reset,
                _ => OnBackendDown::Hold,
            } as u8;
        }
        for service in tables.services.values_mut() {
            service.on_no_backend = match (u32::from(policies) / 3 + service.id) % 3 {
                0 => OnNoBackend::Reset,
                1 => OnNoBackend::Unreachable,
                _ => OnNoBackend::Drop,
            } as u8;
        }
        // Some ways lead elsewhere.
        for (index, hop) in tables.next_hops.iter_mut().enumerate().skip(1) {
            if policies >> 4 & 3 == index as u8 & 3 {
                (hop.ifindex, hop.mtu, hop.source) = (OTHER_INTERFACE, 1000, MAC_OTHER);
            }
        }
        let mut interface = tables.interfaces[&INGRESS];
        interface.mac = MAC_OTHER;
        interface.mtu = 1000;
        tables.interfaces.insert(OTHER_INTERFACE, interface);
        tables
    }

    /// What happens next; nothing once the bytes are used up.
    pub fn next(&mut self, tables: &HostTables) -> Option<Step> {
        if self.input.is_empty() {
            return None;
        }
        let kind = self.byte();
        let ingress = if kind & 0x80 == 0 {
            INGRESS
        } else {
            OTHER_INTERFACE
        };
        let bytes = match kind & 15 {
            0..=5 => self.clients_frame(ingress),
            6..=8 => self.backends_frame(tables, ingress),
            9 => {
                let patched = self.clients_frame(ingress);
                self.patch(patched)
            }
            10 => {
                let patched = self.backends_frame(tables, ingress);
                self.patch(patched)
            }
            11 => {
                let length = usize::from(self.byte()) * 2;
                self.take(length).to_vec()
            }
            12 => self.last_out.clone(),
            13 => {
                let patched = self.last_steered.clone();
                self.patch(patched)
            }
            14 => {
                let seconds = u32::from(self.byte());
                return Some(Step::Change(Box::new(move |tables| {
                    let now = tables.now.get().0 + Ticks::from_seconds(seconds).0;
                    tables.now.set(Ticks(now));
                })));
            }
            _ => return Some(self.change()),
        };
        Some(Step::Frame { bytes, ingress })
    }

    /// Remembers what came out of a frame.
    pub fn saw(&mut self, verdict: Verdict, out: &[u8]) {
        self.last_out = out.to_vec();
        if verdict == Verdict::Steered {
            self.last_steered = out.to_vec();
        }
    }

    fn clients_frame(&mut self, ingress: u32) -> Vec<u8> {
        let (who, flags) = (self.byte(), self.byte());
        let (service, protocol) = self.services[usize::from(who) % self.services.len()];
        let version = if service.is_ipv4() { 4 } else { 6 };
        let client = endpoint(version, 3, who >> 3 & 3, 40_000 + u16::from(who >> 5));
        let mac = if ingress == INGRESS {
            MAC_BALANCER
        } else {
            MAC_OTHER
        };
        let packet = self.above_ip(client, service, protocol, flags);
        self.dress(packet.macs(MAC_CLIENT, mac))
    }

    /// A packet the other way, of whoever the last packet of a client was sent to.
    fn backends_frame(&mut self, tables: &HostTables, ingress: u32) -> Vec<u8> {
        let (who, flags) = (self.byte(), self.byte());
        let id = 1 + usize::from(who) % (tables.backends.len() - 1);
        let backend = tables.backends[id];
        let source: SocketAddr = (
            std::net::IpAddr::from(backend.address),
            u16::from_be(backend.port),
        )
            .into();
        let version = if source.is_ipv4() { 4 } else { 6 };
        let client = endpoint(version, 3, flags >> 6, 40_000 + u16::from(who >> 5));
        let protocol = Protocol::from_number(backend.protocol).unwrap_or(Protocol::Tcp);
        let mac = if ingress == INGRESS {
            MAC_BALANCER
        } else {
            MAC_OTHER
        };
        let packet = self.above_ip(source, client, protocol, flags);
        self.dress(packet.macs([2, 0, 0, 0, id as u8, 0xb0], mac))
    }

    fn above_ip(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        protocol: Protocol,
        flags: u8,
    ) -> Packet {
        let transport = match protocol {
            Protocol::Tcp => Transport::Tcp(Fields {
                flags: match flags & 0x3f {
                    0..=15 => SYN,
                    16..=23 => SYN | ACK,
                    24..=39 => ACK,
                    other => other & 31,
                },
                sequence: u32::from(flags & 7),
                acknowledgement: u32::from(flags & 7) + 1,
                window: 1000,
                has_options: flags & 8 != 0,
            }),
            Protocol::Udp => Transport::Udp {
                has_checksum: flags & 8 != 0,
            },
        };
        Packet::new(source, destination, transport)
    }

    /// Tag, hop limit, payload, options, extension headers.
    fn dress(&mut self, mut packet: Packet) -> Vec<u8> {
        let how = self.byte();
        if how & 1 != 0 {
            packet.tag = Some(u16::from(self.byte()));
        }
        if how & 2 != 0 {
            packet.hop_limit = self.byte();
        }
        if how & 4 != 0 {
            let length = usize::from(self.byte()) * 6;
            packet.payload = vec![how; length];
        }
        if how & 8 != 0 {
            let length = usize::from(self.byte() % 11);
            if packet.source.is_ipv4() {
                packet.options = vec![1; length * 4];
            } else {
                for _ in 0..length {
                    let number = [0, 43, 44, 60][usize::from(self.byte() & 3)];
                    packet.extensions.push((number, vec![0; 8]));
                }
            }
        }
        let mut bytes = packet.bytes();
        if how & 16 != 0 {
            bytes.resize(bytes.len() + usize::from(self.byte()), 0);
        }
        bytes
    }

    /// Writes over some bytes, and cuts or repeats the end.
    fn patch(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.byte() & 3 {
            let (at, value) = (usize::from(self.byte()), self.byte());
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        let cut = self.byte();
        if cut >= 0xc0 {
            frame.truncate(usize::from(cut - 0xc0) + 14);
        } else if cut >= 0xa0 {
            frame.extend(vec![cut; usize::from(cut - 0xa0)]);
        }
        frame
    }

    fn change(&mut self) -> Step {
        let (what, whom) = (self.byte(), usize::from(self.byte()));
        Step::Change(Box::new(move |tables| {
            let id = 1 + whom % (tables.backends.len() - 1);
            let flags = &mut tables.backends[id].flags;
            match what % 6 {
                0 => *flags ^= backend_flags::DOWN,
                1 => *flags ^= backend_flags::USED,
                2 => tables.backends[id].next_hop = 0,
                3 => tables.backends[id].next_hop = id as u32,
                4 => {
                    for service in tables.services.values_mut() {
                        if service.id as usize == whom % 8 {
                            service.slots_len = 2 - service.slots_len.min(2);
                        }
                    }
                }
                _ => tables.backends[id].idle_timeout = whom as u32,
            }
        }))
    }
}

/// Endpoints: network 1 has services, 2 backends, 3 clients.
fn endpoint(version: u8, network: u8, host: u8, port: u16) -> SocketAddr {
    if version == 4 {
        ([10, network, 0, host], port).into()
    } else {
        let (network, host) = (u16::from(network), u16::from(host));
        ([0xfd00, network, 0, 0, 0, 0, 0, host], port).into()
    }
}
