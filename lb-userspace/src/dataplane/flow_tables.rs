//! The flow tables in this process's memory: no system call per flow.

use std::{os::fd::BorrowedFd, sync::Arc, time::Duration};

use lb_common::{
    abi::Ticks,
    flow::{BUCKET_WAYS, Bucket},
    tables::FlowTable,
};
use nix::time::{ClockId, clock_gettime};

use super::mapping::Mapping;

/// Both flow tables. Clones share them.
#[derive(Clone)]
pub struct FlowTables {
    shared: Arc<[Mapping<Bucket>; 2]>,
}

impl FlowTables {
    /// Maps the two tables of a data path, each with its number of buckets.
    pub(super) fn map(
        (established, established_buckets): (BorrowedFd<'_>, u32),
        (half_open, half_open_buckets): (BorrowedFd<'_>, u32),
    ) -> nix::Result<Self> {
        let mappings = [
            Mapping::new(Some(established), established_buckets)?,
            Mapping::new(Some(half_open), half_open_buckets)?,
        ];
        Ok(Self {
            shared: Arc::new(mappings),
        })
    }

    /// Empty tables without a data path, of that many buckets each: for tests and measurements.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn detached(established_buckets: u32, half_open_buckets: u32) -> nix::Result<Self> {
        let mappings = [
            Mapping::new(None, established_buckets)?,
            Mapping::new(None, half_open_buckets)?,
        ];
        Ok(Self {
            shared: Arc::new(mappings),
        })
    }

    /// The buckets of a table.
    #[must_use]
    pub fn buckets(&self, table: FlowTable) -> &[Bucket] {
        let [established, half_open] = &*self.shared;
        match table {
            FlowTable::Established => established.elements(),
            FlowTable::HalfOpen => half_open.elements(),
        }
    }

    /// Flows that a table is made for. The established one has twice as many places, so that no
    /// live flow is displaced before.
    #[must_use]
    pub fn capacity(&self, table: FlowTable) -> u64 {
        let places = (self.buckets(table).len() * BUCKET_WAYS) as u64;
        match table {
            FlowTable::Established => places / 2,
            FlowTable::HalfOpen => places,
        }
    }

    /// Flows that expired before that are gone for everybody. The grace is for a CPU that has just
    /// found one and is about to prolong it.
    #[must_use]
    pub fn surely_gone(now: Ticks) -> Ticks {
        const GRACE: u32 = 8;
        Ticks(now.0.saturating_sub(GRACE))
    }

    /// The data path's clock, which is the coarse one: the fine one is some milliseconds ahead, and
    /// would have flows expired that the next packet still finds.
    #[must_use]
    pub fn now() -> Ticks {
        let time = Duration::from(
            clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
                .expect("every Linux has a monotonic clock"),
        );
        Ticks::from_nanos(time.as_nanos() as u64)
    }
}
