//! Follows what replicas apply, once for all sessions: a session that must see its own writes asks
//! here whether a replica has them, instead of having the replica asked by every session.
//!
//! For each replica one connection waits for all that sessions want there at the time. How long
//! that takes is remembered: where it takes long, the primary answers at once.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{
    connect::Failure,
    connection::{Answer, Connection},
    obtain::first_value,
    shared::Shared,
    watch::log_in,
};
use crate::gtid::{self, GtidSet, Waited};

/// A replica that usually takes longer is not waited for.
const WORTH: Duration = Duration::from_millis(2);
/// How long a replica is asked to wait at once.
const ROUND: Duration = Duration::from_secs(1);
/// Between two questions as long as no session waits for the answer.
const PAUSE: Duration = Duration::from_millis(1);
/// Before a replica is asked again that has not answered.
const AGAIN: Duration = Duration::from_secs(1);

/// What is known of what a replica applies.
#[derive(Debug)]
pub(super) struct Followed {
    /// What sessions want there, and since when.
    wanted: Mutex<Option<(GtidSet, Instant)>>,
    wake: Notify,
    /// What it is known to have.
    applied: watch::Sender<Option<GtidSet>>,
    /// How long it takes to apply what is wanted, in microseconds, on average.
    delay: AtomicU64,
    /// When it was last asked, in microseconds since the beginning; 0 while it is not.
    asked: AtomicU64,
    /// Sessions that wait.
    waiting: AtomicUsize,
    began: Instant,
}

impl Followed {
    pub(super) fn new() -> Self {
        Self {
            wanted: Mutex::default(),
            wake: Notify::new(),
            applied: watch::Sender::new(None),
            delay: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            began: Instant::now(),
        }
    }

    /// Whether it is known to have these.
    pub(super) fn has(&self, wanted: &GtidSet) -> bool {
        has(&self.applied.borrow(), wanted)
    }

    /// Has it asked for these.
    pub(super) fn want(&self, wanted: &GtidSet) {
        let mut all = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *all {
            Some((all, _)) => {
                all.union(wanted);
                // Many sessions leave many gaps.
                all.fill();
            }
            None => *all = Some((wanted.clone(), Instant::now())),
        }
        drop(all);
        self.wake.notify_one();
    }

    /// Whether it is likely to have what is wanted soon enough to be waited for.
    pub(super) fn is_worth_waiting_for(&self) -> bool {
        let worth = micros(WORTH);
        let asked = self.asked.load(Ordering::Relaxed);
        let already = match asked {
            0 => 0,
            asked => micros(self.began.elapsed()).saturating_sub(asked),
        };
        self.delay.load(Ordering::Relaxed) <= worth && already <= worth
    }

    /// Waits until it has these, for so long at most.
    pub(super) async fn reached(&self, wanted: &GtidSet, most: Duration) -> bool {
        let _waiting = Waiting::new(&self.waiting);
        let mut applied = self.applied.subscribe();
        let reached = applied.wait_for(|applied| has(applied, wanted));
        timeout(most, reached)
            .await
            .is_ok_and(|reached| reached.is_ok())
    }

    fn take(&self) -> Option<(GtidSet, Instant)> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.take()
    }

    /// It has these now.
    fn learn(&self, set: &GtidSet) {
        self.applied.send_modify(|applied| match applied {
            Some(applied) if applied.family() == set.family() => applied.union(set),
            Some(_) | None => *applied = Some(set.clone()),
        });
    }

    fn took(&self, time: Duration) {
        let known = self.delay.load(Ordering::Relaxed);
        // The last counts a quarter.
        let delay = (known.saturating_mul(3) + micros(time)) / 4;
        self.delay.store(delay, Ordering::Relaxed);
    }
}

/// Counts somebody who waits.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn new(count: &'w AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn has(applied: &Option<GtidSet>, wanted: &GtidSet) -> bool {
    applied
        .as_ref()
        .is_some_and(|applied| applied.contains(wanted))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Follows a server for as long as it is polled.
pub(super) async fn follow(shared: &Arc<Shared>, server: usize) {
    let followed = &shared.followed[server];
    let mut connection = None;
    loop {
        let Some((wanted, since)) = followed.take() else {
            followed.wake.notified().await;
            continue;
        };
        if followed.has(&wanted) {
            continue;
        }
        let now = micros(followed.began.elapsed()).max(1);
        followed.asked.store(now, Ordering::Relaxed);
        let asked = ask(shared, server, &mut connection, &wanted);
        let waited = timeout(ROUND * 2, asked).await;
        followed.asked.store(0, Ordering::Relaxed);
        followed.took(since.elapsed());
        match waited {
            Ok(Ok(Waited::Reached)) => followed.learn(&wanted),
            // Who still wants it says so again.
            Ok(Ok(Waited::TimedOut)) => {}
            Ok(Ok(Waited::Impossible) | Err(_)) | Err(_) => {
                connection = None;
                followed.took(ROUND);
                sleep(AGAIN).await;
            }
        }
        if followed.waiting.load(Ordering::Relaxed) == 0 {
            sleep(PAUSE).await;
        }
    }
}

async fn ask(
    shared: &Arc<Shared>,
    server: usize,
    connection: &mut Option<Connection>,
    wanted: &GtidSet,
) -> Result<Waited, Failure> {
    let connection = match connection {
        Some(known) => known,
        none => none.insert(log_in(shared, server).await?.connection),
    };
    let Some(statement) = wanted.wait_statement(ROUND) else {
        return Ok(Waited::Reached);
    };
    let answer = connection.query(&statement).await;
    Ok(
        match answer.map_err(|broken| Failure::Trouble(broken.to_string()))? {
            Answer::Rows(columns, rows) => gtid::waited(first_value(columns, &rows)),
            Answer::Done | Answer::Refused(_) => Waited::Impossible,
        },
    )
}
