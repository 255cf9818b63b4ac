//! Endless traffic: conversations that make sense, and frames that are broken.

use std::net::SocketAddr;

use fastrand::Rng;

use crate::{ACK, FIN, Fields, Mac, PSH, Packet, RST, SYN, Transport, mutate::mutate, verify};

/// A service as its clients see it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The service.
    pub address: SocketAddr,
    /// TCP, or else UDP.
    pub is_tcp: bool,
    /// Whether backends' answers come back by the balancer.
    pub is_answered: bool,
}

/// A frame and where it came from.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The frame.
    pub frame: Vec<u8>,
    /// Its conversation, for [`Traffic::learn`].
    pub talk: usize,
    /// Whether it is as a host would send it.
    pub is_whole: bool,
}

/// One client and one service.
#[derive(Clone, Debug)]
struct Talk {
    target: Target,
    client: SocketAddr,
    client_mac: Mac,
    tag: Option<u16>,
    backend: Option<(SocketAddr, Mac)>,
    backend_sequence: u32,
    step: u8,
}

/// A source of frames that depends on nothing but its seed and on what it is told to learn.
#[derive(Debug)]
pub struct Traffic {
    rng: Rng,
    targets: Vec<Target>,
    talks: Vec<Talk>,
    last: Vec<u8>,
    balancer: Mac,
    /// How many of a hundred frames are broken.
    pub broken_percent: u8,
}

const TALKS: usize = 400;

impl Traffic {
    /// Traffic to those services of the balancer with that MAC.
    #[must_use]
    pub fn new(seed: u64, targets: Vec<Target>, balancer: Mac) -> Self {
        let mut rng = Rng::with_seed(seed);
        let talks = (0..TALKS).map(|_| Talk::new(&mut rng, &targets)).collect();
        Self {
            rng,
            targets,
            talks,
            last: Vec::new(),
            balancer,
            broken_percent: 35,
        }
    }

    /// The next frame.
    pub fn send(&mut self) -> Sent {
        let rng = &mut self.rng;
        let talk = rng.usize(..TALKS);
        // Some talks are over, and others begin.
        if rng.u8(..40) == 0 {
            self.talks[talk] = Talk::new(rng, &self.targets);
        }
        let packet = self.talks[talk].packet(rng, self.balancer);
        let mut frame = packet.bytes();
        if rng.u8(..10) == 0 {
            frame.resize(frame.len().max(60), 0);
        }
        let is_whole = rng.u8(..100) >= self.broken_percent;
        let whole = frame.clone();
        if !is_whole {
            mutate(rng, &mut frame, &self.last);
        }
        self.last = whole;
        Sent {
            frame,
            talk,
            is_whole,
        }
    }

    /// A conversation learns its backend from a packet that was steered to it.
    pub fn learn(&mut self, talk: usize, left: &[u8]) {
        let talk = &mut self.talks[talk];
        let Ok(seen) = verify(left) else {
            return;
        };
        if let (Some((_, address)), Some((_, port))) = (seen.addresses, seen.ports)
            && let Ok(mac) = Mac::try_from(&left[..6])
        {
            talk.backend = Some(((address, port).into(), mac));
        }
    }
}

impl Talk {
    fn new(rng: &mut Rng, targets: &[Target]) -> Self {
        let target = targets[rng.usize(..targets.len())];
        let host = rng.u8(1..60);
        // Few ports, so that one is used again while its old flow is still known.
        let port = 40_000 + rng.u16(..8);
        let client = if target.address.is_ipv4() {
            ([198, 51, 100, host], port).into()
        } else {
            let host = u16::from(host);
            ([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, host], port).into()
        };
        Self {
            target,
            client,
            client_mac: [2, 0, 0, 0, 1, rng.u8(..4)],
            tag: (rng.u8(..4) == 0).then(|| rng.u16(..)),
            backend: None,
            backend_sequence: rng.u32(..),
            step: 0,
        }
    }

    fn packet(&mut self, rng: &mut Rng, balancer: Mac) -> Packet {
        let answers = self.target.is_answered;
        let backend = self.backend.filter(|_| answers);
        // As a connection would go on, or something else.
        let step = if rng.u8(..5) > 0 {
            self.step
        } else {
            rng.u8(..12)
        };
        self.step = (step + 1).min(if rng.u8(..3) == 0 { 12 } else { 6 });
        let (by_backend, flags) = match step {
            0 => (false, SYN),
            1 => (true, SYN | ACK),
            2 => (false, ACK),
            3 | 5 => (false, ACK | PSH),
            4 | 6 => (true, ACK | PSH),
            7 => (false, ACK | FIN),
            8 => (true, ACK | FIN),
            9 => (false, RST),
            10 => (true, RST | ACK),
            _ => {
                self.step = 0;
                (rng.bool(), rng.u8(..32))
            }
        };
        let mut packet = match backend.filter(|_| by_backend) {
            Some((address, mac)) => self
                .above_ip(address, self.client, self.backend_fields(rng, flags))
                .macs(mac, balancer),
            None => self
                .above_ip(
                    self.client,
                    self.target.address,
                    self.client_fields(rng, flags),
                )
                .macs(self.client_mac, balancer),
        };
        packet.tag = match rng.u8(..20) {
            0 => None,
            1 => Some(rng.u16(..)),
            _ => self.tag,
        };
        if rng.u8(..40) == 0 {
            let forged = if packet.source.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            };
            packet.source.set_ip(forged);
        }
        packet.hop_limit = if rng.u8(..30) == 0 { rng.u8(..3) } else { 64 };
        packet.traffic_class = rng.u8(..);
        packet.identification = rng.u16(..);
        if rng.bool() {
            let length = [0, 1, 2, 7, 64, 513, 1400][rng.usize(..7)];
            packet.payload = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
        }
        packet
    }

    fn above_ip(&self, source: SocketAddr, destination: SocketAddr, fields: Fields) -> Packet {
        let transport = if self.target.is_tcp {
            Transport::Tcp(fields)
        } else {
            Transport::Udp {
                has_checksum: !fields.has_options,
            }
        };
        Packet::new(source, destination, transport)
    }

    fn client_fields(&self, rng: &mut Rng, flags: u8) -> Fields {
        let fits = self.backend_sequence.wrapping_add(1);
        Fields {
            flags,
            sequence: rng.u32(..),
            acknowledgement: if rng.u8(..10) == 0 { rng.u32(..) } else { fits },
            window: rng.u16(..),
            has_options: rng.u8(..4) == 0,
        }
    }

    fn backend_fields(&self, rng: &mut Rng, flags: u8) -> Fields {
        Fields {
            flags,
            sequence: self.backend_sequence,
            acknowledgement: rng.u32(..),
            window: rng.u16(..),
            has_options: rng.u8(..4) == 0,
        }
    }
}
