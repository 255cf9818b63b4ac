//! Who may send: prefixes of source addresses that are denied or allowed.
//!
//! The exact answer is a longest match in a trie, which costs more than a packet may. So a bitmap
//! comes first: a clear bit says that no prefix matches, and nothing else is looked up. IPv4 has a
//! bit for each /24, IPv6 bits by a hash of the first 32 and of the first 48 bits.
//!
//! Both are there twice, for a *generation* that holds and one that is being made: the trie's keys
//! begin with the generation, the bitmap has two halves. One word, the [`Control`], says which one
//! holds; so thousands of prefixes change in one step.

pub mod count;
pub mod lock;
pub mod offender;
#[cfg(any(test, feature = "host"))]
mod prefix;
pub mod rate;

#[cfg(any(test, feature = "host"))]
pub use prefix::{Prefix, Words, words_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address::Address, hash};

/// Index of the [`Control`] in the map.
pub const CONTROL: u32 = 0;
/// Words in front of the bitmaps: the control stands alone on its cache line.
const HEADER: u32 = 8;
/// Words for the /24s of IPv4.
const V4_WORDS: u32 = 1 << 18;
/// log2 of the bits of IPv6.
const V6_BITS: u32 = 22;
/// Words of one generation.
const HALF: u32 = V4_WORDS + (1 << (V6_BITS - 6));
/// Words of the map.
pub const WORDS: u32 = lock::PORT_WORDS.end;

/// Prefixes of a generation at most.
pub const MOST_PREFIXES: u32 = 500_000;

/// The scope of prefixes that hold for every packet; those of services are given out by the agent,
/// see [`crate::abi::Service::lists`].
pub const HOST: u32 = 0;

/// Scopes are below that.
pub const SCOPES: u32 = 1 << 23;

/// The bit of a scope that prefixes of IPv4 have, so that none of IPv6 holds a mapped address.
const IS_V4: u32 = SCOPES;

/// Bits of a key in front of the address.
const SCOPE_BITS: u32 = 32;

/// Which generation holds, and how. 0 is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control(pub u64);

impl Control {
    const ON: u64 = 1 << 8;
    const DRY_RUN: u64 = 1 << 9;
    const SHORT_V6: u64 = 1 << 10;
    const LOCKED: u64 = 1 << 11;

    /// The control of a generation with prefixes.
    #[must_use]
    pub const fn new(generation: u8) -> Self {
        Self(generation as u64 | Self::ON)
    }

    /// Only counts what would be dropped.
    #[must_use]
    pub const fn dry_run(self, is_dry: bool) -> Self {
        self.with(Self::DRY_RUN, is_dry)
    }

    /// Whether there are prefixes of IPv6 that are too short for bits of their own, so that all of
    /// IPv6 asks the trie.
    #[must_use]
    pub const fn short_v6(self, is_there: bool) -> Self {
        self.with(Self::SHORT_V6, is_there)
    }

    /// Whether the host is locked down, see [`lock`].
    #[must_use]
    pub const fn locked(self, is_locked: bool) -> Self {
        self.with(Self::LOCKED, is_locked)
    }

    const fn with(self, bit: u64, is_set: bool) -> Self {
        if is_set {
            Self(self.0 | bit)
        } else {
            Self(self.0 & !bit)
        }
    }

    /// Whether there is anything to look up.
    #[inline(always)]
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.0 & Self::ON != 0
    }

    /// See [`Control::locked`].
    #[inline(always)]
    #[must_use]
    pub const fn is_locked(self) -> bool {
        self.0 & Self::LOCKED != 0
    }

    /// See [`Control::dry_run`].
    #[inline(always)]
    #[must_use]
    pub const fn is_dry_run(self) -> bool {
        self.0 & Self::DRY_RUN != 0
    }

    /// See [`Control::short_v6`].
    #[inline(always)]
    #[must_use]
    pub const fn has_short_v6(self) -> bool {
        self.0 & Self::SHORT_V6 != 0
    }

    /// The generation that holds.
    #[inline(always)]
    #[must_use]
    pub const fn generation(self) -> u8 {
        self.0 as u8
    }
}

