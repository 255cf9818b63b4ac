//! What the agent and the kernel programs agree on: map names, their values and their layout.
//!
//! Any change of a layout, or of what a field means, needs a new [`ABI_VERSION`]: an agent that
//! finds pinned maps of another version does not read them. All values are plain integers without
//! padding; ports are in network order (the number as it stands in memory), times in [`Ticks`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;

/// Version of everything in this module and in [`crate::flow`].
pub const ABI_VERSION: u32 = 5;

/// Names of the maps, at most 15 characters so that the kernel keeps them whole.
pub mod maps {
    /// `ARRAY` of one [`super::Meta`].
    pub const META: &str = "META";
    /// `HASH`, [`super::EndpointKey`] to [`super::Service`], without preallocation, so that an
    /// update swaps the whole value under readers.
    pub const SERVICES: &str = "SERVICES";
    /// `ARRAY` of `u32` backend ids; a service owns a region of it.
    pub const SLOTS: &str = "SLOTS";
    /// `ARRAY` of [`super::Cursor`], by service id, mmapable.
    pub const CURSORS: &str = "CURSORS";
    /// `ARRAY` of [`super::Backend`], by backend id; id 0 means "none".
    pub const BACKENDS: &str = "BACKENDS";
    /// `PERCPU_ARRAY` of [`super::BackendCounters`], by backend id.
    pub const BACKEND_STATS: &str = "BACKEND_STATS";
    /// `ARRAY` of [`super::NextHop`]; index 0 means "unresolved".
    pub const NEXT_HOPS: &str = "NEXT_HOPS";
    /// `HASH`, interface index (`u32`) to [`super::Interface`].
    pub const INTERFACES: &str = "INTERFACES";
    /// `ARRAY` of `u64` words, see [`crate::filter`].
    pub const FILTER: &str = "FILTER";
    /// `ARRAY` of [`crate::flow::Bucket`], mmapable: established flows.
    pub const ESTABLISHED: &str = "ESTABLISHED";
    /// `ARRAY` of [`crate::flow::Bucket`], mmapable: half-open flows.
    pub const HALF_OPEN: &str = "HALF_OPEN";
    /// `PERCPU_ARRAY` of one [`super::Counters`].
    pub const COUNTERS: &str = "COUNTERS";
    /// `ARRAY` of `u64`, mmapable: live flows by backend id, for least connections.
    pub const LOADS: &str = "LOADS";
    /// `ARRAY` of [`crate::address::Address`]: source addresses of full NAT, by index.
    pub const SOURCES: &str = "SOURCES";
    /// `HASH`, [`crate::address::Address`] to the `u32` index of a source address.
    pub const SOURCE_INDEX: &str = "SOURCE_INDEX";
    /// `ARRAY` of `u64` words, mmapable, see [`crate::ports`]: source ports in use.
    pub const PORTS: &str = "PORTS";
    /// `ARRAY` of `u64`, mmapable, see [`crate::ports`]: whose a source port is.
    pub const PORT_OWNERS: &str = "PORT_OWNERS";
    /// `LRU_HASH`, [`super::AffinityKey`] to [`super::Affinity`].
    pub const AFFINITY: &str = "AFFINITY";
    /// `LRU_HASH`, [`super::FragmentKey`] to [`super::Fragment`].
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// `HASH`, [`super::ServerIdKey`] to the `u32` id of a backend.
    pub const SERVER_IDS: &str = "SERVER_IDS";
    /// `ARRAY` of [`super::Check`], by source port in host order; at 0, which is no port, the
    /// interface that checks come in by.
    pub const CHECKS: &str = "CHECKS";
    /// `ARRAY` of `u64` words, mmapable, see [`crate::firewall`].
    pub const FIREWALL: &str = "FIREWALL";
    /// `LPM_TRIE`, [`crate::firewall::Key`] to the `u32` of a [`crate::firewall::Entry`].
    pub const FIREWALL_LPM: &str = "FIREWALL_LPM";
    /// `ARRAY` of `u64`, mmapable, see [`crate::sync`]: flows that other balancers should know.
    pub const SYNC: &str = "SYNC";
    /// `ARRAY` of [`crate::firewall::rate::Line`], mmapable: buckets of sources.
    pub const RATES: &str = "RATES";
    /// `LRU_HASH`, [`crate::address::Address`] of a source to the `u64` of a
    /// [`crate::firewall::offender::Offender`].
    pub const OFFENDERS: &str = "OFFENDERS";
    /// Every map that is pinned.
    pub const ALL: [&str; 26] = [
        META,
        SERVICES,
        SLOTS,
        CURSORS,
        BACKENDS,
        BACKEND_STATS,
        NEXT_HOPS,
        INTERFACES,
        FILTER,
        ESTABLISHED,
        HALF_OPEN,
        COUNTERS,
        LOADS,
        SOURCES,
        SOURCE_INDEX,
        PORTS,
        PORT_OWNERS,
        AFFINITY,
        FRAGMENTS,
        SERVER_IDS,
        CHECKS,
        FIREWALL,
        FIREWALL_LPM,
        RATES,
        OFFENDERS,
        SYNC,
    ];
}

