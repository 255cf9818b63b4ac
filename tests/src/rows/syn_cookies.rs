//! `syn_cookies`: a flood is answered with cookies, and who answers one is connected.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use lb_common::verdict::{Event, Verdict};
use lb_packets::{ACK, FIN, Fields, PSH, Packet, RST, SYN, Transport};

use super::{
    Expect, Row,
    world::{BACKEND_SEQUENCE, CLIENT_SEQUENCE, World},
};

/// Half-open flows from which on there are cookies.
const THRESHOLD: u32 = 2;
/// The backend whose turn it is after so many flows.
const NEXT: usize = THRESHOLD as usize;
/// Where the sequence number stands in a TCP header.
const SEQUENCE: usize = 4;
/// What the balancer announces as its window.
const WINDOW: u16 = 14_600;

pub(super) fn rows() -> Vec<Row> {
    World::tcp_nat()
        .iter()
        .flat_map(|world| {
            [
                only_above_the_threshold(world),
                connected(world),
                reset(world),
                early(world),
                of_old(world),
                refused(world),
                unfit(world),
                begins_anew(world),
                segment_size(world),
                quoted(world),
                off(world),
            ]
        })
        .collect()
}

/// A row whose service has as many half-open flows as it may have.
fn flooded(world: &World, description: &str) -> Row {
    let row = world.row(description).given(|fixture| {
        for service in fixture.tables.services.values_mut() {
            service.syn_cookies = THRESHOLD;
        }
    });
    (0..THRESHOLD).fold(row, |row, number| {
        world.open(row, world.client(100 + number), number as usize)
    })
}

/// What a conversation needs to know of the cookie that its client got.
#[derive(Clone)]
struct Cookie {
    world: World,
    client: SocketAddr,
    value: Arc<AtomicU32>,
}

impl Cookie {
    fn new(world: &World, client: SocketAddr) -> Self {
        Self {
            world: world.clone(),
            client,
            value: Arc::default(),
        }
    }

    fn value(&self) -> u32 {
        self.value.load(Ordering::Relaxed)
    }

    /// The largest segment that the balancer announces.
    fn segment(&self) -> u16 {
        if self.client.is_ipv4() { 1460 } else { 1440 }
    }

    /// Adds a SYN that is answered with a cookie.
    fn asked(&self, row: Row, syn: &Packet) -> Row {
        let (own, syn) = (self.clone(), syn.clone());
        let sent = syn.bytes();
        row.send(
            sent,
            Expect::checked(Verdict::AnsweredSynCookie, move |frame| {
                let at = syn.transport_offset() + SEQUENCE;
                let bytes = frame.get(at..at + 4).ok_or("too short")?;
                let cookie = u32::from_be_bytes(bytes.try_into().map_err(|_| "too short")?);
                own.value.store(cookie, Ordering::Relaxed);
                let fields = Fields {
                    flags: SYN | ACK,
                    sequence: cookie,
                    acknowledgement: sequence(&syn).wrapping_add(1),
                    window: WINDOW,
                    has_options: false,
                };
                let mut expected = Packet::tcp(own.world.service, own.client, fields)
                    .macs(syn.destination_mac, syn.source_mac);
                expected.tcp_options = mss(own.segment());
                same(frame, &expected)
            }),
        )
    }

    /// What the client sends with those flags, and the sequence number that many further on.
    fn sent(&self, flags: u8, further: u32, acknowledged: u32) -> Packet {
        let fields = Fields {
            flags,
            sequence: CLIENT_SEQUENCE.wrapping_add(further),
            acknowledgement: self.value().wrapping_add(acknowledged),
            window: 64240,
            has_options: false,
        };
        let packet = self.world.from_client(self.client, ACK);
        Packet {
            transport: Transport::Tcp(fields),
            ..packet
        }
    }

    /// Adds the packet that answers the cookie, which leaves as a SYN to that backend.
    fn answered(&self, row: Row, backend: usize, size: u16, payload: &'static [u8]) -> Row {
        let own = self.clone();
        row.react(move || {
            let packet = own.sent(ACK, 1, 1).payload(payload);
            let syn = Packet {
                transport: Transport::Tcp(Fields {
                    flags: SYN,
                    sequence: CLIENT_SEQUENCE,
                    acknowledgement: 0,
                    window: 64240,
                    has_options: false,
                }),
                tcp_options: mss(size),
                payload: Vec::new(),
                ..packet.clone()
            };
            let leaves = own.world.to_backend(&syn, backend);
            (packet.bytes(), Expect::steered(leaves))
        })
    }

    /// Adds a backend's SYN-ACK, which is acknowledged here.
    fn acknowledged(&self, row: Row, backend: usize) -> Row {
        let syn_ack = self.world.from_backend(backend, self.client, SYN | ACK);
        let fields = Fields {
            flags: ACK,
            sequence: CLIENT_SEQUENCE + 1,
            acknowledgement: BACKEND_SEQUENCE.wrapping_add(1),
            window: WINDOW,
            has_options: false,
        };
        let ack = Packet::tcp(self.client, self.world.backends[backend], fields)
            .macs(syn_ack.destination_mac, syn_ack.source_mac);
        row.send(&syn_ack, Expect::answered(Verdict::AnsweredForClient, &ack))
    }

