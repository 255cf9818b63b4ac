//! Numbers as intervals.

use std::fmt;

/// Numbers that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    /// The least, from 1.
    pub first: u64,
    /// The greatest; not less than the first.
    pub last: u64,
}

impl Interval {
    /// The greatest number that MySQL gives.
    pub const GREATEST: u64 = i64::MAX as u64 - 1;

    const fn is_before(self, other: Self) -> bool {
        self.last < other.first
    }
}

/// Numbers as intervals: in order, and with numbers missing between any two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Intervals(Vec<Interval>);

impl Intervals {
    pub(super) fn one(interval: Interval) -> Self {
        Self(vec![interval])
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, new: Interval) {
        if let Some(last) = self.0.last_mut()
            && new.first >= last.first
        {
            if new.first <= last.last.saturating_add(1) {
                last.last = last.last.max(new.last);
            } else {
                self.0.push(new);
            }
            return;
        }
        // Those that the new one touches become one with it.
        let begin = self
            .0
            .partition_point(|one| one.last.saturating_add(1) < new.first);
        let end = self
            .0
            .partition_point(|one| one.first <= new.last.saturating_add(1));
        match self.0.get(begin..end).unwrap_or_default() {
            [] => self.0.insert(begin, new),
            touched => {
                let whole = touched.iter().fold(new, |whole, one| Interval {
                    first: whole.first.min(one.first),
                    last: whole.last.max(one.last),
                });
                self.0[begin] = whole;
                self.0.drain(begin + 1..end);
            }
        }
    }

    pub(super) fn has(&self, number: u64) -> bool {
        let behind = self.0.partition_point(|one| one.last < number);
        self.0.get(behind).is_some_and(|one| one.first <= number)
    }

    pub(super) fn contains(&self, other: &Self) -> bool {
        let mut own = self.0.as_slice();
        other.0.iter().all(|wanted| {
            while let Some((first, rest)) = own.split_first()
                && first.is_before(*wanted)
            {
                own = rest;
            }
            own.first()
                .is_some_and(|one| one.first <= wanted.first && wanted.last <= one.last)
        })
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        let mut own = self.0.as_slice();
        other.0.iter().any(|wanted| {
            while let Some((first, rest)) = own.split_first()
                && first.is_before(*wanted)
            {
                own = rest;
            }
            own.first().is_some_and(|one| !wanted.is_before(*one))
        })
    }

    pub(super) fn union(&mut self, other: &Self) {
        if let [only] = other.0.as_slice() {
            return self.add(*only);
        }
        let mut all = std::mem::take(&mut self.0);
        all.extend_from_slice(&other.0);
        // Two runs that are in order already: as fast as merging them.
        all.sort();
        for interval in all {
            self.add(interval);
        }
    }

    pub(super) fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut others = other.0.as_slice();
        for interval in &self.0 {
            while let Some((first, rest)) = others.split_first()
                && first.is_before(*interval)
            {
                others = rest;
            }
            // One of the others may reach into the next interval, so they are only looked at.
            let mut next = interval.first;
            for cut in others {
                if interval.is_before(*cut) {
                    break;
                }
                if next < cut.first {
                    left.push(Interval {
                        first: next,
                        last: cut.first - 1,
                    });
                }
                next = next.max(cut.last.saturating_add(1));
            }
            if next <= interval.last {
                left.push(Interval {
                    first: next,
                    last: interval.last,
                });
            }
        }
        Self(left)
    }

    /// One interval from the least to the greatest.
    pub(super) fn fill(&mut self) {
        if let [first, .., last] = self.0.as_slice() {
            self.0 = vec![Interval {
                first: first.first,
                last: last.last,
            }];
        }
    }

    pub(super) fn count(&self) -> u64 {
        let counts = self.0.iter().map(|one| one.last - one.first + 1);
        counts.fold(0, u64::saturating_add)
    }
}

impl fmt::Display for Intervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Interval { first, last } in &self.0 {
            write!(f, ":{first}")?;
            if last != first {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}
