//! What the agent and the kernel programs agree on: map names, their values and their layout.
//!
//! Any change of a layout, or of what a field means, needs a new [`ABI_VERSION`]: an agent that
//! finds pinned maps of another version does not read them. All values are plain integers without
//! padding; ports are in network order (the number as it stands in memory), times in [`Ticks`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;

/// Version of everything in this module and in [`crate::flow`].
pub const ABI_VERSION: u32 = 1;

/// Names of the maps, at most 15 characters so that the kernel keeps them whole.
pub mod maps {
    /// `ARRAY` of one [`super::Meta`].
    pub const META: &str = "META";
    /// `HASH`, [`super::EndpointKey`] to [`super::Service`], without preallocation, so that an
    /// update swaps the whole value under readers.
    pub const SERVICES: &str = "SERVICES";
    /// `ARRAY` of `u32` backend ids; a service owns a region of it.
    pub const SLOTS: &str = "SLOTS";
    /// `ARRAY` of [`super::Cursor`], by service id.
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
    /// Every map that is pinned.
    pub const ALL: [&str; 12] = [
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
    ];
}

/// Seconds for which a CPU does not log a verdict again.
pub const LOG_PAUSE_SECONDS: u32 = 10;

/// Name of the steering program in the object `lb-steer`.
pub const STEER_PROGRAM: &str = "steer";
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
    /// Always 0.
    pub reserved: [u8; 3],
}

/// The round-robin cursor of a service, alone on its cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub struct Cursor {
    /// Flows scheduled so far.
    pub value: u64,
    /// Always 0.
    pub reserved: [u64; 7],
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
    pub reserved: [u8; 3],
    /// Key of its service, to schedule anew.
    pub service_address: Address,
    /// Network order.
    pub service_port: u16,
    /// Always 0.
    pub reserved_end: [u8; 6],
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
    /// Egress interface.
    pub ifindex: u32,
    /// Largest IP packet it takes, in bytes.
    pub mtu: u32,
    /// MAC of the backend or of the router to it.
    pub destination: [u8; 6],
    /// MAC of the egress interface.
    pub source: [u8; 6],
    /// Tag control information of the IEEE 802.1Q tag that frames get, in host order; 0 for none.
    pub tci: u16,
    /// Always 0.
    pub reserved: u16,
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
        assert_eq!(ABI_VERSION, 1);
        assert_eq!(size_of::<Settings>(), 24);
        assert_eq!(size_of::<Meta>(), 32);
        assert_eq!(size_of::<EndpointKey>(), 24);
        assert_eq!(size_of::<Service>(), 16);
        assert_eq!(size_of::<Cursor>(), 64);
        assert_eq!(size_of::<Backend>(), 64);
        assert_eq!(size_of::<NextHop>(), 24);
        assert_eq!(size_of::<Interface>(), 12);
        assert_eq!(size_of::<BackendCounters>(), 40);
    }

    #[test]
    fn ticks_round_up_and_never_run_backwards() {
        assert!(f64::from(Ticks::from_seconds(10).0) * 0.268_435_456 >= 10.0);
        assert_eq!(Ticks(5).since(Ticks(7)), 0);
        assert_eq!(Ticks(2).since(Ticks(u32::MAX)), 3);
    }
}
