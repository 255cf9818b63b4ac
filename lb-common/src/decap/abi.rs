//! What the agent and the decapsulation program agree on. Layouts are as in [`crate::abi`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;

/// Name of the program in the object `lb-decap`.
pub const PROGRAM: &str = "decap";
/// Name of the global (`.rodata`) of type [`Settings`] in the object `lb-decap`.
pub const SETTINGS_GLOBAL: &str = "DECAP_SETTINGS";

/// Names of the maps, at most 15 characters so that the kernel keeps them whole.
pub mod maps {
    /// `HASH`, [`crate::address::Address`] to `u32`: the addresses that packets are taken out for.
    pub const VIPS: &str = "DECAP_VIPS";
    /// `LPM_TRIE`, [`super::SourceKey`] to `u32`: where tunnels may come from.
    pub const SOURCES: &str = "DECAP_SOURCES";
    /// `PERCPU_ARRAY` of one [`super::Counters`]; the only one that is pinned, as the others are
    /// made anew with every program.
    pub const COUNTERS: &str = "DECAP_COUNTERS";
}

/// Bits of [`Settings::accepts`].
pub mod accepts {
    /// IP in IP: protocols 4 and 41.
    pub const IPIP: u32 = 1;
    /// Generic UDP encapsulation.
    pub const GUE: u32 = 1 << 1;
}

/// Load-time constants.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Settings {
    /// Bits of [`accepts`].
    pub accepts: u32,
    /// Whether tunnels are only taken from the sources of the map; else from anywhere.
    pub checks_sources: u32,
}

/// Counters of one CPU, by `Verdict as usize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Counters {
    /// Packets.
    pub verdicts: [u64; VERDICT_CAPACITY],
}

/// Room for verdicts, a power of two.
pub const VERDICT_CAPACITY: usize = 16;

/// The key of a whole address, or of a prefix of it, in [`maps::SOURCES`]. The map takes what stands
/// behind `length` bit by bit, so the family comes first: `::/0` has no IPv4 in it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct SourceKey {
    /// Bits that count: those of the family, and of the address from its first byte on.
    pub length: u32,
    /// 4 or 6.
    pub family: u32,
    /// See [`Address::words`].
    pub address: [u64; 2],
}

impl SourceKey {
    /// The first `length` bits of an address, counted in its own family.
    #[inline(always)]
    #[must_use]
    pub fn new(address: Address, length: u8) -> Self {
        let is_v4 = address.is_v4();
        Self {
            length: u32::BITS + u32::from(length) + if is_v4 { 96 } else { 0 },
            family: if is_v4 { 4 } else { 6 },
            address: address.words(),
        }
    }

    /// All of an address.
    #[inline(always)]
    #[must_use]
    pub fn whole(address: Address) -> Self {
        Self {
            length: u32::BITS + u128::BITS,
            ..Self::new(address, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_names_are_short_enough_for_the_kernel() {
        for name in [maps::VIPS, maps::SOURCES, maps::COUNTERS] {
            assert!(name.len() <= 15, "{name}");
        }
    }

    #[test]
    fn layouts_stay() {
        assert_eq!(size_of::<Settings>(), 8);
        assert_eq!(size_of::<Counters>(), 128);
        assert_eq!(size_of::<SourceKey>(), 24);
    }
}
