//! How much a source may begin or send: buckets of tokens.
//!
//! A bucket is one word: whose it is, the moment it was last taken from, and what was left then, in
//! parts of [`TOKEN`]. What has come since follows from the time, so nobody has to fill buckets.
//!
//! Eight buckets share a [`Line`] of memory, which a hash of the source names. Where a line has none
//! for a source, the fullest makes room, which is the one whose loss matters least: who sends from
//! many forged addresses gets their own buckets replaced, and hardly those that are empty.

use crate::{abi::Ticks, address::Address, engine::Family, hash, shared::Shared64};

/// Index of the [`Rate`] of new connections among the firewall's words.
pub const RATE: u32 = 1;
/// Index of the [`Sources`].
pub const SOURCES: u32 = 2;
/// Index of the [`Rate`] of packets.
pub const PACKET_RATE: u32 = 3;

/// A token, in the parts that buckets count.
pub const TOKEN: u32 = 256;

/// Tokens that a bucket can hold.
pub const MOST: u32 = 1 << 22;

/// Buckets of a line.
pub const WAYS: usize = 8;

/// Lines of a [`Kind`].
pub(super) const LINES: u32 = 1 << 14;

/// Behind the buckets: until when sources are denied, see [`super::offender`].
pub const RECENT: u32 = 3 * LINES;

/// Lines there, and one more.
pub const RECENT_LINES: u32 = 1 << 10;

/// Lines of all.
pub const ALL_LINES: u32 = RECENT + RECENT_LINES + 1;

/// Buckets of a kind; which are in use does not matter to what they cost.
pub const BUCKETS: u32 = LINES * WAYS as u32;

/// Buckets beside each other: a cache line.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Line(pub [Shared64; WAYS]);

/// What a bucket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// New connections.
    Connections = 0,
    /// Packets.
    Packets = 1,
    /// Flows at a time, whose words are [counts](super::count).
    Flows = 2,
}

impl Kind {
    /// Index of its limit among the firewall's words.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u32 {
        match self {
            Self::Connections => RATE,
            Self::Packets => PACKET_RATE,
            Self::Flows => super::count::FLOW_LIMIT,
        }
    }

    pub(super) const fn of_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Connections),
            1 => Some(Self::Packets),
            2 => Some(Self::Flows),
            _ => None,
        }
    }
}

/// Where a source's bucket of a kind is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// Whose bucket it is, never 0.
    tag: u64,
}

impl Place {
    const TAG_SHIFT: u32 = 48;
    const IN_USE: u64 = 1 << 15;

    /// Of a source.
    #[inline(always)]
    #[must_use]
    pub fn of(seed: u64, kind: Kind, source: Address) -> Self {
        let hash = hash::endpoint(seed, source, kind as u16, 0);
        Self {
            line: kind as u32 * LINES + (hash as u32 & (LINES - 1)),
            tag: hash >> Self::TAG_SHIFT | Self::IN_USE,
        }
    }

    /// Whose word that is in a line.
    #[cfg(any(test, feature = "host"))]
    pub(super) const fn of_word(line: usize, word: u64) -> Self {
        Self {
            line: line as u32,
            tag: word >> Self::TAG_SHIFT,
        }
    }

    /// Whether a word is of that source.
    #[inline(always)]
    pub(super) const fn owns(self, word: u64) -> bool {
        word >> Self::TAG_SHIFT == self.tag
    }

    /// What says in a word whose it is.
    #[inline(always)]
    pub(super) const fn mark(self) -> u64 {
        self.tag << Self::TAG_SHIFT
    }

    /// The way of a source in its line, and [`WAYS`]; less if there is none. Arithmetic without a
    /// branch, see [`Rate::take`].
    #[inline(always)]
    pub(super) fn find(self, line: &Line, forget: &impl Fn(u64) -> u64) -> usize {
        let mut found = 0;
        for (way, bucket) in line.0.iter().enumerate() {
            let other = forget(bucket.load() >> Self::TAG_SHIFT ^ self.tag);
            // 1 where it is 0.
            let is_own = other.wrapping_sub(1) >> 63;
            found |= is_own * (WAYS | way) as u64;
        }
        forget(found) as usize
    }
}

