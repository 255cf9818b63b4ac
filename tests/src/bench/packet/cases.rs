//! What is measured: every forwarding mode and scheduler, and how the cost grows.

use lb_common::abi::{Forwarding, Protocol, Scheduler, features};

use crate::bench::template::Segment;

/// A case to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) segment: Segment,
    pub(super) forwarding: Forwarding,
    pub(super) scheduler: Scheduler,
    /// Ticks for which a client keeps its backend; 0 for none.
    pub(super) affinity: u32,
    pub(super) is_v6: bool,
    /// Whether backends are of the other family.
    pub(super) crosses_families: bool,
    /// Flows of which packets are sent in turn.
    pub(super) flows: u64,
    /// Whether the flows are established first.
    pub(super) established: bool,
    /// Whether packets are for the service at all.
    pub(super) is_ours: bool,
    /// Services that packets are for in turn, a power of two.
    pub(super) services: u16,
    /// Backends of each service.
    pub(super) backends: u32,
    /// Flows that the tables are made for.
    pub(super) limit: u32,
    /// Features that are on although the case does not need them.
    pub(super) unused_features: u32,
    /// Whether the service has so many half-open flows that SYNs are answered with cookies.
    pub(super) syn_cookies: bool,
    /// What the firewall has.
    pub(super) wall: Wall,
    /// Whether it takes long to prepare.
    pub(super) is_large: bool,
    /// The bar of the project: in nanoseconds, or relative to `scale_of`.
    pub(super) bar: f64,
    /// The case that this one differs from in scale only.
    pub(super) scale_of: Option<&'static str>,
}

/// What the firewall has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wall {
    /// Nothing; the program does not look.
    Off,
    /// [`PREFIXES`] denied prefixes, none of them near the clients.
    Far,
    /// And one next to the first client, so that its packets are looked up exactly.
    Near,
    /// And the first client.
    Denies,
    /// No prefix, but a limit to what sources begin, which nobody reaches.
    Limits,
    /// The same to the packets that they send.
    Packets,
    /// No prefix, but a host that is locked down.
    Locks,
    /// No prefix, but as many in the service's own lists, none of them near the clients.
    Lists,
}

/// Denied prefixes.
pub(super) const PREFIXES: u32 = 100_000;

impl Case {
    /// Of its service.
    pub(super) fn protocol(&self) -> Protocol {
        if self.segment.is_udp() {
            Protocol::Udp
        } else {
            Protocol::Tcp
        }
    }

    /// What the agent would switch on for the case.
    pub(super) fn features(&self) -> u32 {
        let forwarding = match self.forwarding {
            Forwarding::Nat => features::NAT,
            Forwarding::FullNat => features::FULL_NAT,
            Forwarding::DsrL2 => 0,
            Forwarding::DsrIpip | Forwarding::DsrGue => features::TUNNEL,
        };
        let scheduler = match self.scheduler {
            Scheduler::RoundRobin => 0,
            Scheduler::SourceHash | Scheduler::Maglev => features::HASH,
            Scheduler::LeastConnections => features::LEAST_CONNECTIONS,
        };
        let affinity = if self.affinity == 0 {
            0
        } else {
            features::AFFINITY
        };
        let datagram = if self.segment == ONE_PACKET {
            features::ONE_PACKET
        } else if self.segment == QUIC {
            features::SERVER_ID
        } else {
            0
        };
        let version = if self.is_v6 {
            features::IPV6
        } else {
            features::IPV4
        };
        let wall = match self.wall {
            Wall::Off => 0,
            Wall::Limits => features::RATE_LIMIT,
            Wall::Packets => features::PACKET_LIMIT,
            Wall::Locks => features::LOCK_DOWN,
            Wall::Lists => features::SERVICE_LISTS,
            Wall::Far | Wall::Near | Wall::Denies => features::FIREWALL,
        };
        let cookies = if self.syn_cookies {
            features::SYN_COOKIES
        } else {
            0
        };
        cookies
            | wall
            | version
            | forwarding
            | scheduler
            | affinity
            | datagram
            | self.unused_features
    }
}

const fn established(name: &'static str, flows: u64, bar: f64) -> Case {
    Case {
        name,
        segment: Segment::Ack(5001),
        forwarding: Forwarding::Nat,
        scheduler: Scheduler::RoundRobin,
        affinity: 0,
        is_v6: false,
        crosses_families: false,
        flows,
        established: true,
        is_ours: true,
        services: 1,
        backends: 3,
        limit: 262_144,
        unused_features: 0,
        syn_cookies: false,
        wall: Wall::Off,
        is_large: false,
        bar,
        scale_of: None,
    }
}

const fn by(forwarding: Forwarding, name: &'static str, flows: u64, bar: f64) -> Case {
    Case {
        forwarding,
        ..established(name, flows, bar)
    }
}

