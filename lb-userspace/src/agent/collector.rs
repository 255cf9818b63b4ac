//! Takes expired flows out of the tables, a slice at a time, and tells of every flow on its way.
//!
//! Nothing waits for it: it has a thread of its own, takes no lock, and a place is claimed for some
//! nanoseconds. It is also where the agent follows flows: see [`FlowWatcher`].

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use lb_common::{
    abi::Ticks,
    flow::{Claim, FlowView, Swept},
    tables::FlowTable,
};

use super::firewall::ward::{Rules, Ward};
use crate::dataplane::FlowTables;

/// How long a round through both tables takes.
const ROUND: Duration = Duration::from_secs(10);
/// How often a slice of it is done.
const PAUSE: Duration = Duration::from_millis(100);
/// Slices of a round.
const SLICES: usize = (ROUND.as_millis() / PAUSE.as_millis()) as usize;
/// The tables, in the order in which a round goes through them.
const TABLES: [FlowTable; 2] = [FlowTable::Established, FlowTable::HalfOpen];

/// Somebody who follows flows. Called on the collector's thread, between two memory accesses to
/// the tables; it must be quick, and must not wait for anything.
///
/// A flow may be seen in both tables while it moves, and one that a new flow displaced is not told
/// of: the data path is the only one to know.
pub(super) trait FlowWatcher: Send {
    /// A flow that stays; each is told of once in a round.
    fn live(&mut self, table: FlowTable, flow: &FlowView);
    /// An expired flow, whose place is free already.
    fn removed(&mut self, table: FlowTable, flow: &FlowView);
    /// Every flow that stood in the tables during the whole round was told of.
    fn round_ended(&mut self);
}

/// How many expired flows were collected since the agent started.
#[derive(Debug, Default)]
pub(super) struct Collected {
    established: AtomicU64,
    half_open: AtomicU64,
}

impl Collected {
    /// Of a table.
    pub(super) fn expired(&self, table: FlowTable) -> u64 {
        self.counter(table).load(Ordering::Relaxed)
    }

    fn counter(&self, table: FlowTable) -> &AtomicU64 {
        match table {
            FlowTable::Established => &self.established,
            FlowTable::HalfOpen => &self.half_open,
        }
    }
}

/// What else is to be done ten times a second, and is quick.
pub(super) type Chore = Box<dyn FnMut() + Send>;

/// The collector at work; it stops when this is dropped.
pub(super) struct Collector {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Begins to collect.
    pub(super) fn start(
        tables: FlowTables,
        collected: Arc<Collected>,
        mut watchers: Vec<Box<dyn FlowWatcher>>,
        (mut chores, ward): (Vec<Chore>, Ward),
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let mut round = Round::new(tables, collected);
        let thread = thread::Builder::new()
            .name("lb-collector".to_owned())
            .spawn(move || {
                let mut known = 0;
                while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                    let gone = FlowTables::surely_gone(FlowTables::now());
                    if let Some(rules) = ward.news(&mut known) {
                        round.keep_out(rules);
                    }
                    round.slice(gone, &mut watchers);
                    chores.iter_mut().for_each(|tend| tend());
                }
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

/// A claimed place: table, bucket and what stands there.
type Suspect = (FlowTable, usize, Claim);

/// A way through both tables, over and over.
struct Round {
    tables: FlowTables,
    collected: Arc<Collected>,
    /// Index in [`TABLES`], and the next bucket of that table.
    position: (usize, usize),
    /// Places that were claimed in the round before, and in this one.
    suspects: [Vec<Suspect>; 2],
    /// Whose flows end because a service keeps them out.
    rules: Arc<Rules>,
}

impl Round {
    fn new(tables: FlowTables, collected: Arc<Collected>) -> Self {
        Self {
            tables,
            collected,
            position: (0, 0),
            suspects: Default::default(),
            rules: Arc::default(),
        }
    }

    /// Ends the flows that services keep out from now on, at once; those that other balancers tell of
    /// later end with the next round.
    fn keep_out(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
        if self.rules.is_empty() {
            return;
        }
        let mut ended = 0;
        for table in TABLES {
            let swept = self.tables.for_each(table, |bucket| {
                let out = bucket.views().filter(|flow| self.rules.keep_out(flow));
                ended += out.filter(|flow| bucket.end(&flow.flow.key)).count();
            });
            if let Err(error) = swept {
                tracing::debug!("flows could not be looked at, which the next round does: {error}");
            }
        }
        if ended > 0 {
            tracing::info!(
                kind = "firewall",
                "{ended} flows ended whose clients may not use their service any more"
            );
        }
    }

    /// The next slice.
    fn slice(&mut self, gone: Ticks, watchers: &mut [Box<dyn FlowWatcher>]) {
        let all: usize = TABLES.iter().map(|table| self.tables.buckets(*table)).sum();
        let mut left = all.div_ceil(SLICES);
        while left > 0 {
            let (number, first) = self.position;
            let Some(&table) = TABLES.get(number) else {
                self.position = (0, 0);
                self.suspects.swap(0, 1);
                self.suspects[1].clear();
                watchers.iter_mut().for_each(|one| one.round_ended());
                // The rest of the slice would be a second visit in this round's time.
                return;
            };
            let count = self.tables.buckets(table);
            let last = count.min(first + left);
            self.sweep(table, first..last, gone, watchers);
            left -= last - first;
            self.position = if last == count {
                (number + 1, 0)
            } else {
                (number, last)
            };
        }
    }

    fn sweep(
        &mut self,
        table: FlowTable,
        range: std::ops::Range<usize>,
        gone: Ticks,
        watchers: &mut [Box<dyn FlowWatcher>],
    ) {
        let mut expired = 0;
        let buckets = match self.tables.window(table, range.clone()) {
            Ok(buckets) => buckets,
            Err(error) => {
                // They are looked at again in the next round.
                tracing::debug!("a slice of flows could not be looked at: {error}");
                return;
            }
        };
        for (index, bucket) in range.zip(buckets.iter()) {
            bucket.sweep(gone, |found| match found {
                Swept::Live(flow) if self.rules.keep_out(&flow) => {
                    bucket.end(&flow.flow.key);
                }
                Swept::Live(flow) => {
                    watchers.iter_mut().for_each(|one| one.live(table, &flow));
                }
                Swept::Removed(flow) => {
                    expired += 1;
                    watchers
                        .iter_mut()
                        .for_each(|one| one.removed(table, &flow));
                }
                Swept::Claimed(claim) => {
                    let suspect = (table, index, claim);
                    // Claimed a round ago and unchanged: whoever did it was killed in between.
                    if self.suspects[0].contains(&suspect) {
                        bucket.give_up(&claim);
                    } else {
                        self.suspects[1].push(suspect);
                    }
                }
            });
        }
        self.collected
            .counter(table)
            .fetch_add(expired, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
