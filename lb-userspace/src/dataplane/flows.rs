//! The flow tables, read through a memory map: no system call per flow.

use std::{
    num::NonZeroUsize,
    os::fd::BorrowedFd,
    ptr::NonNull,
    slice,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use lb_common::{
    abi::{Protocol, Ticks},
    flow::{BUCKET_WAYS, Bucket, FlowEntry},
    tables::FlowTable,
};
use nix::{
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
    time::{ClockId, clock_gettime},
};

/// Grace, in ticks, before an expired flow is taken for gone.
const SURELY_GONE: u32 = 8;

/// A flow table in this process's memory, read-only.
struct Mapping {
    buckets: NonNull<Bucket>,
    count: usize,
}

// SAFETY: the memory is shared with the kernel anyway and all of it is atomics that are only
// loaded; it is unmapped only when the last owner drops it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(map: BorrowedFd<'_>, count: u32) -> nix::Result<Self> {
        let count = count as usize;
        let length = NonZeroUsize::new(count * size_of::<Bucket>()).ok_or(nix::Error::EINVAL)?;
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours.
        let memory = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ,
                MapFlags::MAP_SHARED,
                map,
                0,
            )
        }?;
        Ok(Self {
            buckets: memory.cast(),
            count,
        })
    }

    fn buckets(&self) -> &[Bucket] {
        // SAFETY: the mapping begins at a page, which is aligned for `Bucket`, is as long as
        // `count` buckets, and lives as long as `self`. The kernel changes it at any time, which a
        // `Bucket` allows because all its fields are atomics of at most eight bytes, of which any
        // bits are valid; nothing in this process stores to it.
        unsafe { slice::from_raw_parts(self.buckets.as_ptr(), self.count) }
    }
}

impl Mapping {
    fn flows(&self) -> impl Iterator<Item = &FlowEntry> {
        self.buckets().iter().flat_map(Bucket::flows)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this range, and no borrow outlives `self`.
        let _ = unsafe { munmap(self.buckets.cast(), self.count * size_of::<Bucket>()) };
    }
}

/// What stands in the flow tables.
#[derive(Clone, Debug, Default)]
pub struct FlowCounts {
    /// Flows in the established table that have not expired.
    pub established: u64,
    /// Flows in the half-open table that have not expired.
    pub half_open: u64,
    /// Active flows, by backend id.
    active: Vec<u32>,
    /// Whether any flow refers to a backend, by backend id.
    referred: Vec<bool>,
}

impl FlowCounts {
    /// Flows of a backend that are alive and not closed: all established ones, and of the half-open
    /// ones those of UDP. A TCP flow counts only once its handshake is done, so that a SYN flood
    /// does not look like clients.
    #[must_use]
    pub fn active(&self, backend: u32) -> u64 {
        self.active
            .get(backend as usize)
            .copied()
            .unwrap_or(0)
            .into()
    }

    /// Whether a flow refers to a backend, be it closed or half open.
    #[must_use]
    pub fn is_referred(&self, backend: u32) -> bool {
        self.referred
            .get(backend as usize)
            .copied()
            .unwrap_or(false)
    }

    fn count<'b>(
        &mut self,
        flows: impl Iterator<Item = &'b FlowEntry>,
        table: FlowTable,
        now: Ticks,
    ) -> u64 {
        let mut alive = 0;
        for flow in flows {
            let backend = flow.backend() as usize;
            if flow.is_expired(Ticks(now.0.saturating_sub(SURELY_GONE))) {
                continue;
            }
            if backend >= self.referred.len() {
                self.referred.resize(backend + 1, false);
                self.active.resize(backend + 1, 0);
            }
            self.referred[backend] = true;
            alive += u64::from(!flow.is_expired(now));
            let is_proven =
                table == FlowTable::Established || flow.protocol() != Protocol::Tcp as u8;
            self.active[backend] += u32::from(is_proven && flow.is_active(now));
        }
        alive
    }
}

