//! The capturing twin of the program, and the ring buffer that it writes to.

use std::{io, os::fd::AsRawFd as _, time::Duration};

use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use lb_common::{
    abi::features,
    capture::{COUNTS_MAP, Counts, FILTER_MAP, Filter, RING_MAP, Record},
};
use tokio::task::AbortHandle;
use zerocopy::FromBytes as _;

use super::{
    error::{Error, chain},
    kernel_log,
    load::Program,
    plain::Plain,
    privilege,
    twin::TwinSource,
};

/// Bytes of packets that may wait to be read.
const RING_BYTES: u32 = 4 << 20;
/// The kernel that has what the twin uses (`bpf_xdp_load_bytes`).
const OLDEST_KERNEL: (u32, u32) = (5, 18);

/// A loaded twin that captures where it is attached, by [`super::Dataplane::swap_in`].
#[expect(missing_debug_implementations, reason = "aya's maps have none")]
pub struct Capturer {
    pub(super) program: Program,
    ring: RingBuf<MapData>,
    counts: PerCpuArray<MapData, Plain<Counts>>,
    /// Its log is not the program's.
    log: Option<AbortHandle>,
}

impl Drop for Capturer {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.abort();
        }
    }
}

impl Capturer {
    /// Loads the twin, which takes the verifier a moment. It captures nothing until it is attached.
    pub fn load(source: &TwinSource, filter: Filter) -> Result<Self, Error> {
        if let Some(found) = privilege::older_than(OLDEST_KERNEL) {
            return Err(Error::CaptureKernel { found });
        }
        let failed = |error: &dyn std::error::Error| Error::Load(chain(error));
        let missing = |name: &str| Error::Load(format!("the object has no map {name}"));
        let mut program = source.load(features::CAPTURE, RING_BYTES)?;
        let ebpf = &mut program.ebpf;
        let map = ebpf
            .map_mut(FILTER_MAP)
            .ok_or_else(|| missing(FILTER_MAP))?;
        let mut filters: Array<_, Plain<Filter>> = map
            .try_into()
            .map_err(|error: aya::maps::MapError| failed(&error))?;
        filters
            .set(0, Plain(filter), 0)
            .map_err(|error| failed(&error))?;
        let ring = ebpf.take_map(RING_MAP).ok_or_else(|| missing(RING_MAP))?;
        let counts = ebpf
            .take_map(COUNTS_MAP)
            .ok_or_else(|| missing(COUNTS_MAP))?;
        Ok(Self {
            ring: ring
                .try_into()
                .map_err(|error: aya::maps::MapError| failed(&error))?,
            counts: counts
                .try_into()
                .map_err(|error: aya::maps::MapError| failed(&error))?,
            log: kernel_log::forward(&mut program.ebpf),
            program,
        })
    }

    /// Waits until there are packets, or so long.
    pub fn wait(&self, time: Duration) -> io::Result<()> {
        let mut polled = libc::pollfd {
            fd: self.ring.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one live `pollfd`, as the count says.
        let result = unsafe { libc::poll(&raw mut polled, 1, time.as_millis() as libc::c_int) };
        if result < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes the next packet and its bytes.
    pub fn next<T>(&mut self, read: impl FnOnce(&Record, &[u8]) -> T) -> Option<T> {
        let item = self.ring.next()?;
        let (record, bytes) = Record::read_from_prefix(&item).ok()?;
        let held = bytes.len().min(record.captured as usize);
        Some(read(&record, &bytes[..held]))
    }

    /// What it did until now, on all CPUs.
    pub fn counts(&self) -> Result<Counts, Error> {
        let values = self.counts.get(&0, 0).map_err(|error| Error::Table {
            table: COUNTS_MAP,
            action: "read",
            reason: chain(&error),
        })?;
        let sum = values
            .iter()
            .fold(Counts::default(), |sum, Plain(cpu)| Counts {
                seen: sum.seen + cpu.seen,
                sampled: sum.sampled + cpu.sampled,
                lost: sum.lost + cpu.lost,
            });
        Ok(sum)
    }
}
