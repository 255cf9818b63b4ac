//! Sampled packets with their verdict: what `lb capture` reads from a ring buffer.
//!
//! Only a program with [`features::CAPTURE`](crate::abi::features::CAPTURE) does this, which takes
//! the other one's place while somebody captures (Linux 5.18).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::trace::Trace;

/// Name of the map, an `ARRAY` of one [`Filter`].
pub const FILTER_MAP: &str = "CAPTURE_FILTER";
/// Name of the map, a `RINGBUF` of [`Record`]s, each followed by its bytes.
pub const RING_MAP: &str = "CAPTURE_RING";
/// Name of the map, a `PERCPU_ARRAY` of one [`Counts`].
pub const COUNTS_MAP: &str = "CAPTURE_COUNTS";

/// Bytes of a frame that are held at most.
pub const SNAP: usize = 4096;

/// Which packets are captured.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Filter {
    /// A bit for each [`crate::verdict::Verdict`].
    pub verdicts: u64,
    /// Id of a service plus 1; 0 for any.
    pub service: u32,
    /// Every so many packets of a CPU, one is looked at; 0 for none at all.
    pub sample: u32,
    /// Bytes of a frame that are wanted, up to [`SNAP`].
    pub snap: u32,
    /// Always 0.
    pub reserved: u32,
}

/// What a CPU did since the program was loaded.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Counts {
    /// Packets.
    pub seen: u64,
    /// Packets that were looked at.
    pub sampled: u64,
    /// Packets that should have been captured when the ring buffer was full.
    pub lost: u64,
}

/// A captured packet, as it came in. Its bytes follow.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Record {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// The interface it came in by.
    pub ingress: u32,
    /// The queue it came in by.
    pub queue: u32,
    /// Bytes that the frame had.
    pub length: u32,
    /// Bytes that follow.
    pub captured: u32,
    /// The decisions, the verdict and the way out.
    pub trace: Trace,
}
