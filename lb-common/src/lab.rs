//! What the programs for labs and benchmarks share with their loader. No part of the agent's ABI.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest beginning of a frame that the generator writes.
pub const TEMPLATE: usize = 80;

/// What the generator makes of each frame it is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Plan {
    /// First bytes of every frame: Ethernet, IP, TCP or UDP, with correct checksums.
    pub template: [u8; TEMPLATE],
    /// Flows, minus 1; a power of two minus 1. Flow `n` differs from the template in the source:
    /// the low 12 bits of `n` change the port, the others the last 4 bytes of the address, by
    /// exclusive or.
    pub flow_mask: u64,
    /// 1 for IPv6, 0 for IPv4.
    pub is_v6: u32,
    /// 1 for UDP, 0 for TCP.
    pub is_udp: u32,
    /// 1 to go on with the program in `TARGET`, 0 to transmit.
    pub calls_target: u32,
    /// Services, minus 1; a power of two minus 1, and below 65,536. Flow `n` changes the
    /// template's destination port by the bits of `n` in this mask, by exclusive or.
    pub service_mask: u32,
    /// Bytes of a frame: what an earlier run put in front of it is taken off first.
    pub length: u32,
    /// 1 if what an earlier run added was added behind it, 0 if in front.
    pub grows_behind: u32,
}

/// Port and address offsets of flow `n`.
#[inline(always)]
#[must_use]
pub const fn flow_offsets(n: u64) -> (u16, u32) {
    ((n & 0xfff) as u16, (n >> 12) as u32)
}
