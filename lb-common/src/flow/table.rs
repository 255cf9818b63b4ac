//! Look-up and insertion.

use core::hint::black_box;

use crate::{
    abi::{Settings, Ticks, features},
    address::Address,
    flow::{BUCKET_WAYS, FlowEntry, NewFlow, Shift},
    hash,
    shared::{Shared16, Shared32},
    tables::{FlowTable, Tables},
};

/// A line of tags and eight flows.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Bucket {
    pub(super) tags: [Shared32; BUCKET_WAYS],
    /// Not 0 once a flow went to its second bucket.
    overflowed: Shared32,
    /// The upper halves of the flows' [`Shift`]s, where they have one.
    pub(super) shifts: [Shared16; BUCKET_WAYS],
    spare: [Shared32; 3],
    pub(super) ways: [FlowEntry; BUCKET_WAYS],
}

/// The tag of a place without a flow.
pub(super) const EMPTY: u32 = 0;
/// The tag of a place that somebody is about to fill or to free.
pub(super) const BUSY: u32 = 1;
/// Set in every tag of a flow, so that it is neither of the two above.
pub(crate) const TAKEN: u32 = 2;

impl Bucket {
    /// The flows that stand in it.
    pub fn flows(&self) -> impl Iterator<Item = &FlowEntry> {
        self.tags
            .iter()
            .zip(&self.ways)
            .filter(|(tag, _)| tag.load() & !BUSY != EMPTY)
            .map(|(_, flow)| flow)
    }
}

/// Where the flows of a client endpoint belong.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    hash: u64,
}

impl Place {
    /// The place of a client endpoint; the port is in network order.
    #[inline(always)]
    #[must_use]
    pub fn of(settings: &Settings, client: Address, port: u16, protocol: u8) -> Self {
        Self {
            hash: hash::endpoint(settings.hash_seed, client, port, protocol),
        }
    }

    /// From [`Place::hash`].
    #[inline(always)]
    #[must_use]
    pub const fn from_hash(hash: u64) -> Self {
        Self { hash }
    }

    /// All that makes it up.
    #[inline(always)]
    #[must_use]
    pub const fn hash(self) -> u64 {
        self.hash
    }

    #[inline(always)]
    pub(super) const fn tag(self) -> u32 {
        (self.hash >> 32) as u32 | TAKEN
    }

    /// The way of a bucket to try first.
    #[inline(always)]
    pub(super) const fn way(self) -> usize {
        (self.hash >> 29) as usize % BUCKET_WAYS
    }

    /// The two buckets of the established table in which its flows may stand.
    #[must_use]
    pub const fn buckets(self, settings: &Settings) -> [u32; 2] {
        [
            self.first(settings, FlowTable::Established),
            self.second(settings),
        ]
    }

    /// The bucket to try first.
    #[inline(always)]
    const fn first(self, settings: &Settings, table: FlowTable) -> u32 {
        let mask = match table {
            FlowTable::Established => Self::front(settings.established_mask),
            FlowTable::HalfOpen => settings.half_open_mask,
        };
        self.hash as u32 & mask
    }

    /// The other one of the established table, behind its front.
    #[inline(always)]
    const fn second(self, settings: &Settings) -> u32 {
        let mask = settings.established_mask;
        let front = Self::front(mask);
        let hash = self.tag().wrapping_mul(0x9e37_79b1) as u64;
        let behind = (hash * (mask - front) as u64) >> 32;
        front.wrapping_add(1 + behind as u32) & mask
    }

    /// The mask of the quarter of the established table where flows stand first. As long as they
    /// fit there the rest is not touched, and what a CPU's caches have to hold is a quarter, too.
    #[inline(always)]
    const fn front(mask: u32) -> u32 {
        mask >> 2
    }
}

/// Whether a table gives each flow a second bucket.
#[inline(always)]
const fn has_second_choice(table: FlowTable) -> bool {
    match table {
        FlowTable::Established => true,
        FlowTable::HalfOpen => false,
    }
}

/// A flow in its place.
#[derive(Clone, Copy, Debug)]
pub struct Found<'t> {
    /// The flow.
    pub flow: &'t FlowEntry,
    tag: &'t Shared32,
    value: u32,
}

impl Found<'_> {
    /// Frees the place, unless another CPU gave it to another flow meanwhile.
    #[inline(always)]
    pub fn release<T: Tables>(self, tables: &T) {
        if tables.compare_exchange(self.tag, self.value, BUSY) {
            self.flow.clear();
            self.tag.store(EMPTY);
        }
    }
}

/// Which of a bucket's tags have that value: a bit each, see [`first`].
///
/// Two tags are compared at once, and without a branch: a search that branched at each of eight
/// ways would multiply the states that the verifier has to walk through.
#[inline(always)]
fn ways_with(bucket: &Bucket, tag: u32) -> u64 {
    const LOW: u64 = 0x7fff_ffff_7fff_ffff;
    let wanted = u64::from(tag) << 32 | u64::from(tag);
    let mut ways = 0;
    for (index, pair) in bucket.tags.chunks_exact(2).enumerate() {
        let difference = (u64::from(pair[1].load()) << 32 | u64::from(pair[0].load())) ^ wanted;
        // The top bit of each half that is all zero, and nothing else.
        let equal = !(((difference & LOW) + LOW) | difference | LOW);
        ways |= equal >> (31 - index);
    }
    ways
}

