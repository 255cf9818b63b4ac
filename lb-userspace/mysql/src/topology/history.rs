//! How far behind a replica is, by what it has, not by what it says.
//!
//! `Seconds_Behind_Source` is 0 while the thread that fetches waits on a dead connection, and it
//! compares clocks. The primary's transactions as they were seen over time tell more: a replica
//! that lacks one which was there 5 s ago is 5 s behind.

use std::{collections::VecDeque, time::Duration};

use crate::gtid::GtidSet;

/// So many steps are kept. Who lacks even the oldest is further behind than anybody asks.
const MOST: usize = 64;

/// What the primary had, and since when.
#[derive(Clone, Debug)]
pub(super) struct History {
    steps: VecDeque<(Duration, GtidSet)>,
    /// When the primary was seen last.
    until: Duration,
    /// Steps that are closer become one, which makes lags look that much less, never more.
    apart: Duration,
}

impl History {
    /// For lags of such a size.
    pub(super) fn new(lag: Duration) -> Self {
        Self {
            steps: VecDeque::new(),
            until: Duration::ZERO,
            apart: lag / 16,
        }
    }

    /// For lags of another size from now on.
    pub(super) fn follow(&mut self, lag: Duration) {
        self.apart = lag / 16;
    }

    pub(super) fn clear(&mut self) {
        self.steps.clear();
    }

    pub(super) const fn until(&self) -> Duration {
        self.until
    }

    /// What the primary had when it was seen last.
    pub(super) fn newest(&self) -> Option<&GtidSet> {
        self.steps.back().map(|(_, set)| set)
    }

    /// The primary has these now.
    pub(super) fn add(&mut self, now: Duration, set: &GtidSet) {
        self.until = now;
        if self.newest() == Some(set) {
            return;
        }
        let before = self.steps.len().checked_sub(2);
        let before = before.and_then(|index| self.steps.get(index));
        if before.is_some_and(|(since, _)| now.saturating_sub(*since) < self.apart) {
            self.steps.pop_back();
        }
        if self.steps.len() >= MOST {
            self.steps.pop_front();
        }
        self.steps.push_back((now, set.clone()));
    }

    /// How far behind a server is that had these at a time.
    pub(super) fn lag(&self, at: Duration, set: &GtidSet) -> Duration {
        let has = self.steps.iter().rev();
        let mut missing = None;
        for (since, step) in has {
            if set.contains(step) {
                break;
            }
            missing = Some(*since);
        }
        missing.map_or(Duration::ZERO, |since| at.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gtid::Family;

    fn set(last: u64) -> GtidSet {
        let text = format!("1e783e25-e5e5-11f1-8015-02fc00000001:1-{last}");
        GtidSet::parse(Family::MySql, &text).unwrap()
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_oldest_that_is_missing_tells_the_lag() {
        let mut history = History::new(s(10));
        assert_eq!(history.lag(s(9), &set(1)), s(0));
        for (now, last) in [(1, 5), (2, 5), (3, 8), (5, 9)] {
            history.add(s(now), &set(last));
        }
        assert_eq!(history.until(), s(5));
        assert_eq!(history.lag(s(6), &set(9)), s(0));
        assert_eq!(
            history.lag(s(6), &set(12)),
            s(0),
            "seen later than the primary"
        );
        assert_eq!(history.lag(s(6), &set(8)), s(1));
        assert_eq!(history.lag(s(6), &set(7)), s(3));
        assert_eq!(history.lag(s(6), &set(4)), s(5));
        assert_eq!(
            history.lag(s(2), &set(7)),
            s(0),
            "it was seen before the primary had more"
        );
    }

    #[test]
    fn it_stays_small_and_never_says_too_much() {
        let mut history = History::new(s(10));
        let tenth = Duration::from_millis(100);
        for now in 1..=5000 {
            history.add(tenth * now, &set(now.into()));
        }
        assert!(history.steps.len() <= MOST);
        for behind in 0..300 {
            let lag = history.lag(tenth * 5000, &set(u64::from(5000 - behind)));
            assert!(lag <= tenth * behind, "{behind}: {lag:?}");
            assert!(lag + s(1) >= tenth * behind, "{behind}: {lag:?}");
        }
    }
}
