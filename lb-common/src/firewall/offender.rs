//! Sources that exceeded a limit and are denied for a while.
//!
//! Who they are stands in a hash that the kernel keeps from growing. Most packets must not pay for a
//! look-up there, so words come first that say until when anybody is denied: one for all sources, and
//! one for those that share a hash. They need not be cleaned, because the time passes.

use super::rate::{Kind, RECENT, RECENT_LINES, WAYS};
use crate::{abi::Ticks, address::Address, hash};

/// Index of the span for which they are denied among the firewall's words, in ticks; 0 is none.
pub const SPAN: u32 = 4;

/// Sources that are denied at a time; the one that was not heard of longest makes room.
pub const OFFENDERS: u32 = 1 << 16;

/// What one did, and until when it is denied. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offender(pub u64);

impl Offender {
    /// One that exceeded that limit, as a source of so many bits.
    #[inline(always)]
    #[must_use]
    pub const fn new(kind: Kind, length: u8, until: Ticks) -> Self {
        Self(until.0 as u64 | (kind as u64) << 32 | (length as u64) << 40)
    }

    /// Until when it is denied.
    #[inline(always)]
    #[must_use]
    pub const fn until(self) -> Ticks {
        Ticks(self.0 as u32)
    }

    /// What it exceeded.
    #[must_use]
    pub const fn exceeded(self) -> Option<Kind> {
        Kind::of_number((self.0 >> 32) as u8)
    }

    /// Bits of an address that make a source, as they are written.
    #[must_use]
    pub const fn length(self) -> u8 {
        (self.0 >> 40) as u8
    }

    /// For [`crate::trace::Decision::Offender`].
    #[inline(always)]
    #[must_use]
    pub const fn about(self, now: Ticks) -> u32 {
        let left = self.until().since(now);
        let left = if left > 0xff_ffff { 0xff_ffff } else { left };
        left | ((self.0 >> 32) as u32 & 0xff) << 24
    }
}

/// Where it stands until when somebody is denied: a line and a way of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The line, see [`super::rate::Line`].
    pub line: u32,
    /// Of its words.
    pub way: usize,
}

impl Spot {
    /// For all sources.
    pub const ALL: Self = Self {
        line: RECENT + RECENT_LINES,
        way: 0,
    };

    /// For a source and those with the same hash.
    #[inline(always)]
    #[must_use]
    pub fn of(seed: u64, source: Address) -> Self {
        let hash = hash::endpoint(seed, source, u16::MAX, 0);
        Self {
            line: RECENT + (hash as u32 & (RECENT_LINES - 1)),
            way: (hash >> 32) as usize % WAYS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::rate::ALL_LINES;

    #[test]
    fn an_offender_is_what_it_was_made_of() {
        let one = Offender::new(Kind::Packets, 24, Ticks(77));
        assert_eq!(one.until(), Ticks(77));
        assert_eq!(one.exceeded(), Some(Kind::Packets));
        assert_eq!(one.length(), 24);
        assert_eq!(one.about(Ticks(70)), 1 << 24 | 7);
        assert_eq!(one.about(Ticks(78)), 1 << 24);
        assert_eq!(Offender::default().until().since(Ticks(5)), 0);
    }

    #[test]
    fn spots_are_behind_the_buckets() {
        for number in 0..1000_u32 {
            let spot = Spot::of(7, Address::from_v4(number.to_be_bytes()));
            assert!(spot.line >= RECENT && spot.line < Spot::ALL.line && spot.way < WAYS);
        }
        assert_eq!(Spot::ALL.line + 1, ALL_LINES);
    }
}