/// The first way in a set made by [`ways_with`], which has way `2 n` at bit `n` and way `2 n + 1`
/// at bit `32 + n`.
#[inline(always)]
fn first(ways: u64) -> usize {
    let lowest = ways & ways.wrapping_neg();
    let (even, odd) = (lowest & 0xf, lowest >> 32);
    let bit = even | odd;
    let index = (bit >> 1) - (bit >> 3);
    (2 * index + (odd >> index)) as usize % BUCKET_WAYS
}

#[inline(always)]
fn search(
    bucket: &Bucket,
    place: Place,
    matches: &mut impl FnMut(&FlowEntry) -> bool,
) -> Option<usize> {
    let mut ways = ways_with(bucket, place.tag());
    for _ in 0..BUCKET_WAYS {
        if ways == 0 {
            return None;
        }
        let way = first(ways);
        let flow = &bucket.ways[way];
        if matches(flow) {
            return Some(way);
        }
        ways &= ways - 1;
    }
    None
}

/// Where a flow stands: a table, a bucket and a way; or nowhere.
///
/// It is a plain number, so that the verifier can be made to forget by which of many ways a search
/// ended ([`crate::frame::Frame::forget`]), and walks through what follows once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot(pub u64);

impl Spot {
    /// No flow was found.
    pub const NOWHERE: Self = Self(0);
    const IS_FOUND: u64 = 1 << 63;
    const IS_HALF_OPEN: u64 = 1 << 62;

    #[inline(always)]
    const fn new(table: FlowTable, bucket: u32, way: usize) -> Self {
        let half_open = match table {
            FlowTable::Established => 0,
            FlowTable::HalfOpen => Self::IS_HALF_OPEN,
        };
        Self(Self::IS_FOUND | half_open | (bucket as u64) << 8 | way as u64)
    }

    /// Whether a flow was found.
    #[inline(always)]
    #[must_use]
    pub const fn is_found(self) -> bool {
        self.0 & Self::IS_FOUND != 0
    }

    /// Whether it stands in that table.
    #[inline(always)]
    #[must_use]
    pub const fn is_in(self, table: FlowTable) -> bool {
        self.is_found()
            && match table {
                FlowTable::Established => self.0 & Self::IS_HALF_OPEN == 0,
                FlowTable::HalfOpen => self.0 & Self::IS_HALF_OPEN != 0,
            }
    }

    /// The flow, which stands in that table.
    #[inline(always)]
    pub fn get<T: Tables>(self, tables: &T, table: FlowTable, place: Place) -> Option<Found<'_>> {
        let bucket = tables.bucket(table, (self.0 >> 8) as u32)?;
        let way = self.0 as usize % BUCKET_WAYS;
        Some(Found {
            flow: &bucket.ways[way],
            tag: &bucket.tags[way],
            value: place.tag(),
        })
    }

    /// What is known of the sequence numbers of the flow, which stands in that table.
    #[inline(always)]
    pub fn shift<T: Tables>(self, tables: &T, table: FlowTable) -> Shift {
        let way = self.0 as usize % BUCKET_WAYS;
        tables
            .bucket(table, (self.0 >> 8) as u32)
            .map_or(Shift::NONE, |bucket| {
                bucket.ways[way].shift(bucket.shifts[way].load())
            })
    }
}

/// Where the flow stands for which `matches` holds, if that is the very way of its bucket that an
/// insertion tries first. Most flows do; one cache line is read instead of two.
#[inline(always)]
pub fn locate_at_home<T: Tables>(
    tables: &T,
    table: FlowTable,
    place: Place,
    matches: impl FnOnce(&FlowEntry) -> bool,
) -> Spot {
    let index = place.first(&tables.settings(), table);
    let way = place.way();
    match tables.bucket(table, index) {
        Some(bucket) if matches(&bucket.ways[way]) => Spot::new(table, index, way),
        _ => Spot::NOWHERE,
    }
}

/// The flow at a place for which `matches` holds.
#[inline(always)]
pub fn find<T: Tables>(
    tables: &T,
    table: FlowTable,
    place: Place,
    matches: impl FnMut(&FlowEntry) -> bool,
) -> Option<Found<'_>> {
    let spot = locate(tables, table, place, matches);
    if spot.is_found() {
        spot.get(tables, table, place)
    } else {
        None
    }
}

