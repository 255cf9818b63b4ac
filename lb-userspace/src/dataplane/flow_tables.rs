//! The flow tables in this process's memory: no system call per flow.
//!
//! They are mapped a window at a time, because the kernel counts what a process has mapped as the
//! process's own, and the tables are many times larger than all the rest of the agent.

use std::{
    io,
    ops::{Deref, Range},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

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
    shared: Arc<[Table; 2]>,
}

struct Table {
    memory: Memory,
    buckets: usize,
}

enum Memory {
    /// The kernel's.
    Map(OwnedFd),
    /// Of tables without a data path.
    Own(Mapping<Bucket>),
}

/// Some buckets of a table, while they are looked at.
pub enum Window<'t> {
    /// Of tables without a data path.
    Own(&'t [Bucket]),
    /// Mapped for the occasion.
    Mapped(MappedBuckets),
}

/// Buckets that are mapped as long as this lives.
pub struct MappedBuckets(Mapping<Bucket>);

impl Deref for Window<'_> {
    type Target = [Bucket];

    fn deref(&self) -> &[Bucket] {
        match self {
            Self::Own(buckets) => buckets,
            Self::Mapped(MappedBuckets(mapping)) => mapping.elements(),
        }
    }
}

impl FlowTables {
    /// Buckets of a window: about a megabyte.
    pub const WINDOW: usize = (1 << 20) / size_of::<Bucket>();

    /// Of the two tables of a data path, each with its number of buckets.
    pub(super) fn of(
        (established, established_buckets): (BorrowedFd<'_>, u32),
        (half_open, half_open_buckets): (BorrowedFd<'_>, u32),
    ) -> io::Result<Self> {
        let table = |map: BorrowedFd<'_>, buckets: u32| {
            Ok::<_, io::Error>(Table {
                memory: Memory::Map(map.try_clone_to_owned()?),
                buckets: buckets as usize,
            })
        };
        let tables = Self {
            shared: Arc::new([
                table(established, established_buckets)?,
                table(half_open, half_open_buckets)?,
            ]),
        };
        // What cannot be mapped later cannot be mapped now.
        for table in [FlowTable::Established, FlowTable::HalfOpen] {
            drop(tables.window(table, 0..1)?);
        }
        Ok(tables)
    }

    /// Empty tables without a data path, of that many buckets each: for tests and measurements.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn detached(established_buckets: u32, half_open_buckets: u32) -> nix::Result<Self> {
        let table = |buckets| {
            Ok::<_, nix::Error>(Table {
                memory: Memory::Own(Mapping::zeros(buckets)?),
                buckets: buckets as usize,
            })
        };
        Ok(Self {
            shared: Arc::new([table(established_buckets)?, table(half_open_buckets)?]),
        })
    }

    fn table(&self, table: FlowTable) -> &Table {
        let [established, half_open] = &*self.shared;
        match table {
            FlowTable::Established => established,
            FlowTable::HalfOpen => half_open,
        }
    }

    /// Number of buckets of a table.
    #[must_use]
    pub fn buckets(&self, table: FlowTable) -> usize {
        self.table(table).buckets
    }

    /// Some buckets of a table, as far as there are so many.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub fn window(&self, table: FlowTable, range: Range<usize>) -> io::Result<Window<'_>> {
        let table = self.table(table);
        let end = range.end.min(table.buckets);
        let range = range.start.min(end)..end;
        Ok(match &table.memory {
            Memory::Own(mapping) => Window::Own(&mapping.elements()[range]),
            Memory::Map(_) if range.is_empty() => Window::Own(&[]),
            Memory::Map(map) => Window::Mapped(MappedBuckets(Mapping::part(map.as_fd(), range)?)),
        })
    }

    /// Looks at all buckets of a table, a window after the other.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub fn for_each(&self, table: FlowTable, mut look: impl FnMut(&Bucket)) -> io::Result<()> {
        for first in (0..self.buckets(table)).step_by(Self::WINDOW) {
            self.window(table, first..first + Self::WINDOW)?
                .iter()
                .for_each(&mut look);
        }
        Ok(())
    }

    /// All buckets of a table without a data path.
    #[cfg(test)]
    pub(crate) fn own(&self, table: FlowTable) -> &[Bucket] {
        match &self.table(table).memory {
            Memory::Own(mapping) => mapping.elements(),
            Memory::Map(_) => &[],
        }
    }

    /// Flows that a table is made for. The established one has twice as many places, so that no
    /// live flow is displaced before.
    #[must_use]
    pub fn capacity(&self, table: FlowTable) -> u64 {
        let places = (self.buckets(table) * BUCKET_WAYS) as u64;
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
