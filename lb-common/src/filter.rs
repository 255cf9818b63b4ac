//! The endpoint filter: a bitmap that says in one load what a packet cannot be.
//!
//! A bit per service endpoint and per backend endpoint with `nat`. A clear bit is certain, a set
//! bit is a hint that the exact tables confirm; so traffic that is not ours costs two loads. The
//! agent sets bits before it adds an entry and clears them after it removed one.

use crate::{address::Address, hash};

/// What an endpoint is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Role {
    /// Destination of packets for a service.
    Service = 0x5e72_1ce5_0000_0001,
    /// Source of replies that are to be un-rewritten.
    Backend = 0xbac4_e4d5_0000_0002,
}

/// Where an endpoint's bit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bit {
    /// Index of the `u64` word.
    pub word: u32,
    /// The word with only this bit set.
    pub mask: u64,
}

impl Bit {
    /// The bit of an endpoint; `words_mask` is the number of words minus 1, a power of two minus 1.
    #[inline(always)]
    #[must_use]
    pub fn of(
        seed: u64,
        words_mask: u32,
        role: Role,
        address: Address,
        port: u16,
        protocol: u8,
    ) -> Self {
        let hash = hash::endpoint(seed ^ role as u64, address, port, protocol);
        Self {
            word: ((hash >> 6) as u32) & words_mask,
            mask: 1 << (hash & 63),
        }
    }
}

/// Words for a filter of that many endpoints: 32 bits for each, so that about one in 30 foreign
/// endpoints meets a set bit when it is full, and at least 8 KiB.
#[must_use]
pub const fn words_for(endpoints: u32) -> u32 {
    let words = endpoints.div_ceil(2).next_power_of_two();
    if words < 1024 { 1024 } else { words }
}