/// What a config uses: bits of [`Settings::features`], load-time constants of the program. The
/// verifier takes out what is not used, so it costs nothing.
pub mod features {
    /// [`super::Forwarding::Nat`], and replies that pass here.
    pub const NAT: u32 = 1;
    /// [`super::Forwarding::FullNat`].
    pub const FULL_NAT: u32 = 1 << 1;
    /// [`super::Forwarding::DsrIpip`] and [`super::Forwarding::DsrGue`].
    pub const TUNNEL: u32 = 1 << 2;
    /// Schedulers that go by a hash.
    pub const HASH: u32 = 1 << 3;
    /// [`super::Scheduler::LeastConnections`].
    pub const LEAST_CONNECTIONS: u32 = 1 << 4;
    /// [`super::Service::affinity`].
    pub const AFFINITY: u32 = 1 << 5;
    /// [`super::service_flags::ONE_PACKET`].
    pub const ONE_PACKET: u32 = 1 << 6;
    /// [`super::Service::server_id_length`].
    pub const SERVER_ID: u32 = 1 << 7;
    /// [`super::Backend::mss`].
    pub const MSS_CLAMP: u32 = 1 << 8;
    /// Frames in several buffers (`xdp.frags`, Linux 5.18). It is a matter of the interfaces and no
    /// business of the tables: [`super::Meta`] never has it.
    pub const MULTI_BUFFER: u32 = 1 << 9;
    /// Services with IPv4 addresses. Without it all of IPv4 is left to the kernel.
    pub const IPV4: u32 = 1 << 10;
    /// The same for IPv6.
    pub const IPV6: u32 = 1 << 11;
    /// Both.
    pub const BOTH_IP_VERSIONS: u32 = IPV4 | IPV6;
    /// Health checks that go through the data path.
    pub const CHECKS: u32 = 1 << 12;
    /// What becomes of handshakes is counted: [`super::BackendCounters::accepted`] and those below
    /// it.
    pub const HANDSHAKES: u32 = 1 << 13;
    /// Packets are dropped by their source, see [`crate::firewall`].
    pub const FIREWALL: u32 = 1 << 14;
    /// Sources are limited in how many connections they begin, see [`crate::firewall::rate`].
    pub const RATE_LIMIT: u32 = 1 << 15;
    /// What is for this host itself passes only where that is allowed, see
    /// [`crate::firewall::lock`].
    pub const LOCK_DOWN: u32 = 1 << 16;
    /// Flows that are established, moved or closed are told to the agent, see [`crate::sync`].
    pub const SYNC: u32 = 1 << 17;
    /// [`super::Service::syn_cookies`].
    pub const SYN_COOKIES: u32 = 1 << 18;
    /// [`super::Service::lists`].
    pub const SERVICE_LISTS: u32 = 1 << 19;
    /// Sources are limited in how many packets they send, see [`crate::firewall::rate`].
    pub const PACKET_LIMIT: u32 = 1 << 20;
    /// Sources that exceed a limit are denied for a while, see [`crate::firewall::offender`].
    pub const OFFENDERS: u32 = 1 << 21;
    /// [`super::service_flags::TAKES_UP`].
    pub const TAKE_UP: u32 = 1 << 22;
    /// Sources are limited in how many flows they have, see [`crate::firewall::count`].
    pub const FLOW_LIMIT: u32 = 1 << 23;
    /// Every limit of sources, and what comes of it.
    pub const LIMITS: u32 = RATE_LIMIT | PACKET_LIMIT | OFFENDERS | FLOW_LIMIT;
    /// A program that only tells what it would do: nothing is stored or counted.
    pub const DRY_RUN: u32 = 1 << 30;
    /// Packets are sampled into a ring buffer with their verdict.
    pub const CAPTURE: u32 = 1 << 31;
    /// Everything that forwards.
    pub const ALL: u32 = ((1 << 17) - 1) | SYNC | SYN_COOKIES | SERVICE_LISTS | LIMITS | TAKE_UP;
}

