//! The flow tables in this process's memory: no system call per flow.

use std::{num::NonZeroUsize, os::fd::BorrowedFd, ptr::NonNull, slice, sync::Arc, time::Duration};

use lb_common::{
    abi::Ticks,
    flow::{BUCKET_WAYS, Bucket},
    tables::FlowTable,
};
use nix::{
    sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap},
    time::{ClockId, clock_gettime},
};

/// Both flow tables. Clones share them.
#[derive(Clone)]
pub struct FlowTables {
    shared: Arc<[Mapping; 2]>,
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
            FlowTable::Established => established.buckets(),
            FlowTable::HalfOpen => half_open.buckets(),
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

/// A flow table in this process's memory.
struct Mapping {
    buckets: NonNull<Bucket>,
    count: usize,
}

// SAFETY: the memory is shared with the kernel anyway and all of it is atomics; it is unmapped only
// when the last owner drops it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Of a map, or of zeros.
    fn new(map: Option<BorrowedFd<'_>>, count: u32) -> nix::Result<Self> {
        let count = count as usize;
        let length = NonZeroUsize::new(count * size_of::<Bucket>()).ok_or(nix::Error::EINVAL)?;
        // Writable, because places of expired flows are given back.
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let memory = match map {
            // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours.
            Some(map) => unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, map, 0) },
            // SAFETY: as above.
            None => unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) },
        }?;
        Ok(Self {
            buckets: memory.cast(),
            count,
        })
    }

    fn buckets(&self) -> &[Bucket] {
        // SAFETY: the mapping begins at a page, which is aligned for `Bucket`, is as long as
        // `count` buckets, and lives as long as `self`. The kernel and other threads change it at
        // any time, which a `Bucket` allows because all its fields are atomics of at most eight
        // bytes, of which any bits are valid.
        unsafe { slice::from_raw_parts(self.buckets.as_ptr(), self.count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this range, and no borrow outlives `self`.
        let _ = unsafe { munmap(self.buckets.cast(), self.count * size_of::<Bucket>()) };
    }
}