/// What a bucket gets in a tick, and what it holds at most. 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate(pub u64);

/// Bits of a bucket: 30 of tokens, then 18 of ticks, so that one that nobody took from for 19 hours
/// looks as if somebody just had.
const TICK_SHIFT: u32 = 30;
const TICK_MASK: u64 = (1 << 18) - 1;
const HELD_MASK: u64 = (1 << TICK_SHIFT) - 1;
/// A clock that was read on another CPU may be so many ticks behind.
const BEHIND: u64 = 16;

impl Rate {
    /// So many in a second, and so many at once, each up to [`MOST`].
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let in_a_second = u64::from(per_second.min(MOST)) * u64::from(TOKEN);
        let in_a_tick = (in_a_second << Ticks::SHIFT) / 1_000_000_000;
        let most = (u64::from(burst.min(MOST)) * u64::from(TOKEN)).min(HELD_MASK);
        Self(in_a_tick.max(1) | most << 32)
    }

    /// Whether there is a limit.
    #[inline(always)]
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.0 != 0
    }

    /// What a bucket holds now. Arithmetic without a branch: it is asked of each bucket of a line,
    /// and every branch would double what the verifier has to look at, which `forget` must hide from
    /// the compiler.
    #[inline(always)]
    fn held(self, bucket: u64, now: Ticks, forget: &impl Fn(u64) -> u64) -> u64 {
        let elapsed = u64::from(now.0).wrapping_sub(bucket >> TICK_SHIFT) & TICK_MASK;
        let is_behind = forget((elapsed + BEHIND) >> 18);
        let come = (elapsed & is_behind.wrapping_sub(1)) * (self.0 & 0xffff_ffff);
        let (held, most) = ((bucket & HELD_MASK) + come, self.0 >> 32);
        let is_less = forget(held.wrapping_sub(most) >> 63);
        most ^ ((held ^ most) & is_less.wrapping_neg())
    }

    /// Takes a token from a source's bucket in that line: which bucket changes, from what to what.
    /// Nothing if there is none in it. `forget` gives back a number that the verifier knows nothing
    /// of.
    #[inline(always)]
    pub fn take(
        self,
        line: &Line,
        place: Place,
        now: Ticks,
        forget: &impl Fn(u64) -> u64,
    ) -> Option<(usize, u64, u64)> {
        let found = place.find(line, forget);
        let way = if found & WAYS == 0 {
            self.fullest(line, now, forget)
        } else {
            found % WAYS
        };
        let old = line.0[way].load();
        // One that was displaced since is whole.
        let held = if place.owns(old) {
            self.held(old, now, forget)
        } else {
            self.0 >> 32
        };
        if held < u64::from(TOKEN) {
            return None;
        }
        let tick = u64::from(now.0) & TICK_MASK;
        let new = place.mark() | tick << TICK_SHIFT | (held - u64::from(TOKEN));
        Some((way, old, new))
    }

    /// The bucket that holds most, or one that is nobody's.
    #[inline(always)]
    fn fullest(self, line: &Line, now: Ticks, forget: &impl Fn(u64) -> u64) -> usize {
        const NOBODYS: u64 = 1 << 40;
        let mut best = 0_u64;
        for (way, bucket) in line.0.iter().enumerate() {
            let bucket = bucket.load();
            let is_nobodys = forget(!bucket >> 63);
            let held = self.held(bucket, now, forget) | (is_nobodys * NOBODYS);
            let own = held << 3 | way as u64;
            let is_less = forget(best.wrapping_sub(own) >> 63);
            best ^= (best ^ own) & is_less.wrapping_neg();
        }
        forget(best) as usize % WAYS
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

    /// Whether both make the same of an address.
    #[must_use]
    pub const fn are_as_large_as(self, other: Self) -> bool {
        self.0 & 0xffff == other.0 & 0xffff
    }

    /// Whether it only counts.
    #[inline(always)]
    #[must_use]
    pub const fn is_dry_run(self) -> bool {
        self.0 & Self::DRY_RUN != 0
    }

    /// Bits of an address that make a source, as they are written.
    #[inline(always)]
    #[must_use]
    pub const fn length(self, family: Family) -> u8 {
        match family {
            Family::V4 => self.0 as u8,
            Family::V6 => (self.0 >> 8) as u8,
        }
    }

    /// The source that an address is of.
    #[inline(always)]
    #[must_use]
    pub fn of(self, family: Family, address: Address) -> Address {
        match family {
            Family::V4 => self.of_v4(address),
            Family::V6 => self.of_v6(address),
        }
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

    fn same(number: u64) -> u64 {
        number
    }

    fn source(number: u32) -> Address {
        Address::from_v4(number.to_be_bytes())
    }

    /// Takes a token as the engine does.
    fn take(rate: Rate, line: &Line, place: Place, now: u32) -> bool {
        let Some((way, old, new)) = rate.take(line, place, Ticks(now), &same) else {
            return false;
        };
        assert_eq!(line.0[way].load(), old);
        line.0[way].store(new);
        true
    }

    const SEED: u64 = 0x1234_5678_9abc_def1;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate::new(10, 4);
        let (line, place) = (Line::default(), Place::of(SEED, Kind::Packets, source(7)));
        let count = |now| (0..).take_while(|_| take(rate, &line, place, now)).count();
        assert_eq!(count(1000), 4);
        // In 100 ticks, 26.8 s: 268 tokens, of which 4 fit at a time.
        let more: usize = (1..=100).map(|tick| count(1000 + tick)).sum();
        assert!((260..=268).contains(&more), "{more}");
        // A clock that is slightly behind gives nothing, and takes nothing away.
        assert_eq!(count(1095), 0);
        assert_eq!(count(1_000_000), 4);
    }

    #[test]
    fn the_slowest_rate_is_not_none_and_the_highest_fits() {
        let (line, place) = (Line::default(), Place::of(SEED, Kind::Packets, source(7)));
        let slow = Rate::new(1, 1);
        assert!(take(slow, &line, place, 1) && !take(slow, &line, place, 2));
        assert!(take(slow, &line, place, 10));
        let (line, fast) = (Line::default(), Rate::new(u32::MAX, u32::MAX));
        assert!(take(fast, &line, place, 1) && take(fast, &line, place, u32::MAX / 2));
        assert!(fast.0 >> 32 <= HELD_MASK && fast.0 & 0xffff_ffff > 1 << 28);
    }

    #[test]
    fn who_has_no_tokens_left_is_remembered_among_many_who_have() {
        let rate = Rate::new(1, 3);
        let line = Line::default();
        let offender = Place::of(SEED, Kind::Connections, source(7));
        while take(rate, &line, offender, 1000) {}
        // Each once, as forged ones come.
        for number in 100..10_000 {
            let place = Place::of(SEED, Kind::Connections, source(number));
            if place.tag != offender.tag {
                assert!(take(rate, &line, place, 1001), "{number}");
            }
        }
        assert!(!take(rate, &line, offender, 1002));
        // Neighbours have buckets of their own while there is room.
        let line = Line::default();
        let places: Vec<Place> = (0..WAYS as u32)
            .map(|number| Place::of(SEED, Kind::Packets, source(number)))
            .collect();
        for _ in 0..3 {
            assert!(places.iter().all(|place| take(rate, &line, *place, 5)));
        }
        assert!(places.iter().all(|place| !take(rate, &line, *place, 5)));
    }

    #[test]
    fn places_are_of_their_kind() {
        for number in 0..1000 {
            let of = |kind| Place::of(SEED, kind, source(number));
            let (one, other) = (of(Kind::Connections), of(Kind::Packets));
            assert!(one.line < LINES && (LINES..2 * LINES).contains(&other.line));
            assert!(one.tag & Place::IN_USE != 0 && one.tag <= 0xffff);
        }
        assert_eq!(size_of::<Line>(), 64);
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