/// Seconds for which a CPU does not log a verdict again.
pub const LOG_PAUSE_SECONDS: u32 = 10;

/// Name of the steering program in the object `lb-steer`.
pub const STEER_PROGRAM: &str = "steer";
/// Name of the same for frames in several buffers.
pub const STEER_FRAGS_PROGRAM: &str = "steer_frags";

/// Name of the steering program for those features.
#[must_use]
pub const fn steer_program(features: u32) -> &'static str {
    if features & features::MULTI_BUFFER == 0 {
        STEER_PROGRAM
    } else {
        STEER_FRAGS_PROGRAM
    }
}

/// Name of the global (`.rodata`) of type [`Settings`] in the object `lb-steer`.
pub const SETTINGS_GLOBAL: &str = "SETTINGS";

/// A point in time or a span: units of 2^28 ns (0.268 s) of `CLOCK_MONOTONIC`.
///
/// A shift replaces a division on the hot path; 32 bits last 36 years of uptime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u32);

impl Ticks {
    /// log2 of the nanoseconds in a tick.
    pub const SHIFT: u32 = 28;

    /// From nanoseconds of `CLOCK_MONOTONIC`.
    #[inline(always)]
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self((nanos >> Self::SHIFT) as u32)
    }

    /// The span of that many seconds, rounded up.
    #[must_use]
    pub const fn from_seconds(seconds: u32) -> Self {
        Self(((seconds as u64 * 1_000_000_000).div_ceil(1 << Self::SHIFT)) as u32)
    }

    /// Ticks since `earlier`; a clock read on another CPU may be slightly behind, which counts as 0.
    #[inline(always)]
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        let elapsed = self.0.wrapping_sub(earlier.0);
        if elapsed > u32::MAX / 2 { 0 } else { elapsed }
    }
}

/// [`Settings::errors_per_tick`] unless somebody knows better: some thousand in a second.
pub const ERRORS_PER_TICK: u32 = 256;

/// Load-time constants of the program. They belong to the tables: an agent that takes over pinned
/// maps reads them from [`Meta`] and loads its program with the same.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Settings {
    /// Random, so that nobody outside can aim at one bucket.
    pub hash_seed: u64,
    /// Buckets of the established table, minus 1; the number of buckets is a power of two.
    pub established_mask: u32,
    /// Buckets of the half-open table, minus 1.
    pub half_open_mask: u32,
    /// Words of the endpoint filter, minus 1.
    pub filter_mask: u32,
    /// ICMP errors that a CPU may send in a tick.
    pub errors_per_tick: u32,
    /// Bits of [`features`].
    pub features: u32,
    /// Always 0.
    pub reserved: u32,
}

/// The one value of the map `META`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Meta {
    /// [`ABI_VERSION`] of whoever made the maps; 0 while they are not filled.
    pub abi: u32,
    /// Always 0.
    pub reserved: u32,
    /// What the program was loaded with.
    pub settings: Settings,
}

/// IP protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293
    Tcp = 6,
    /// RFC 768
    Udp = 17,
}

impl Protocol {
    /// From the number in an IP header.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

/// How packets reach a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Forwarding {
    /// Destination rewritten; replies come back through the balancer.
    Nat = 1,
    /// Only the MAC addresses rewritten; the backend answers the client directly.
    DsrL2 = 2,
    /// Destination and source rewritten, for backends that do not route through the balancer.
    FullNat = 3,
    /// In an IP packet to the backend (RFC 2003, RFC 2473, RFC 4213), which answers directly.
    DsrIpip = 4,
    /// In a UDP packet to the backend (generic UDP encapsulation, variant 1), which answers
    /// directly.
    DsrGue = 5,
}