/// Where the flow at a place stands for which `matches` holds.
#[inline(always)]
pub fn locate<T: Tables>(
    tables: &T,
    table: FlowTable,
    place: Place,
    mut matches: impl FnMut(&FlowEntry) -> bool,
) -> Spot {
    let mut index = place.first(&tables.settings(), table);
    // A loop rather than two calls, or the search would stand in the program twice.
    for _ in 0..2 {
        let Some(bucket) = tables.bucket(table, index) else {
            return Spot::NOWHERE;
        };
        if let Some(way) = search(bucket, place, &mut matches) {
            return Spot::new(table, index, way);
        }
        if !has_second_choice(table) || bucket.overflowed.load() == 0 {
            return Spot::NOWHERE;
        }
        index = place.second(&tables.settings());
    }
    Spot::NOWHERE
}

/// Asks for the memory that a new flow will need, all of it at once: each line comes from far away,
/// and one after the other they would take three times as long.
#[inline(always)]
pub fn touch<T: Tables>(tables: &T, place: Place) {
    let settings = tables.settings();
    let line = |table: FlowTable| {
        let index = place.first(&settings, table);
        tables.bucket(table, index)
    };
    if let (Some(established), Some(half_open)) =
        (line(FlowTable::Established), line(FlowTable::HalfOpen))
    {
        let tags = established.tags[0].load() | half_open.tags[0].load();
        black_box(tags | half_open.ways[place.way()].expires().0);
    }
}

/// What an insertion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Into a free place or that of an expired flow.
    Free,
    /// In place of a live flow.
    Evicted,
    /// Not at all: another CPU claimed the same place at the same instant.
    Contended,
}

/// The place in a full bucket that expires first, and when that is.
#[inline(always)]
fn first_to_expire(bucket: &Bucket) -> (usize, u32) {
    let mut best = i64::MAX;
    for (way, flow) in bucket.ways.iter().enumerate() {
        let candidate = i64::from(flow.expires().0) << 8 | way as i64;
        // The smaller of the two, without a branch: eight of them are 256 ways for the verifier.
        let difference = candidate - best;
        best += difference & black_box(difference >> 63);
    }
    (best as usize % BUCKET_WAYS, (best >> 8) as u32)
}

/// No flow is there.
const FREE: u32 = 0;
/// No flow is there, but the bucket has hardly another such place. A flow that goes to its second
/// bucket now leaves this place to one that finds its own second bucket full.
const LAST_FREE: u32 = 1;

/// The best place in a bucket for a new flow, and when the flow that is there expires; [`FREE`] or
/// [`LAST_FREE`] when there is none.
#[inline(always)]
fn victim(bucket: &Bucket, table: FlowTable, place: Place, now: Ticks) -> (usize, u32) {
    let free = ways_with(bucket, EMPTY);
    if free != 0 {
        let others = free & (free - 1);
        let is_crowded = others & others.wrapping_sub(1) == 0;
        let way = if bucket.tags[place.way()].load() == EMPTY {
            place.way()
        } else {
            first(free)
        };
        return (way, if is_crowded { LAST_FREE } else { FREE });
    }
    match table {
        FlowTable::Established => first_to_expire(bucket),
        // Under a flood every place is as good as another, and eight cache lines are worth saving;
        // but one more is looked at for a flow that is over.
        FlowTable::HalfOpen => {
            let (home, other) = (place.way(), place.way() ^ 1);
            let (at_home, at_other) = (
                bucket.ways[home].expires().0,
                bucket.ways[other].expires().0,
            );
            if at_home >= now.0 && at_other < now.0 {
                (other, at_other)
            } else {
                (home, at_home)
            }
        }
    }
}

/// Adds a flow; the caller has looked that it is not there.
#[inline(always)]
pub fn insert<T: Tables>(
    tables: &T,
    table: FlowTable,
    place: Place,
    now: Ticks,
    flow: &NewFlow,
) -> Inserted {
    let Some(mut bucket) = tables.bucket(table, place.first(&tables.settings(), table)) else {
        return Inserted::Contended;
    };
    let (mut way, mut expires) = victim(bucket, table, place, now);
    if has_second_choice(table) && expires != FREE {
        let Some(second) = tables.bucket(table, place.second(&tables.settings())) else {
            return Inserted::Contended;
        };
        let (second_way, second_expires) = victim(second, table, place, now);
        if second_expires < expires {
            bucket.overflowed.store(1);
            (bucket, way, expires) = (second, second_way, second_expires);
        }
    }
    let way = way % BUCKET_WAYS;
    let tag = &bucket.tags[way];
    // A free place must still be free, or the flow would displace one that another CPU put there
    // since.
    let current = if expires <= LAST_FREE {
        EMPTY
    } else {
        tag.load()
    };
    if current == BUSY || !tables.compare_exchange(tag, current, BUSY) {
        return Inserted::Contended;
    }
    if tables.has(features::SYN_COOKIES) {
        bucket.shifts[way].store((flow.shift.value() >> 16) as u16);
    }
    bucket.ways[way].fill(tables, flow);
    tag.store(place.tag());
    if expires < now.0 {
        Inserted::Free
    } else {
        Inserted::Evicted
    }
}
