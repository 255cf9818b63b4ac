//! One client and one service, and everything that is said between them and about them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use fastrand::Rng;

use crate::{
    ACK, FIN, Fields, Mac, PSH, Packet, RST, SYN, Target, Transport, decapsulate, encapsulate,
    error_about, least_quote, network_offset, verify,
};

/// What a conversation learned from frames that came out.
#[derive(Clone, Debug)]
struct Peer {
    /// The backend.
    backend: SocketAddr,
    backend_mac: Mac,
    /// The client as the backend sees it.
    client: SocketAddr,
    /// The frame.
    frame: Vec<u8>,
}

/// One client and one service.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    target: Target,
    client: SocketAddr,
    client_mac: Mac,
    tag: Option<u16>,
    outer_tag: Option<u16>,
    peer: Option<Peer>,
    /// The last frame that the client got.
    got: Vec<u8>,
    backend_sequence: u32,
    /// Sequence number of the client's last SYN.
    asked: u32,
    /// The SYN cookie that it was answered with.
    cookie: Option<u32>,
    step: u8,
}

impl Talk {
    pub(crate) fn new(rng: &mut Rng, targets: &[Target]) -> Self {
        let target = targets[rng.usize(..targets.len())];
        let host = rng.u8(1..60);
        // Few ports, so that one is used again while its old flow is still known.
        let port = match rng.u8(..60) {
            0 => 0,
            _ => 40_000 + rng.u16(..8),
        };
        let mut client: SocketAddr = if target.address.is_ipv4() {
            ([198, 51, 100, host], port).into()
        } else {
            let host = u16::from(host);
            ([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, host], port).into()
        };
        if rng.u8(..50) == 0 {
            client.set_ip(target.address.ip());
        }
        let tag = (rng.u8(..4) == 0).then(|| rng.u16(..));
        Self {
            target,
            client,
            client_mac: [2, 0, 0, 0, 1, rng.u8(..4)],
            tag,
            outer_tag: tag.filter(|_| rng.bool()).map(|_| rng.u16(..)),
            peer: None,
            got: Vec::new(),
            backend_sequence: rng.u32(..),
            asked: 0,
            cookie: None,
            step: 0,
        }
    }

    /// Takes the client of another one, if that can talk to this one's service.
    pub(crate) fn share_client(&mut self, other: &Self) {
        if self.client.is_ipv4() == other.client.is_ipv4() {
            self.client = other.client;
        }
    }

    /// Learns the backend from a frame that went to it.
    pub(crate) fn sent(&mut self, frame: &[u8]) {
        let inner = decapsulate(frame);
        let Ok(seen) = verify(inner.as_deref().unwrap_or(frame)) else {
            return;
        };
        if let (Some((client, backend)), Some((client_port, port))) = (seen.addresses, seen.ports)
            && let Ok(backend_mac) = Mac::try_from(&frame[..6])
        {
            self.peer = Some(Peer {
                backend: (backend, port).into(),
                backend_mac,
                client: (client, client_port).into(),
                frame: frame.to_vec(),
            });
        }
    }

    /// Remembers a frame that the client got.
    pub(crate) fn got(&mut self, frame: &[u8]) {
        self.got = frame.to_vec();
    }