impl Forwarding {
    /// Bytes that it adds to a packet on its way to a backend of that family.
    #[inline(always)]
    #[must_use]
    pub const fn overhead(forwarding: u8, is_v4: bool) -> u32 {
        let outer = if is_v4 { 20 } else { 40 };
        if forwarding == Self::DsrIpip as u8 {
            outer
        } else if forwarding == Self::DsrGue as u8 {
            outer + 8
        } else {
            0
        }
    }

    /// Whether replies come back through the balancer.
    #[inline(always)]
    #[must_use]
    pub const fn sees_replies(forwarding: u8) -> bool {
        forwarding == Self::Nat as u8 || forwarding == Self::FullNat as u8
    }
}

/// UDP port of generic UDP encapsulation.
pub const GUE_PORT: u16 = 6080;

/// How a new flow gets its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scheduler {
    /// The next one.
    RoundRobin = 0,
    /// By a hash of the client's address.
    SourceHash = 1,
    /// By a hash of the client's address and port and the service's.
    Maglev = 2,
    /// The one with the fewest live flows for its weight; each backend has one slot.
    LeastConnections = 3,
}

/// Bits of [`Service::flags`].
pub mod service_flags {
    /// No flow is kept; every datagram goes by its hash.
    pub const ONE_PACKET: u8 = 1;
    /// A packet of TCP that is of no flow goes to the backend that its hash names: the connection may
    /// have begun by another balancer. Where replies pass here that would be of no use.
    pub const TAKES_UP: u8 = 2;
}

/// What a new connection gets when no backend is in rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OnNoBackend {
    /// A TCP RST, for UDP as [`OnNoBackend::Unreachable`].
    Reset = 0,
    /// An ICMP or ICMPv6 "port unreachable".
    Unreachable = 1,
    /// Silence.
    Drop = 2,
}

/// What happens to live flows of a backend that went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OnBackendDown {
    /// The next packet picks another backend.
    Reschedule = 0,
    /// The next packet of the client is answered with a RST (TCP) and the flow is closed.
    Reset = 1,
    /// They stay with their backend.
    Hold = 2,
}

/// What names a service to the data path.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct EndpointKey {
    /// The VIP.
    pub address: Address,
    /// Network order, see [`network_port`]; 0 with protocol 0 says "this address has services".
    pub port: u16,
    /// A [`Protocol`], or 0.
    pub protocol: u8,
    /// Always 0.
    pub reserved: [u8; 5],
}

impl EndpointKey {
    /// The key of a service.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: Address, port: u16, protocol: u8) -> Self {
        Self {
            address,
            port,
            protocol,
            reserved: [0; 5],
        }
    }

    /// The key that exists for every address with at least one service.
    #[inline(always)]
    #[must_use]
    pub const fn any_port(address: Address) -> Self {
        Self::new(address, 0, 0)
    }
}

/// A port as tables hold it: network order, read as a native integer.
#[inline(always)]
#[must_use]
pub const fn network_port(port: u16) -> u16 {
    port.to_be()
}

/// A service as the data path sees it. Replaced as a whole, never changed in place.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Service {
    /// Index in `CURSORS`; 0 is used like any other.
    pub id: u32,
    /// First slot in `SLOTS`.
    pub slots_offset: u32,
    /// Slots; 0 when no backend is in rotation.
    pub slots_len: u32,
    /// An [`OnNoBackend`].
    pub on_no_backend: u8,
    /// A [`Scheduler`].
    pub scheduler: u8,
    /// Bits of [`service_flags`].
    pub flags: u8,
    /// Bytes of the server id in a QUIC connection id; 0 when it is not looked at.
    pub server_id_length: u8,
    /// Ticks for which a client's address keeps its backend; 0 for none.
    pub affinity: u32,
    /// Half-open flows from which on SYNs are answered with cookies; 0 for never.
    pub syn_cookies: u32,
    /// The scope of the prefixes that say who may use it, see [`crate::firewall`]; 0 when everybody
    /// may.
    pub lists: u32,
}

