//! Who gets which id, slots and next-hop index. Nothing is given away again while a packet that is
//! being steered right now may still look at its old content.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use lb_common::abi::NextHop;

/// A packet is steered in microseconds; this is ages.
pub(super) const REST: Duration = Duration::from_secs(1);

/// Why there is nothing to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// There may be something then.
    Until(Instant),
    /// Everything is in use.
    Lasting,
}

/// Numbers below a limit, lowest first.
#[derive(Debug)]
pub(super) struct Ids {
    next: u32,
    limit: u32,
    free: BTreeSet<u32>,
    resting: VecDeque<(Instant, u32)>,
}

impl Ids {
    /// All from `first` up to and without `limit`, except those in use.
    pub(super) fn new(first: u32, limit: u32, used: impl IntoIterator<Item = u32>) -> Self {
        let used: BTreeSet<u32> = used.into_iter().collect();
        let next = used.last().map_or(first, |last| last + 1).max(first);
        let free = (first..next).filter(|id| !used.contains(id)).collect();
        Self {
            next,
            limit,
            free,
            resting: VecDeque::new(),
        }
    }

    /// One that nobody has.
    pub(super) fn take(&mut self, now: Instant) -> Result<u32, Short> {
        while let Some(&(since, id)) = self.resting.front()
            && now.duration_since(since) >= REST
        {
            self.resting.pop_front();
            self.free.insert(id);
        }
        if let Some(id) = self.free.pop_first() {
            return Ok(id);
        }
        if self.next >= self.limit {
            return Err(match self.resting.front() {
                Some((since, _)) => Short::Until(*since + REST),
                None => Short::Lasting,
            });
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Gives one back.
    pub(super) fn release(&mut self, id: u32, now: Instant) {
        self.resting.push_back((now, id));
    }
}

/// Regions of the slots, first fit.
#[derive(Debug)]
pub(super) struct Regions {
    /// Length by offset; neighbours are merged.
    free: BTreeMap<u32, u32>,
    resting: VecDeque<(Instant, u32, u32)>,
}

impl Regions {
    /// All slots below `size`, except the regions (offset, length) in use.
    pub(super) fn new(size: u32, used: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut used: Vec<_> = used.into_iter().filter(|(_, length)| *length > 0).collect();
        used.sort_unstable();
        let mut free = BTreeMap::new();
        let mut at = 0;
        for (offset, length) in used {
            if offset > at {
                free.insert(at, offset - at);
            }
            at = at.max(offset.saturating_add(length));
        }
        if at < size {
            free.insert(at, size - at);
        }
        Self {
            free,
            resting: VecDeque::new(),
        }
    }

    /// A region nobody uses.
    pub(super) fn take(&mut self, length: u32, now: Instant) -> Result<u32, Short> {
        while let Some(&(since, offset, length)) = self.resting.front()
            && now.duration_since(since) >= REST
        {
            self.resting.pop_front();
            self.free(offset, length);
        }
        let fitting = self.free.iter().find(|(_, room)| **room >= length);
        let Some((&offset, &room)) = fitting else {
            return Err(self.short_of(length));
        };
        self.free.remove(&offset);
        if room > length {
            self.free.insert(offset + length, room - length);
        }
        Ok(offset)
    }

    fn short_of(&self, length: u32) -> Short {
        let resting = self.resting.iter().map(|(_, _, length)| length);
        let room: u64 = self
            .free
            .values()
            .chain(resting)
            .copied()
            .map(u64::from)
            .sum();
        match self.resting.front() {
            Some((since, ..)) if room >= u64::from(length) => Short::Until(*since + REST),
            _ => Short::Lasting,
        }
    }

    /// Gives a region back.
    pub(super) fn release(&mut self, offset: u32, length: u32, now: Instant) {
        if length > 0 {
            self.resting.push_back((now, offset, length));
        }
    }

    fn free(&mut self, mut offset: u32, mut length: u32) {
        if let Some((&before, &room)) = self.free.range(..offset).next_back()
            && before + room == offset
        {
            self.free.remove(&before);
            offset = before;
            length += room;
        }
        if let Some(room) = self.free.remove(&(offset + length)) {
            length += room;
        }
        self.free.insert(offset, length);
    }
}

/// Next hops by index, each value once.
#[derive(Debug)]
pub(super) struct NextHops {
    ids: Ids,
    by_value: HashMap<NextHop, u32>,
    by_index: HashMap<u32, (NextHop, usize)>,
}

impl NextHops {
    /// With those in use, one entry for each user.
    pub(super) fn new(limit: u32, used: impl IntoIterator<Item = (u32, NextHop)>) -> Self {
        let mut by_index: HashMap<u32, (NextHop, usize)> = HashMap::new();
        for (index, value) in used {
            by_index.entry(index).or_insert((value, 0)).1 += 1;
        }
        let by_value = by_index
            .iter()
            .map(|(index, (value, _))| (*value, *index))
            .collect();
        let ids = Ids::new(1, limit, by_index.keys().copied());
        Self {
            ids,
            by_value,
            by_index,
        }
    }

    /// The index of a value for one more user, and whether the value must be written there.
    pub(super) fn take(&mut self, value: NextHop, now: Instant) -> Result<(u32, bool), Short> {
        if let Some(&index) = self.by_value.get(&value)
            && let Some((_, users)) = self.by_index.get_mut(&index)
        {
            *users += 1;
            return Ok((index, false));
        }
        let index = self.ids.take(now)?;
        self.by_value.insert(value, index);
        self.by_index.insert(index, (value, 1));
        Ok((index, true))
    }

    /// Takes one user off an index; 0 is nobody's.
    pub(super) fn release(&mut self, index: u32, now: Instant) {
        let Some((value, users)) = self.by_index.get_mut(&index) else {
            return;
        };
        *users -= 1;
        if *users == 0 {
            // Two indexes may hold one value after a take-over; only one of them is known by it.
            if self.by_value.get(value) == Some(&index) {
                self.by_value.remove(value);
            }
            self.by_index.remove(&index);
            self.ids.release(index, now);
        }
    }

    /// The value at an index.
    pub(super) fn get(&self, index: u32) -> Option<&NextHop> {
        self.by_index.get(&index).map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_rest_before_they_are_given_away_again() {
        let start = Instant::now();
        let mut ids = Ids::new(1, 4, [2]);
        assert_eq!(ids.take(start), Ok(1));
        assert_eq!(ids.take(start), Ok(3));
        assert_eq!(ids.take(start), Err(Short::Lasting));
        ids.release(1, start);
        let rested = start + REST;
        assert_eq!(ids.take(start + REST / 2), Err(Short::Until(rested)));
        assert_eq!(ids.take(rested), Ok(1));
    }

    #[test]
    fn a_next_hop_is_shared_until_its_last_user_leaves() {
        let start = Instant::now();
        let hop = |mtu| NextHop {
            mtu,
            ..NextHop::default()
        };
        let mut hops = NextHops::new(3, [(1, hop(1)), (1, hop(1))]);
        assert_eq!(hops.take(hop(1), start), Ok((1, false)));
        assert_eq!(hops.take(hop(2), start), Ok((2, true)));
        assert_eq!(hops.take(hop(3), start), Err(Short::Lasting));
        for _ in 0..3 {
            assert_eq!(hops.get(1), Some(&hop(1)));
            hops.release(1, start);
        }
        assert_eq!(hops.get(1), None);
        let rested = start + REST;
        assert_eq!(hops.take(hop(3), start), Err(Short::Until(rested)));
        assert_eq!(hops.take(hop(3), rested), Ok((1, true)));
    }

    #[test]
    fn regions_that_rest_are_waited_for_only_if_they_would_do() {
        let start = Instant::now();
        let mut regions = Regions::new(100, []);
        assert_eq!(regions.take(60, start), Ok(0));
        assert_eq!(regions.take(60, start), Err(Short::Lasting));
        regions.release(0, 60, start);
        assert_eq!(regions.take(60, start), Err(Short::Until(start + REST)));
        assert_eq!(regions.take(101, start), Err(Short::Lasting));
        assert_eq!(regions.take(60, start + REST), Ok(0));
    }

    proptest! {
        #[test]
        fn regions_never_overlap_and_all_come_back(
            steps in proptest::collection::vec((1u32..40, any::<bool>()), 1..200),
        ) {
            let mut now = Instant::now();
            let mut regions = Regions::new(256, [(10, 6)]);
            let mut held = vec![(10, 6)];
            for (length, takes) in steps {
                now += REST;
                if takes {
                    if let Ok(offset) = regions.take(length, now) {
                        prop_assert!(offset + length <= 256);
                        let is_apart = |&(other, size): &(u32, u32)| {
                            offset + length <= other || other + size <= offset
                        };
                        prop_assert!(held.iter().all(is_apart));
                        held.push((offset, length));
                    }
                } else if !held.is_empty() {
                    let (offset, length) = held.remove(length as usize % held.len());
                    regions.release(offset, length, now);
                }
            }
            for (offset, length) in held {
                regions.release(offset, length, now);
            }
            prop_assert_eq!(regions.take(256, now + REST), Ok(0));
        }
    }
}