    /// Adds a client's packet, and what the backend gets.
    fn forwarded(&self, row: Row, backend: usize, flags: u8, acknowledged: u32) -> Row {
        let own = self.clone();
        row.react(move || {
            let packet = own.sent(flags, 1, acknowledged).payload(*b"question");
            let mut leaves = own.world.to_backend(&packet, backend);
            if let Transport::Tcp(fields) = &mut leaves.transport
                && flags & ACK != 0
            {
                fields.acknowledgement = BACKEND_SEQUENCE.wrapping_add(acknowledged);
            }
            (packet.bytes(), Expect::steered(leaves))
        })
    }

    /// Adds a backend's packet, and what the client gets.
    fn replied(&self, row: Row, backend: usize, flags: u8) -> Row {
        let own = self.clone();
        row.react(move || {
            let packet = own
                .world
                .from_backend(backend, own.client, flags)
                .payload(*b"the answer");
            let mut leaves = own.world.to_client(&packet);
            if let Transport::Tcp(fields) = &mut leaves.transport {
                fields.sequence = own.value().wrapping_add(1);
            }
            (packet.bytes(), Expect::replied(leaves))
        })
    }

    /// Adds a whole handshake.
    fn connect(&self, row: Row, backend: usize) -> Row {
        let row = self.asked(row, &self.world.from_client(self.client, SYN));
        let row = self.answered(row, backend, 536, b"");
        self.acknowledged(row, backend)
    }
}

fn sequence(packet: &Packet) -> u32 {
    match packet.transport {
        Transport::Tcp(fields) => fields.sequence,
        Transport::Udp { .. } | Transport::Icmp { .. } => 0,
    }
}

fn mss(size: u16) -> Vec<u8> {
    let [high, low] = size.to_be_bytes();
    vec![2, 4, high, low]
}

fn same(frame: &[u8], expected: &Packet) -> Result<(), String> {
    lb_packets::difference(&expected.bytes(), frame).map_or(Ok(()), Err)
}

fn only_above_the_threshold(world: &World) -> Row {
    let row = flooded(world, "cookies begin where half-open flows are too many");
    let cookie = Cookie::new(world, world.client(1));
    let syn = world.from_client(cookie.client, SYN);
    let row = cookie.asked(row, &syn);
    // Nothing was stored, nor anybody's turn taken.
    let row = cookie.asked(row, &syn);
    let row = row.backend(NEXT as u32 + 1, [0; 5]);
    // One of the half-open flows is proven, so there is room for another one.
    let proven = world.client(100);
    let row = world.reply(row, &world.from_backend(0, proven, SYN | ACK));
    let row = world.forward(row, &world.from_client(proven, ACK), 0);
    world.open(row, world.client(2), NEXT)
}

fn connected(world: &World) -> Row {
    let cookie = Cookie::new(world, world.client(1));
    let row = flooded(world, "who answers a cookie is connected");
    let row = cookie.connect(row, NEXT);
    let row = row.event(Event::FlowEstablished, 1);
    let row = cookie.forwarded(row, NEXT, ACK | PSH, 1);
    let row = cookie.replied(row, NEXT, ACK | PSH);
    let row = cookie.forwarded(row, NEXT, ACK, 11);
    // Our acknowledgement got lost.
    let row = cookie.acknowledged(row, NEXT);
    let row = cookie.replied(row, NEXT, ACK | FIN);
    cookie.forwarded(row, NEXT, ACK | FIN, 12)
}

fn reset(world: &World) -> Row {
    let cookie = Cookie::new(world, world.client(1));
    let row = flooded(world, "a reset has the number that its receiver expects");
    let row = cookie.connect(row, NEXT);
    let row = cookie.replied(row, NEXT, RST);
    // Without an acknowledgement there is nothing to lower.
    let row = cookie.forwarded(row, NEXT, RST, 0);
    cookie.forwarded(row, NEXT, RST | ACK, 1)
}

fn early(world: &World) -> Row {
    let cookie = Cookie::new(world, world.client(1));
    let row = flooded(
        world,
        "data before the backend's answer is a SYN once more, or is lost",
    );
    let row = cookie.asked(row, &world.from_client(cookie.client, SYN));
    let row = cookie.answered(row, NEXT, 536, b"");
    let row = cookie.answered(row, NEXT, 536, b"GET / HTTP/1.1");
    let own = cookie.clone();
    let row = row.react(move || {
        let second = own.sent(ACK, 1461, 1).payload(*b"more");
        (second.bytes(), Expect::dropped(Verdict::DropEarly))
    });
    let row = row.send(
        world.from_backend(NEXT, cookie.client, PSH),
        Expect::dropped(Verdict::DropEarly),
    );
    let row = cookie.acknowledged(row, NEXT);
    cookie.forwarded(row, NEXT, ACK | PSH, 1)
}