/// The round-robin cursor of a service, alone on its cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub struct Cursor {
    /// Flows scheduled so far.
    pub value: u64,
    /// TCP flows of the service in the half-open table, about; only with
    /// [`features::SYN_COOKIES`]. Negative where an end was counted twice.
    pub half_open: u64,
    /// When a SYN cookie was last sent, in [`Ticks`].
    pub cookie_sent: u64,
    /// Packets that [`Service::lists`] kept out, those of a dry run included.
    pub denied: u64,
    /// Always 0.
    pub reserved: [u64; 4],
}

/// A backend of one service. `next_hop` and `flags` change while it lives; the rest does not, and
/// an id is not used for another backend while flows may refer to it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Backend {
    /// Where it listens.
    pub address: Address,
    /// Network order.
    pub port: u16,
    /// A [`Protocol`].
    pub protocol: u8,
    /// A [`Forwarding`].
    pub forwarding: u8,
    /// Id of its service.
    pub service: u32,
    /// Index in `NEXT_HOPS`; 0 while unresolved.
    pub next_hop: u32,
    /// Bits of [`backend_flags`].
    pub flags: u32,
    /// Ticks without packets after which a flow is forgotten.
    pub idle_timeout: u32,
    /// An [`OnBackendDown`].
    pub on_backend_down: u8,
    /// Always 0.
    pub reserved: u8,
    /// Its weight, for least connections; at least 1.
    pub weight: u16,
    /// Key of its service, to schedule anew.
    pub service_address: Address,
    /// Network order.
    pub service_port: u16,
    /// Largest TCP segment that SYN and SYN-ACK may announce; 0 for any.
    pub mss: u16,
    /// Full NAT: index of its first source address.
    pub first_source: u16,
    /// Full NAT: how many source addresses it has.
    pub sources: u16,
    /// Tunnels: the outer source, of the family of `address`, its varied bits 0.
    pub tunnel_source: Address,
    /// Tunnels: which of the last four bytes' bits vary from flow to flow, as they stand in memory.
    pub tunnel_source_mask: u32,
    /// Always 0.
    pub reserved_end: [u32; 11],
}

/// Bits of [`Backend::flags`].
pub mod backend_flags {
    /// The entry is in use.
    pub const USED: u32 = 1;
    /// Down: live flows follow `on_backend_down`.
    pub const DOWN: u32 = 2;
}

/// Where a frame for a backend goes next. Never changed while a backend points at it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct NextHop {
    /// Egress interface; 0 when the backend is this host.
    pub ifindex: u32,
    /// Largest IP packet it takes, in bytes.
    pub mtu: u32,
    /// MAC of the backend or of the router to it.
    pub destination: [u8; 6],
    /// MAC of the egress interface.
    pub source: [u8; 6],
    /// VLAN id of the IEEE 802.1Q tag that frames get; 0 for none.
    pub vlan: u16,
    /// VLAN id of the IEEE 802.1ad tag around it; 0 for none.
    pub outer_vlan: u16,
}

/// What replies need to know of the interface they leave by.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Interface {
    /// Its MAC.
    pub mac: [u8; 6],
    /// Always 0.
    pub reserved: [u8; 2],
    /// Largest IP packet it takes, in bytes.
    pub mtu: u32,
}

/// A client of a service with affinity.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct AffinityKey {
    /// The client's.
    pub address: Address,
    /// Id of the service.
    pub service: u32,
    /// Always 0.
    pub reserved: u32,
}

/// The backend that a client keeps.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Affinity {
    /// Its id.
    pub backend: u32,
    /// Until when, in [`Ticks`].
    pub expires: u32,
}

/// What the fragments of a packet have in common (RFC 791, RFC 8200 section 4.5).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct FragmentKey {
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Identification, as it stands in memory.
    pub identification: u32,
    /// Protocol number.
    pub protocol: u32,
}

/// What only the first fragment says.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Fragment {
    /// Source port, network order.
    pub source_port: u16,
    /// Destination port, network order.
    pub destination_port: u16,
    /// Until when, in [`Ticks`].
    pub expires: u32,
}