/// What a prefix says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Action {
    /// Its packets are dropped.
    Deny = 1,
    /// They are not, whatever a shorter prefix says.
    Allow = 2,
}

/// A value of the trie; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry(pub u32);

impl Entry {
    /// What a prefix of that length says.
    #[must_use]
    pub const fn new(action: Action, length: u8) -> Self {
        Self(action as u32 | (length as u32) << 8)
    }

    /// Denies whoever no prefix of a service allows.
    pub const NOT_ALLOWED: Self = Self::new(Action::Deny, Self::NO_PREFIX as u8);

    /// [`Entry::length`] of [`Entry::NOT_ALLOWED`].
    pub const NO_PREFIX: u32 = 255;

    /// Whether it denies.
    #[inline(always)]
    #[must_use]
    pub const fn denies(self) -> bool {
        self.0 & 0xff == Action::Deny as u32
    }

    /// Whether there is one.
    #[inline(always)]
    #[must_use]
    pub const fn is_there(self) -> bool {
        self.0 != 0
    }

    /// Of the prefix that matched, as it is written.
    #[inline(always)]
    #[must_use]
    pub const fn length(self) -> u32 {
        self.0 >> 8
    }
}

/// A key of the trie: how many bits of what follows matter, then generation and scope, then the
/// address.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Key {
    /// In bits.
    pub prefix_length: u32,
    /// Network order: the generation in the first byte, then the scope.
    pub scope: u32,
    /// The address, IPv4 mapped.
    pub address: Address,
}

impl Key {
    /// Asks for an address.
    #[inline(always)]
    #[must_use]
    pub fn of(generation: u8, scope: u32, address: Address) -> Self {
        Self::of_family(generation, scope, address, address.is_v4())
    }

    #[inline(always)]
    const fn of_family(generation: u8, scope: u32, address: Address, is_v4: bool) -> Self {
        let scope = (scope & (SCOPES - 1)) | (IS_V4 * is_v4 as u32);
        Self {
            prefix_length: SCOPE_BITS + 128,
            scope: ((generation as u32) << 24 | scope).to_be(),
            address,
        }
    }

    /// The generation it is of.
    #[must_use]
    pub const fn generation(&self) -> u8 {
        (u32::from_be(self.scope) >> 24) as u8
    }
}

/// A bit of the bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bit {
    /// Index of its word in the map.
    pub word: u32,
    /// The word with only this bit set.
    pub mask: u64,
}

#[inline(always)]
const fn half(generation: u8) -> u32 {
    HEADER + (generation as u32 & 1) * HALF
}

/// The bit of an IPv4 address.
#[inline(always)]
#[must_use]
pub fn bit_of_v4(generation: u8, address: Address) -> Bit {
    bit_of_24(generation, u32::from_be_bytes(address.v4_octets()) >> 8)
}

#[inline(always)]
const fn bit_of_24(generation: u8, number: u32) -> Bit {
    Bit {
        word: half(generation) + (number >> 6 & (V4_WORDS - 1)),
        mask: 1 << (number & 63),
    }
}

/// The bits of an IPv6 address: by its first 32 bits, and by its first 48.
#[inline(always)]
#[must_use]
pub fn bits_of_v6(generation: u8, seed: u64, address: Address) -> [Bit; 2] {
    let high = u64::from_be(address.words()[0]);
    [
        bit_of_hashed(generation, seed, high >> 32),
        bit_of_hashed(generation, !seed, high >> 16),
    ]
}

#[inline(always)]
const fn bit_of_hashed(generation: u8, seed: u64, number: u64) -> Bit {
    let hash = hash::word(seed, number) >> (64 - V6_BITS);
    Bit {
        word: half(generation) + V4_WORDS + (hash >> 6) as u32,
        mask: 1 << (hash & 63),
    }
}