/// Counts flows. Clones share one cache, so that many readers cost one scan.
#[derive(Clone)]
pub struct FlowScanner {
    shared: Arc<Shared>,
}

struct Shared {
    established: Mapping,
    half_open: Mapping,
    latest: Mutex<Option<(Instant, Arc<FlowCounts>)>>,
}

impl FlowScanner {
    pub(super) fn new(
        (established, established_buckets): (BorrowedFd<'_>, u32),
        (half_open, half_open_buckets): (BorrowedFd<'_>, u32),
    ) -> nix::Result<Self> {
        let shared = Shared {
            established: Mapping::new(established, established_buckets)?,
            half_open: Mapping::new(half_open, half_open_buckets)?,
            latest: Mutex::new(None),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Flows by backend, as of now. Whoever waits while another scans may share the next scan.
    #[must_use]
    pub fn scan(&self) -> Arc<FlowCounts> {
        let asked = Instant::now();
        let mut latest = self
            .shared
            .latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            // Older than the question, it would not say what the one who asks has just done.
            Some((begun, counts)) if *begun >= asked => Arc::clone(counts),
            _ => {
                let begun = Instant::now();
                let counts = Arc::new(self.scan_now());
                *latest = Some((begun, Arc::clone(&counts)));
                counts
            }
        }
    }

    fn scan_now(&self) -> FlowCounts {
        let now = now();
        let mut counts = FlowCounts::default();
        let Shared {
            established,
            half_open,
            ..
        } = &*self.shared;
        counts.established = counts.count(established.flows(), FlowTable::Established, now);
        counts.half_open = counts.count(half_open.flows(), FlowTable::HalfOpen, now);
        counts
    }

    /// Flows that the established and the half-open table are made for. The former has twice as
    /// many places, so that no live flow is displaced before.
    #[must_use]
    pub fn capacity(&self) -> (u64, u64) {
        let places = |table: &Mapping| (table.count * BUCKET_WAYS) as u64;
        (
            places(&self.shared.established) / 2,
            places(&self.shared.half_open),
        )
    }
}

/// The data path's clock, which is the coarse one: the fine one is some milliseconds ahead, and
/// would have flows expired that the next packet still finds.
fn now() -> Ticks {
    let time = Duration::from(
        clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("every Linux has a monotonic clock"),
    );
    Ticks::from_nanos(time.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use lb_common::{
        abi::Settings,
        address::Address,
        flow::{ClientLink, FlowKey, NewFlow, Place, insert},
        host::HostTables,
        tables::Tables as _,
    };

    use super::*;

    #[test]
    fn a_handshake_that_is_not_done_is_no_active_flow() {
        let settings = Settings::default();
        let tables = HostTables::new(settings);
        let now = tables.now();
        let mut port = 0;
        let mut add = |table, protocol: Protocol| {
            port += 1;
            let key = FlowKey {
                client: Address::default(),
                client_port: port,
                service: Address::default(),
                service_port: 80,
                protocol: protocol as u8,
            };
            let flow = NewFlow {
                key,
                backend: 5,
                link: ClientLink::default(),
                expires: Ticks(now.0 + 10),
                one_sided: false,
                own_mac: 0,
                client_finished: false,
            };
            let place = Place::of(&settings, key.client, port, key.protocol);
            insert(&tables, table, place, now, &flow);
        };
        add(FlowTable::Established, Protocol::Tcp);
        add(FlowTable::HalfOpen, Protocol::Udp);
        for _ in 0..2 {
            add(FlowTable::HalfOpen, Protocol::Tcp);
        }
        let mut counts = FlowCounts::default();
        let mut count = |table| {
            let bucket = tables.bucket(table, 0).unwrap();
            counts.count(bucket.flows(), table, now)
        };
        assert_eq!(count(FlowTable::Established), 1);
        assert!((2..=3).contains(&count(FlowTable::HalfOpen)));
        assert!(counts.is_referred(5));
        assert!((1..=2).contains(&counts.active(5)));
    }
}