/// The backend acknowledges what it had before instead of our SYN; reset, it takes the next one.
fn of_old(world: &World) -> Row {
    let cookie = Cookie::new(world, world.client(1));
    let row = flooded(
        world,
        "what a backend has left of an older connection is reset",
    );
    let row = cookie.asked(row, &world.from_client(cookie.client, SYN));
    let row = cookie.answered(row, NEXT, 536, b"");
    let challenge = world.from_backend(NEXT, cookie.client, ACK);
    let Transport::Tcp(said) = challenge.transport else {
        unreachable!("it is a segment of TCP")
    };
    let fields = Fields {
        flags: RST,
        sequence: said.acknowledgement,
        acknowledgement: 0,
        window: 0,
        has_options: false,
    };
    let reset = Packet::tcp(cookie.client, world.backends[NEXT], fields)
        .macs(challenge.destination_mac, challenge.source_mac);
    let row = row.send(
        &challenge,
        Expect::answered(Verdict::AnsweredForClient, &reset),
    );
    let row = cookie.answered(row, NEXT, 536, b"GET / HTTP/1.1");
    cookie.acknowledged(row, NEXT)
}

fn refused(world: &World) -> Row {
    let cookie = Cookie::new(world, world.client(1));
    let row = flooded(world, "a backend's refusal reaches the client in its place");
    let row = cookie.asked(row, &world.from_client(cookie.client, SYN));
    let row = cookie.answered(row, NEXT, 536, b"");
    let refusal = {
        let packet = world.from_backend(NEXT, cookie.client, RST | ACK);
        let fields = Fields {
            flags: RST | ACK,
            sequence: 0,
            acknowledgement: CLIENT_SEQUENCE + 1,
            window: 0,
            has_options: false,
        };
        Packet {
            transport: Transport::Tcp(fields),
            ..packet
        }
    };
    row.react(move || {
        let mut leaves = cookie.world.to_client(&refusal);
        if let Transport::Tcp(fields) = &mut leaves.transport {
            fields.sequence = cookie.value().wrapping_add(1);
        }
        (refusal.bytes(), Expect::replied(leaves))
    })
}

fn unfit(world: &World) -> Row {
    let cookie = Cookie::new(world, world.client(1));
    let mut row = flooded(world, "what fits no cookie is answered with a reset");
    row = cookie.asked(row, &world.from_client(cookie.client, SYN));
    for (further, acknowledged) in [(2, 1), (0, 1), (1, 0), (1, 2), (1, 0x8000_0001)] {
        let own = cookie.clone();
        row = row.react(move || {
            let packet = own.sent(ACK, further, acknowledged);
            (packet.bytes(), Expect::sound(Verdict::AnsweredResetNoFlow))
        });
    }
    let other = Cookie {
        client: world.client(2),
        ..cookie.clone()
    };
    row = row.react(move || {
        let packet = other.sent(ACK, 1, 1);
        (packet.bytes(), Expect::sound(Verdict::AnsweredResetNoFlow))
    });
    // None of that did any harm.
    cookie.answered(row, NEXT, 536, b"")
}

fn begins_anew(world: &World) -> Row {
    let cookie = Cookie::new(world, world.client(1));
    let row = flooded(world, "a client that asks anew gets a new cookie");
    let row = cookie.asked(row, &world.from_client(cookie.client, SYN));
    let row = cookie.answered(row, NEXT, 536, b"");
    let row = cookie.asked(row, &world.from_client(cookie.client, SYN));
    cookie.answered(row, 0, 536, b"")
}

fn segment_size(world: &World) -> Row {
    let mut row = flooded(
        world,
        "the segment size that the client announced comes through",
    );
    for (number, (announced, size)) in [(1460, 1460), (1400, 1400), (900, 536), (9000, 8960)]
        .into_iter()
        .enumerate()
    {
        let cookie = Cookie::new(world, world.client(number as u32 + 1));
        let mut syn = world.from_client(cookie.client, SYN);
        syn.tcp_options = [&[4, 2, 1, 1][..], &mss(announced), &[1, 3, 3, 7]].concat();
        row = cookie.asked(row, &syn);
        row = cookie.answered(row, (NEXT + number) % 3, size, b"");
    }
    row
}

/// An ICMP error about what a backend sent names the number that the backend knows.
fn quoted(world: &World) -> Row {
    let cookie = Cookie::new(world, world.client(1));
    let row = flooded(
        world,
        "a quoted packet has the number that its backend sent",
    );
    let row = cookie.connect(row, NEXT);
    let row = cookie.replied(row, NEXT, ACK | PSH);
    row.react(move || {
        let world = &cookie.world;
        let packet = world.from_backend(NEXT, cookie.client, ACK | PSH);
        let mut seen = world.to_client(&packet);
        if let Transport::Tcp(fields) = &mut seen.transport {
            fields.sequence = cookie.value().wrapping_add(1);
        }
        let (error, leaves) = super::icmp::about_reply(world, &seen, &packet, NEXT);
        (
            error.bytes(),
            Expect::leaving(Verdict::SteeredError, leaves),
        )
    })
}

fn off(world: &World) -> Row {
    let mut row = world.row("without syn_cookies there are none");
    for number in 0..20 {
        row = world.open(row, world.client(number + 1), number as usize % 3);
    }
    row
}
