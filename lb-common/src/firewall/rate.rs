//! How many connections a source may begin: a bucket of tokens for each.
//!
//! A bucket is one word: the moment it was last taken from, and what was left then, in parts of
//! [`TOKEN`]. What has come since follows from the time, so nobody has to fill buckets.

use crate::{abi::Ticks, address::Address};

/// Index of the [`Rate`] among the firewall's words.
pub const RATE: u32 = 1;
/// Index of the [`Sources`].
pub const SOURCES: u32 = 2;

/// A token, in the parts that buckets count.
pub const TOKEN: u32 = 256;

/// Buckets at a time; the one that was not asked for longest makes room.
pub const BUCKETS: u32 = 1 << 17;

/// What a bucket gets in a tick, and what it holds at most. 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate(pub u64);

impl Rate {
    /// So many in a second, and so many at once.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let in_a_tick = (per_second as u64 * TOKEN as u64 * (1 << Ticks::SHIFT)) / 1_000_000_000;
        let in_a_tick = if in_a_tick == 0 { 1 } else { in_a_tick };
        Self(in_a_tick | ((burst as u64 * TOKEN as u64) << 32))
    }

    /// Whether there is a limit.
    #[inline(always)]
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.0 != 0
    }

    /// What becomes of a bucket that a token is taken from; nothing if there is none in it.
    #[inline(always)]
    #[must_use]
    pub fn take(self, bucket: Option<u64>, now: Ticks) -> Option<u64> {
        let most = self.0 >> 32;
        let held = match bucket {
            None => most,
            Some(bucket) => {
                let elapsed = now.since(Ticks((bucket >> 32) as u32));
                let come = u64::from(elapsed) * (self.0 & 0xffff_ffff);
                most.min((bucket & 0xffff_ffff) + come)
            }
        };
        if held < u64::from(TOKEN) {
            return None;
        }
        Some(u64::from(now.0) << 32 | (held - u64::from(TOKEN)))
    }
}

/// How much of an address makes a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources(pub u64);

impl Sources {
    const DRY_RUN: u64 = 1 << 16;

    /// So many bits of IPv4, and of the first 64 of IPv6.
    #[must_use]
    pub const fn new(bits_v4: u8, bits_v6: u8, is_dry: bool) -> Self {
        let dry = if is_dry { Self::DRY_RUN } else { 0 };
        Self(bits_v4 as u64 | (bits_v6 as u64) << 8 | dry)
    }

    /// Whether it only counts.
    #[inline(always)]
    #[must_use]
    pub const fn is_dry_run(self) -> bool {
        self.0 & Self::DRY_RUN != 0
    }

    /// The source that an IPv4 address is of.
    #[inline(always)]
    #[must_use]
    pub fn of_v4(self, address: Address) -> Address {
        let mask = (u64::from(u32::MAX) << (32 - (self.0 & 0x3f)).min(32)) as u32;
        let number = u32::from_be_bytes(address.v4_octets()) & mask;
        Address::from_v4(number.to_be_bytes())
    }

    /// The source that an IPv6 address is of.
    #[inline(always)]
    #[must_use]
    pub fn of_v6(self, address: Address) -> Address {
        let bits = (self.0 >> 8 & 0x7f).clamp(1, 64);
        let mask = u64::MAX << (64 - bits);
        let [high, _] = address.words();
        Address::from_words([(u64::from_be(high) & mask).to_be(), 0])
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate::new(10, 4);
        let mut bucket = None;
        let mut taken = 0;
        let now = Ticks(1000);
        while let Some(next) = rate.take(bucket, now) {
            bucket = Some(next);
            taken += 1;
        }
        assert_eq!(taken, 4);
        // In 100 ticks, 26.8 s: 268 tokens, of which 4 fit at a time.
        let mut more = 0;
        for tick in 1..=100 {
            while let Some(next) = rate.take(bucket, Ticks(1000 + tick)) {
                bucket = Some(next);
                more += 1;
            }
        }
        assert!((260..=268).contains(&more), "{more}");
        // A clock that is slightly behind gives nothing, and takes nothing away.
        assert_eq!(rate.take(bucket, Ticks(900)), None);
        let full = rate.take(bucket, Ticks(u32::MAX / 2)).unwrap();
        assert_eq!(full & 0xffff_ffff, u64::from(3 * TOKEN));
    }

    #[test]
    fn the_slowest_rate_is_not_none_and_the_highest_fits() {
        let slow = Rate::new(1, 1);
        let bucket = slow.take(None, Ticks(1));
        assert_eq!(slow.take(bucket, Ticks(2)), None);
        assert!(slow.take(bucket, Ticks(10)).is_some());
        let fast = Rate::new(1_000_000, 1_000_000);
        let bucket = fast.take(None, Ticks(1)).unwrap();
        assert!(fast.take(Some(bucket), Ticks(u32::MAX / 2)).is_some());
    }

    #[test]
    fn sources_are_prefixes() {
        let ip = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
        let of = |v4, v6| Sources::new(v4, v6, false);
        assert_eq!(of(24, 64).of_v4(ip("198.51.100.7")), ip("198.51.100.0"));
        assert_eq!(of(32, 64).of_v4(ip("198.51.100.7")), ip("198.51.100.7"));
        assert_eq!(
            of(32, 64).of_v6(ip("2001:db8:1:2:3::4")),
            ip("2001:db8:1:2::")
        );
        assert_eq!(
            of(32, 48).of_v6(ip("2001:db8:1:2:3::4")),
            ip("2001:db8:1::")
        );
        assert!(Sources::new(32, 64, true).is_dry_run() && !of(32, 64).is_dry_run());
    }
}