const fn new_flows(name: &'static str, flows: u64) -> Case {
    Case {
        segment: Segment::Syn,
        established: false,
        ..established(name, flows, 230.0)
    }
}

/// Every packet a new flow, with another scheduler than round robin.
const fn scheduled(name: &'static str, scheduler: Scheduler, backends: u32) -> Case {
    Case {
        scheduler,
        backends,
        scale_of: Some(NEW),
        bar: FLAT,
        ..new_flows(name, ENDLESS)
    }
}

/// A datagram.
const DATAGRAM: Segment = Segment::Datagram(b"hello");
/// The same for a service that keeps no flows.
pub(super) const ONE_PACKET: Segment = Segment::Datagram(b"hello?");
/// A QUIC packet with a short header and a connection id that names a backend.
pub(super) const QUIC: Segment = Segment::Datagram(b"\x40\x07\x0a\x0b\x0c and more of it");
/// The backend's server id in it.
pub(super) const SERVER_ID: [u8; 3] = [0x0a, 0x0b, 0x0c];

const ONE: &str = "nat established, 1 flow";
const MANY: &str = "nat established, 65,536 flows";
const NEW_UDP: &str = "UDP, every one a new flow";
const NEW: &str = "SYN, every one a new flow";

/// More than any run sends.
const ENDLESS: u64 = 1 << 40;

/// "Flat but for cache misses" as a number: a look-up that grew with the number of services or
/// backends would be hundreds of times slower.
const FLAT: f64 = 1.5;

/// What 4,096 services may cost of what one costs.
const FLAT_SERVICES: f64 = 1.2;

/// Tunnels may cost that much more.
const TUNNEL: f64 = 15.0;

/// What a firewall with many prefixes may cost.
const WALL: f64 = 25.0;

/// What a limit for each source may cost a new flow, and one of packets any packet.
const LIMIT: f64 = 30.0;

/// What an exact look-up among them may cost.
const EXACTLY: f64 = 400.0;

