//! CPU time of the programs that take part in a measurement.
//!
//! Kernels without accounting of interrupt time charge forwarding in softirqs to whatever program
//! was interrupted, so the work of a balancer in the kernel is in these figures too.

use std::fs;
use std::path::Path;

use anyhow::Result;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};

/// Programs to watch, with all their descendants, and the kernel's threads for softirqs.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    pids: Vec<u32>,
}

impl Watch {
    pub(super) fn new(roots: impl IntoIterator<Item = u32>) -> Self {
        let mut pids: Vec<u32> = roots.into_iter().collect();
        let mut next = 0;
        while let Some(&pid) = pids.get(next) {
            pids.extend(children(pid));
            next += 1;
        }
        Self { pids }
    }

    /// Adds the kernel's threads that softirqs are put off to.
    pub(super) fn with_softirqs(mut self) -> Self {
        let is_it = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with("ksoftirqd/"))
        };
        self.pids.extend(numbers("/proc").filter(is_it));
        self
    }

    /// Microseconds that they have run so far.
    pub(super) fn micros(&self) -> f64 {
        let tasks = self.pids.iter().flat_map(|pid| {
            let folder = format!("/proc/{pid}/task");
            numbers(folder).map(move |task| format!("/proc/{pid}/task/{task}/schedstat"))
        });
        let nanos = |path: String| -> Option<u64> {
            fs::read_to_string(path)
                .ok()?
                .split(' ')
                .next()?
                .parse()
                .ok()
        };
        tasks.filter_map(nanos).sum::<u64>() as f64 / 1000.0
    }
}

/// Microseconds of programs that this one has started and waited for.
pub(super) fn waited_for_micros() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |time: TimeVal| time.num_microseconds() as f64;
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let text = text.unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn numbers(folder: impl AsRef<Path>) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