/// Most bytes of a server id in a QUIC connection id.
pub const SERVER_ID_CAPACITY: usize = 15;

/// A backend as QUIC connection ids name it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct ServerIdKey {
    /// The server id, then zeros: 16 bytes, as they stand in memory.
    pub id: [u64; 2],
    /// Id of the service.
    pub service: u32,
    /// Always 0.
    pub reserved: u32,
}

/// A health check under way: a connection of the balancer itself to a service, which goes to one
/// backend whatever its state.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Check {
    /// The address that it asks from.
    pub source: Address,
    /// Id of the backend; 0 when there is no check.
    pub backend: u32,
    /// The interface that its packets come in by, and replies leave by.
    pub interface: u32,
}

/// Elements of `CHECKS`: one for each port.
pub const CHECK_CAPACITY: u32 = 1 << 16;

/// What was steered to a backend, per CPU. Only the data path writes it, and it never shrinks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct BackendCounters {
    /// Packets to the backend.
    pub packets: u64,
    /// Their lengths, by the IP header.
    pub bytes: u64,
    /// New flows.
    pub connections: u64,
    /// Packets from the backend to clients, where they pass here.
    pub reply_packets: u64,
    /// Their lengths, by the IP header.
    pub reply_bytes: u64,
    /// Flows that were established; this and the rest only with [`features::HANDSHAKES`].
    pub accepted: u64,
    /// Flows of TCP whose SYN the backend refused, where its replies pass here.
    pub refused: u64,
    /// Flows of TCP whose client had to ask again, see [`crate::flow::FlowEntry::note_asked_again`].
    pub unanswered: u64,
}

impl BackendCounters {
    /// Counts what became of a handshake.
    #[inline(always)]
    pub const fn count(&mut self, handshake: Handshake) {
        match handshake {
            Handshake::Accepted => self.accepted += 1,
            Handshake::Refused => self.refused += 1,
            Handshake::Unanswered => self.unanswered += 1,
        }
    }
}

/// What became of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It was completed.
    Accepted,
    /// The backend does not want it.
    Refused,
    /// The backend said nothing.
    Unanswered,
}

/// Counters of one CPU: those of [`crate::verdict::Verdict`], then those of
/// [`crate::verdict::Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Counters {
    /// By `Verdict as usize`.
    pub verdicts: [u64; VERDICT_CAPACITY],
    /// By `Event as usize`.
    pub events: [u64; EVENT_CAPACITY],
}

/// Room for verdicts, a power of two.
pub const VERDICT_CAPACITY: usize = 64;
/// Room for events, a power of two.
pub const EVENT_CAPACITY: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_names_are_short_enough_for_the_kernel() {
        assert!(maps::ALL.iter().all(|name| name.len() <= 15));
    }

    #[test]
    fn layouts_are_those_of_this_abi_version() {
        assert_eq!(ABI_VERSION, 5);
        assert_eq!(size_of::<Settings>(), 32);
        assert_eq!(size_of::<Meta>(), 40);
        assert_eq!(size_of::<EndpointKey>(), 24);
        assert_eq!(size_of::<Service>(), 28);
        assert_eq!(size_of::<Cursor>(), 64);
        assert_eq!(size_of::<Backend>(), 128);
        assert_eq!(size_of::<NextHop>(), 24);
        assert_eq!(size_of::<Interface>(), 12);
        assert_eq!(size_of::<BackendCounters>(), 64);
        assert_eq!(size_of::<AffinityKey>(), 24);
        assert_eq!(size_of::<Affinity>(), 8);
        assert_eq!(size_of::<FragmentKey>(), 40);
        assert_eq!(size_of::<Fragment>(), 8);
        assert_eq!(size_of::<ServerIdKey>(), 24);
        assert_eq!(size_of::<Check>(), 24);
    }

    #[test]
    fn ticks_round_up_and_never_run_backwards() {
        assert!(f64::from(Ticks::from_seconds(10).0) * 0.268_435_456 >= 10.0);
        assert_eq!(Ticks(5).since(Ticks(7)), 0);
        assert_eq!(Ticks(2).since(Ticks(u32::MAX)), 3);
    }
}