    /// Learns the cookie in a SYN-ACK that the balancer made.
    pub(crate) fn got_cookie(&mut self, frame: &[u8]) {
        let header = network_offset(frame);
        let sequence = header + if self.client.is_ipv4() { 20 } else { 40 } + 4;
        let bytes = frame.get(sequence..sequence + 4);
        self.cookie = bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_be_bytes);
        self.step = 2;
    }

    /// The next frame, as a host or router sends it.
    pub(crate) fn frame(&mut self, rng: &mut Rng, balancer: Mac) -> Vec<u8> {
        let mut frame = match rng.u8(..24) {
            0 => self.error_for_client(rng, balancer),
            1 => self.error_for_backend(rng, balancer),
            2 => Some(self.message(rng, balancer)),
            3 if rng.u8(..4) == 0 => Some(self.tunnelled(rng, balancer)),
            _ => None,
        }
        .unwrap_or_else(|| self.packet(rng, balancer).bytes());
        if let Some(tci) = self.outer_tag
            && frame[12..14] == [0x81, 0]
            && rng.u8(..10) > 0
        {
            let kind = if tci & 1 == 0 { 0x8100 } else { 0x88a8_u16 };
            let [a, b] = kind.to_be_bytes();
            let [c, d] = tci.to_be_bytes();
            frame.splice(12..12, [a, b, c, d]);
        }
        frame
    }

    /// A packet with a payload of that length.
    pub(crate) fn large(&mut self, rng: &mut Rng, balancer: Mac, length: usize) -> Vec<u8> {
        let mut packet = self.packet(rng, balancer);
        packet.payload.resize(length, 0x55);
        packet.bytes()
    }

    /// A packet of the client did not get through to its backend.
    fn error_for_client(&self, rng: &mut Rng, balancer: Mac) -> Option<Vec<u8>> {
        let peer = self.peer.as_ref()?;
        let by_backend = rng.bool() && peer.backend.is_ipv4() == peer.client.is_ipv4();
        let from = if by_backend {
            peer.backend.ip()
        } else {
            self.router(rng)
        };
        let quoted = decapsulate(&peer.frame);
        let quoted = quoted.as_deref().unwrap_or(&peer.frame);
        let packet = self.error(rng, quoted, from, peer.client.ip());
        Some(packet.macs(peer.backend_mac, balancer).bytes())
    }

    /// A packet of the backend did not get through to its client.
    fn error_for_backend(&self, rng: &mut Rng, balancer: Mac) -> Option<Vec<u8>> {
        let made;
        let quoted = if self.got.is_empty() || rng.u8(..3) == 0 {
            let fields = self.backend_fields(rng, ACK | PSH);
            made = self
                .above_ip(self.target.address, self.client, fields)
                .payload(vec![7; rng.usize(..40)])
                .bytes();
            &made
        } else {
            &self.got
        };
        let from = if rng.bool() {
            self.client.ip()
        } else {
            self.router(rng)
        };
        let packet = self.error(rng, quoted, from, self.target.address.ip());
        let mut packet = packet.macs(self.client_mac, balancer);
        packet.tag = self.tag;
        Some(packet.bytes())
    }

    fn error(&self, rng: &mut Rng, quoted: &[u8], from: IpAddr, to: IpAddr) -> Packet {
        let is_v4 = to.is_ipv4();
        let kinds: &[(u8, u8)] = if is_v4 {
            &[(3, 4), (3, 1), (3, 3), (11, 0), (12, 0), (5, 0)]
        } else {
            &[(2, 0), (1, 4), (3, 0), (4, 1)]
        };
        let kind = kinds[rng.usize(..kinds.len())];
        let least = least_quote(is_v4);
        let length = match rng.u8(..6) {
            0 => rng.usize(..least),
            1 | 2 => least,
            _ => least + rng.usize(..600),
        };
        let mut packet = error_about(quoted, from, to, kind, length);
        packet.hop_limit = if rng.u8(..20) == 0 { 1 } else { 60 };
        if rng.u8(..12) == 0 {
            packet.payload = (0..length).map(|_| rng.u8(..)).collect();
        }
        packet
    }

    fn router(&self, rng: &mut Rng) -> IpAddr {
        let host = rng.u8(..);
        if self.client.is_ipv4() {
            [192, 0, 2, host].into()
        } else {
            [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, u16::from(host)].into()
        }
    }

    /// A ping, mostly, or another message to the service.
    fn message(&self, rng: &mut Rng, balancer: Mac) -> Vec<u8> {
        let (request, others): (u8, &[u8]) = match self.client {
            SocketAddr::V4(_) => (8, &[0, 13, 9]),
            SocketAddr::V6(_) => (128, &[129, 133, 135]),
        };
        let kind = match rng.u8(..4) {
            0 => others[rng.usize(..others.len())],
            _ => request,
        };
        let mut packet = Packet::new(
            self.client,
            self.target.address,
            Transport::Icmp { kind, code: 0 },
        )
        .macs(self.client_mac, balancer)
        .payload(vec![0xff; rng.usize(..200)]);
        packet.tag = self.tag;
        packet.bytes()
    }

    /// The client tunnels something to the service itself.
    fn tunnelled(&mut self, rng: &mut Rng, balancer: Mac) -> Vec<u8> {
        let inner = self.packet(rng, balancer).bytes();
        encapsulate(&inner, self.client.ip(), self.target.address.ip())
    }

    fn packet(&mut self, rng: &mut Rng, balancer: Mac) -> Packet {
        let peer = self.peer.clone().filter(|_| self.target.is_answered);
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
            // The backend of one with a cookie answers a packet later.
            3 if self.cookie.is_some() => (true, SYN | ACK),
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
        let mut packet = match peer.filter(|_| by_backend) {
            Some(peer) => self
                .above_ip(peer.backend, peer.client, self.backend_fields(rng, flags))
                .macs(peer.backend_mac, balancer),
            None => {
                let fields = self.client_fields(rng, flags);
                if flags & (SYN | ACK) == SYN {
                    self.asked = fields.sequence;
                    self.cookie = None;
                }
                self.above_ip(self.client, self.target.address, fields)
                    .macs(self.client_mac, balancer)
            }
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
                Ipv6Addr::LOCALHOST.into()
            };
            packet.source.set_ip(forged);
        }
        packet.hop_limit = if rng.u8(..30) == 0 { rng.u8(..3) } else { 64 };
        packet.traffic_class = rng.u8(..);
        packet.identification = rng.u16(..);
        packet.dont_fragment = rng.u8(..4) > 0;
        if rng.bool() {
            let length = [0, 1, 2, 7, 64, 513, 1400][rng.usize(..7)];
            packet.payload = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
        }
        if !self.target.starts.is_empty() && rng.bool() {
            let start = self.target.starts[rng.usize(..self.target.starts.len())];
            let random = std::iter::repeat_with(|| rng.u8(..)).take(24);
            packet.payload = start.iter().copied().chain(random).collect();
        }
        if flags & SYN != 0 && self.target.is_tcp && rng.u8(..4) > 0 {
            packet.tcp_options = segment_size(rng);
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
        let fits = self.cookie.unwrap_or(self.backend_sequence).wrapping_add(1);
        let random = rng.u32(..);
        let sequence = match self.cookie {
            Some(_) if flags & SYN == 0 && !random.is_multiple_of(4) => self.asked.wrapping_add(1),
            Some(_) | None => random,
        };
        Fields {
            flags,
            sequence,
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

/// TCP options with a maximum segment size, at an even or an odd place; some of them are broken.
fn segment_size(rng: &mut Rng) -> Vec<u8> {
    let [high, low] = [536, 1220, 1460, 8960, rng.u16(..)][rng.usize(..5)].to_be_bytes();
    match rng.u8(..6) {
        0 => vec![1, 2, 4, high, low, 1, 1, 0],
        1 => vec![8, 10, 0, 1, 2, 3, 4, 5, 6, 7, 2, 4, high, low, 0, 0],
        2 => vec![2, rng.u8(..), high, low],
        3 => vec![1, 1, 1, 2, 4, high, low, 1],
        _ => vec![2, 4, high, low, 4, 2, 1, 1],
    }
}