/// All of them.
pub(super) const CASES: [Case; 50] = [
    established(ONE, 1, 40.0),
    established(MANY, 65_536, 90.0),
    Case {
        is_v6: true,
        ..established("nat established IPv6, 1 flow", 1, 40.0)
    },
    Case {
        is_v6: true,
        ..established("nat established IPv6, 65,536 flows", 65_536, 90.0)
    },
    by(Forwarding::FullNat, "full-nat established, 1 flow", 1, 40.0),
    by(
        Forwarding::FullNat,
        "full-nat established, 65,536 flows",
        65_536,
        90.0,
    ),
    by(Forwarding::DsrL2, "dsr-l2 established, 1 flow", 1, 40.0),
    by(
        Forwarding::DsrL2,
        "dsr-l2 established, 65,536 flows",
        65_536,
        90.0,
    ),
    by(
        Forwarding::DsrIpip,
        "dsr-ipip established, 1 flow",
        1,
        40.0 + TUNNEL,
    ),
    by(
        Forwarding::DsrIpip,
        "dsr-ipip established, 65,536 flows",
        65_536,
        90.0 + TUNNEL,
    ),
    Case {
        is_v6: true,
        ..by(
            Forwarding::DsrIpip,
            "dsr-ipip established IPv6 in IPv6, 1 flow",
            1,
            40.0 + TUNNEL,
        )
    },
    Case {
        crosses_families: true,
        ..by(
            Forwarding::DsrIpip,
            "dsr-ipip established IPv4 in IPv6, 1 flow",
            1,
            40.0 + TUNNEL,
        )
    },
    by(
        Forwarding::DsrGue,
        "dsr-gue established, 1 flow",
        1,
        40.0 + TUNNEL,
    ),
    by(
        Forwarding::DsrGue,
        "dsr-gue established, 65,536 flows",
        65_536,
        90.0 + TUNNEL,
    ),
    Case {
        // A tail call cannot enter a program for several buffers from one for single ones.
        unused_features: features::ALL & !features::MULTI_BUFFER,
        scale_of: Some(ONE),
        bar: FLAT,
        ..established("nat established, 1 flow, every feature on", 1, 40.0)
    },
    Case {
        wall: Wall::Far,
        ..established(
            "nat established, 1 flow, 100,000 prefixes denied",
            1,
            40.0 + WALL,
        )
    },
    Case {
        wall: Wall::Far,
        ..established(
            "nat established, 65,536 flows, 100,000 prefixes denied",
            65_536,
            90.0 + WALL,
        )
    },
    Case {
        wall: Wall::Far,
        is_v6: true,
        ..established(
            "nat established IPv6, 1 flow, 100,000 prefixes denied",
            1,
            40.0 + WALL,
        )
    },
    Case {
        wall: Wall::Near,
        ..established(
            "nat established, 1 flow, its neighbour denied beside 100,000 others",
            1,
            40.0 + EXACTLY,
        )
    },
    Case {
        wall: Wall::Denies,
        established: false,
        ..established("denied beside 100,000 others", 1, WALL + EXACTLY)
    },
    new_flows("SYN, 65,536 flows sent again", 65_536),
    new_flows(NEW, ENDLESS),
    Case {
        syn_cookies: true,
        ..new_flows("SYN, every one answered with a cookie", ENDLESS)
    },
    Case {
        wall: Wall::Limits,
        bar: 230.0 + LIMIT,
        ..new_flows("SYN, every one a new flow, sources limited", ENDLESS)
    },
    Case {
        wall: Wall::Limits,
        ..established("nat established, 1 flow, sources limited", 1, 40.0)
    },
    Case {
        wall: Wall::Packets,
        ..established("nat established, 1 flow, packets limited", 1, 40.0 + LIMIT)
    },
    Case {
        wall: Wall::Packets,
        ..established(
            "nat established, 65,536 flows, packets limited",
            65_536,
            90.0 + LIMIT,
        )
    },
    scheduled("SYN, new flows, maglev", Scheduler::Maglev, 3),
    scheduled("SYN, new flows, source-hash", Scheduler::SourceHash, 3),
    scheduled(
        "SYN, new flows, least-connections, 3 backends",
        Scheduler::LeastConnections,
        3,
    ),
    scheduled(
        "SYN, new flows, least-connections, 64 backends",
        Scheduler::LeastConnections,
        64,
    ),
    Case {
        affinity: 3000,
        ..scheduled("SYN, new flows, affinity", Scheduler::RoundRobin, 3)
    },
    Case {
        forwarding: Forwarding::DsrIpip,
        ..scheduled("SYN, new flows, dsr-ipip", Scheduler::RoundRobin, 3)
    },
    Case {
        segment: DATAGRAM,
        ..established("UDP nat established, 1 flow", 1, 40.0)
    },
    Case {
        segment: DATAGRAM,
        ..established("UDP nat established, 65,536 flows", 65_536, 90.0)
    },
    Case {
        segment: DATAGRAM,
        ..new_flows(NEW_UDP, ENDLESS)
    },
    Case {
        segment: QUIC,
        scale_of: Some(NEW_UDP),
        bar: FLAT,
        ..new_flows("UDP, new flows, quic_server_id", ENDLESS)
    },
    Case {
        segment: ONE_PACKET,
        ..new_flows("UDP, every one of another client, one_packet", ENDLESS)
    },
    Case {
        wall: Wall::Lists,
        bar: 230.0 + LIMIT,
        ..new_flows(
            "SYN, every one a new flow, 100,000 prefixes of the service",
            ENDLESS,
        )
    },
    Case {
        wall: Wall::Lists,
        ..established(
            "nat established, 1 flow, 100,000 prefixes of the service",
            1,
            40.0,
        )
    },
    Case {
        is_ours: false,
        wall: Wall::Locks,
        ..established("not ours, the host locked down (pass)", 1, 20.0 + LIMIT)
    },
    Case {
        is_ours: false,
        ..established("not ours (pass)", 1, 20.0)
    },
    Case {
        is_ours: false,
        is_v6: true,
        ..established("not ours IPv6 (pass)", 1, 20.0)
    },
    Case {
        backends: 1000,
        scale_of: Some(MANY),
        ..established(
            "nat established, 65,536 flows, 1,000 backends",
            65_536,
            FLAT,
        )
    },
    Case {
        backends: 4096,
        scale_of: Some(MANY),
        ..established(
            "nat established, 65,536 flows, 4,096 backends",
            65_536,
            FLAT,
        )
    },
    Case {
        services: 1024,
        scale_of: Some(MANY),
        ..established(
            "nat established, 65,536 flows, 1,024 services",
            65_536,
            FLAT,
        )
    },
    Case {
        services: 4096,
        scale_of: Some(MANY),
        ..established(
            "nat established, 65,536 flows, 4,096 services",
            65_536,
            FLAT_SERVICES,
        )
    },
    Case {
        backends: 4096,
        scale_of: Some(NEW),
        bar: FLAT,
        ..new_flows("SYN, every one a new flow, 4,096 backends", ENDLESS)
    },
    Case {
        services: 4096,
        scale_of: Some(NEW),
        bar: FLAT_SERVICES,
        ..new_flows("SYN, every one a new flow, 4,096 services", ENDLESS)
    },
    Case {
        limit: 1_048_576,
        is_large: true,
        ..established("nat established, 1,048,576 flows", 1 << 20, 300.0)
    },
];
