//! Bytes become a story.
//!
//! Every byte string is one, and small changes of the bytes are small changes of the story, which
//! is what a fuzzer needs to make headway.

mod world;

use std::net::{IpAddr, SocketAddr};

use lb_common::{
    abi::{Protocol, Ticks},
    flow::FlowView,
    host::{HostTables, INGRESS, MAC_BALANCER, MAC_CLIENT},
    verdict::Verdict,
};
use lb_packets::{
    ACK, Fields, Packet, Piece, SYN, Transport, cut, decapsulate, encapsulate, error_about,
    fragment, least_quote, payload_length,
};

pub use world::OTHER_INTERFACE;
use world::{MAC_OTHER, Target};

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
    services: Vec<Target>,
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
        let (policies, more) = (self.byte(), self.byte());
        let (tables, services) = world::build(policies, more);
        self.services = services;
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
        let bytes = match kind & 31 {
            0..=5 => self.clients_frame(ingress),
            6..=9 => self.backends_frame(tables, ingress),
            10 => {
                let patched = self.clients_frame(ingress);
                self.patch(patched)
            }
            11 => {
                let patched = self.backends_frame(tables, ingress);
                self.patch(patched)
            }
            12 => {
                let length = usize::from(self.byte()) * 2;
                self.take(length).to_vec()
            }
            13 => self.last_out.clone(),
            14 => {
                let patched = self.last_steered.clone();
                self.patch(patched)
            }
            15 | 16 => self.error_by_backend(ingress),
            17 | 18 => self.error_by_client(tables, ingress),
            19 => self.message(ingress),
            20 | 21 => {
                let whole = self.clients_frame(ingress);
                self.piece(&whole)
            }
            22 => {
                let whole = self.backends_frame(tables, ingress);
                self.piece(&whole)
            }
            23 => {
                let whole = self.clients_frame(ingress);
                self.tunnelled(&whole)
            }
            24 => {
                let mut frame = self.clients_frame(ingress);
                let (kind, tci) = (0x88a8_u16.to_be_bytes(), self.byte());
                frame.splice(12..12, [kind[0], kind[1], 0, tci]);
                frame
            }
            25 => {
                let seconds = u32::from(self.byte());
                return Some(Step::Change(Box::new(move |tables| {
                    let now = tables.now.get().0 + Ticks::from_seconds(seconds).0;
                    tables.now.set(Ticks(now));
                })));
            }
            _ => {
                let (what, whom) = (self.byte(), usize::from(self.byte()));
                let change = move |tables: &mut HostTables| world::change(tables, what, whom);
                return Some(Step::Change(Box::new(change)));
            }
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
        let Target { address, protocol } = self.services[usize::from(who) % self.services.len()];
        let version = if address.is_ipv4() { 4 } else { 6 };
        // Few clients, so that their flows meet.
        let client = match who >> 5 {
            7 if flags == 0xff => address,
            number => endpoint(version, 3, number & 1, 40_000 + u16::from(number >> 1)),
        };
        let packet = self.above_ip(client, address, protocol, flags);
        self.dress(packet.macs(MAC_CLIENT, mac_of(ingress)))
    }

    /// A packet the other way: of a flow's backend, or of any.
    fn backends_frame(&mut self, tables: &HostTables, ingress: u32) -> Vec<u8> {
        let (who, flags) = (self.byte(), self.byte());
        let flows: Vec<FlowView> = tables.views().collect();
        let (id, peer) = match flows.get(usize::from(who) % (flows.len() + 1)) {
            Some(view) => (view.flow.backend as usize, peer(tables, view)),
            None => {
                let id = 1 + usize::from(who) % (tables.backends.len() - 1);
                let version = if tables.backends[id].address.is_v4() {
                    4
                } else {
                    6
                };
                (id, endpoint(version, 3, flags >> 6, 40_000))
            }
        };
        let backend = tables.backends[id];
        let source = socket(backend.address.into(), backend.port);
        if source.is_ipv4() != peer.is_ipv4() {
            // It answers directly, in a packet that has nothing to do with us.
            return self.clients_frame(ingress);
        }
        let protocol = Protocol::from_number(backend.protocol).unwrap_or(Protocol::Tcp);
        let packet = self.above_ip(source, peer, protocol, flags);
        self.dress(packet.macs([2, 0, 0, 0, id as u8, 0xb0], mac_of(ingress)))
    }

    /// What was steered last did not get through.
    fn error_by_backend(&mut self, ingress: u32) -> Vec<u8> {
        let sent = self.last_steered.clone();
        let sent = decapsulate(&sent).unwrap_or(sent);
        let Some((from, to)) = ends(&sent) else {
            return self.clients_frame(ingress);
        };
        let packet = self.error(&sent, to, from);
        self.dress(packet.macs([2, 0, 0, 0, 1, 0xb0], mac_of(ingress)))
    }

    /// A flow's service's packet did not get through to the client.
    fn error_by_client(&mut self, tables: &HostTables, ingress: u32) -> Vec<u8> {
        let (who, flags) = (self.byte(), self.byte());
        let flows: Vec<FlowView> = tables.views().collect();
        let Some(view) = flows.get(usize::from(who) % flows.len().max(1)) else {
            return self.clients_frame(ingress);
        };
        let key = view.flow.key;
        let (service, client) = (
            socket(key.service.into(), key.service_port),
            socket(key.client.into(), key.client_port),
        );
        let protocol = Protocol::from_number(key.protocol).unwrap_or(Protocol::Tcp);
        let sent = self
            .above_ip(service, client, protocol, flags)
            .payload(vec![5; 24]);
        let packet = self.error(&sent.bytes(), client.ip(), service.ip());
        self.dress(packet.macs(MAC_CLIENT, mac_of(ingress)))
    }

    fn error(&mut self, about: &[u8], from: IpAddr, to: IpAddr) -> Packet {
        let (how, more) = (self.byte(), self.byte());
        let kinds: [(u8, u8); 4] = if to.is_ipv4() {
            [(3, 4), (3, 3), (11, 0), (12, 0)]
        } else {
            [(2, 0), (1, 4), (3, 0), (4, 1)]
        };
        let from = match (how >> 2 & 3, from.is_ipv4()) {
            (0, true) => IpAddr::from([10, 9, 0, 1]),
            (0, false) => endpoint(6, 9, 1, 0).ip(),
            (1, true) if more == 0xff => [127, 0, 0, 1].into(),
            _ => from,
        };
        let least = least_quote(to.is_ipv4());
        let length = match how >> 4 & 3 {
            0 => least,
            1 => least - 1,
            2 => least + usize::from(more),
            _ => 600,
        };
        error_about(about, from, to, kinds[usize::from(how & 3)], length)
    }

    /// A ping, or another message that is no error.
    fn message(&mut self, ingress: u32) -> Vec<u8> {
        let (who, kind) = (self.byte(), self.byte());
        let address = self.services[usize::from(who) % self.services.len()].address;
        let (version, request) = if address.is_ipv4() { (4, 8) } else { (6, 128) };
        let client = endpoint(version, 3, who >> 5 & 3, 0);
        let kind = if kind & 1 == 0 { request } else { kind };
        let packet = Packet::new(client, address, Transport::Icmp { kind, code: 0 });
        self.dress(packet.macs(MAC_CLIENT, mac_of(ingress)))
    }

    /// One piece of a packet.
    fn piece(&mut self, whole: &[u8]) -> Vec<u8> {
        let (which, how) = (self.byte(), self.byte());
        let pieces = cut(payload_length(whole).unwrap_or(0), 24);
        let Some(piece) = pieces.get(usize::from(which) % pieces.len().max(1)) else {
            return whole.to_vec();
        };
        let piece = Piece {
            more: piece.more ^ (how & 4 != 0),
            ..*piece
        };
        fragment(whole, u32::from(how & 3), piece).unwrap_or_else(|| whole.to_vec())
    }

    /// Tunnels in tunnels: a packet in another one to the service itself.
    fn tunnelled(&mut self, frame: &[u8]) -> Vec<u8> {
        match ends(frame) {
            Some((from, to)) => encapsulate(frame, from, to),
            None => frame.to_vec(),
        }
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
        if how & 32 != 0 {
            let (kind, size) = (self.byte(), self.byte());
            let option = [2, 4, size, kind];
            packet.tcp_options = match kind & 3 {
                0 => option.to_vec(),
                1 => [&[1], &option[..], &[1, 1, 1]].concat(),
                2 => [&[1, 1, 1], &option[..], &[0]].concat(),
                _ => vec![kind, size, kind, size],
            };
        }
        if how & 64 != 0 {
            // A QUIC packet that names a backend, or none.
            let name = self.byte();
            let starts: [&[u8]; 4] = [
                &[0x40, 1, name & 3],
                &[0xe0, 0, 0, 0, 1, 8, 1, name & 3],
                &[0x40, 0xe1, name & 3],
                &[0xc0, 0, 0, 0, 1, 8, 1, name & 3],
            ];
            packet.payload = starts[usize::from(name >> 6)].to_vec();
            packet.payload.resize(32, name);
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
}

fn mac_of(interface: u32) -> lb_packets::Mac {
    if interface == INGRESS {
        MAC_BALANCER
    } else {
        MAC_OTHER
    }
}

/// An endpoint as tables hold it.
fn socket(address: IpAddr, port: u16) -> SocketAddr {
    (address, u16::from_be(port)).into()
}

/// A flow's client as its backend sees it.
fn peer(tables: &HostTables, view: &FlowView) -> SocketAddr {
    let path = view.flow.path;
    if path.has_source() {
        let address = tables.sources[usize::from(path.address())];
        return socket(address.into(), path.port());
    }
    socket(view.flow.key.client.into(), view.flow.key.client_port)
}

/// Sender and receiver of a frame.
fn ends(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let ip = frame.get(lb_packets::network_offset(frame)..)?;
    if ip.first()? >> 4 == 4 {
        let address = |at: usize| Some(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?.into());
        return Some((address(12)?, address(16)?));
    }
    let address = |at: usize| Some(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?.into());
    Some((address(8)?, address(24)?))
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
