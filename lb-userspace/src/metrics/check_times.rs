//! How long health checks took.

use std::collections::HashMap;

use crate::health::{BackendKey, Report};

/// Upper ends of the buckets, in seconds; one without an end follows.
pub(super) const BOUNDS: [f64; 8] = [0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];

/// How often something took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
    last: f64,
}

impl Histogram {
    fn note(&mut self, seconds: f64) {
        self.last = seconds;
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound);
        self.counts[bucket.unwrap_or(BOUNDS.len())] += 1;
        self.sum += seconds;
    }

    /// For each bucket but the last, how many took so long or less.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS
            .iter()
            .zip(&self.counts)
            .scan(0, |sum, (end, count)| {
                *sum += count;
                Some((*end, *sum))
            })
    }

    /// The last one, in seconds.
    #[must_use]
    pub const fn last(&self) -> f64 {
        self.last
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all took together.
    pub(super) const fn sum(&self) -> f64 {
        self.sum
    }
}

/// Of every backend that was checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckTimes(HashMap<BackendKey, Histogram>);

impl CheckTimes {
    /// Takes a check in. One that asked nothing took no time and does not count.
    pub fn note(&mut self, report: &Report) {
        if report.took.is_zero() {
            return;
        }
        let seconds = report.took.as_secs_f64();
        if let Some(histogram) = self.0.get_mut(&report.key) {
            histogram.note(seconds);
        } else {
            let histogram = self.0.entry(report.key.clone()).or_default();
            histogram.note(seconds);
        }
    }

    /// Forgets backends that are not there any more.
    pub fn retain(&mut self, mut is_there: impl FnMut(&BackendKey) -> bool) {
        self.0.retain(|key, _| is_there(key));
    }

    /// Of one backend, if it was checked.
    #[must_use]
    pub fn of(&self, key: &BackendKey) -> Option<&Histogram> {
        self.0.get(key)
    }
}
