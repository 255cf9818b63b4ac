//! What the machine was like while something was measured.

use std::fs;
use std::hint::black_box;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// The machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// The load average over the last minute.
    pub load: f64,
    /// Nanoseconds of a load from somewhere in 32 MiB, about as much as the flow table has. It
    /// says how far figures with many flows are the neighbours' doing: they share a cache.
    pub memory_nanos: f64,
}

impl Conditions {
    /// Those of now. Takes some tens of milliseconds.
    #[must_use]
    pub fn now() -> Self {
        let load = fs::read_to_string("/proc/loadavg")
            .ok()
            .and_then(|text| text.split(' ').next()?.parse().ok());
        Self {
            load: load.unwrap_or(f64::NAN),
            memory_nanos: memory_nanos(),
        }
    }

    pub(super) fn to_json(self) -> Value {
        json!({"load_average": self.load, "random_load_ns": self.memory_nanos})
    }
}

fn memory_nanos() -> f64 {
    const LINES: usize = (32 << 20) / 64;
    const WORDS_OF_LINE: usize = 16;
    const STEPS: u32 = 200_000;
    // Each line names the next one to read, in one circle over all of them (Sattolo's algorithm).
    let mut order: Vec<u32> = (0..LINES as u32).collect();
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for last in (1..LINES).rev() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        order.swap(last, (random >> 33) as usize % last);
    }
    let mut lines = vec![0u32; LINES * WORDS_OF_LINE];
    for (line, &next) in order.iter().enumerate() {
        lines[line * WORDS_OF_LINE] = next;
    }
    let begin = thread_time();
    let mut line = 0;
    for _ in 0..STEPS {
        line = lines[line as usize * WORDS_OF_LINE];
    }
    black_box(line);
    let span = thread_time().saturating_sub(begin);
    span.as_nanos() as f64 / f64::from(STEPS)
}

/// CPU time of this thread: that of others is told by the load average.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
