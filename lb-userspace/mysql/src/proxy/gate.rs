//! What stops work at the primary for a while, so that another server can take its place.
//!
//! Whoever sends something to the primary that may write has a [`Permit`], for a statement or for a
//! transaction. A permit counts itself before it looks whether there are any, and whoever holds them
//! back says so before it counts: one of both sees the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use super::{query::refusal, session::Session, trouble::Trouble};
use crate::{
    route::{Decision, Pins, Server, Target},
    wire::error::Refusal,
};

/// Between two attempts to reach a primary.
const RETRY: Duration = Duration::from_millis(50);

/// Lets sessions work at the primary, or holds them back.
#[derive(Debug)]
pub(super) struct Gate {
    is_held: AtomicBool,
    /// Permits that are out, by worker, so that workers do not share what they write to.
    out: Vec<Out>,
    released: Notify,
    returned: Notify,
}

/// In a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Out(AtomicUsize);

/// Work at the primary goes on; dropped, it is over.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    worker: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Self { gate, worker } = self;
        gate.out[*worker].0.fetch_sub(1, Ordering::SeqCst);
        if gate.is_held() {
            gate.returned.notify_one();
        }
    }
}

impl Gate {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            is_held: AtomicBool::new(false),
            out: (0..workers).map(|_| Out::default()).collect(),
            released: Notify::new(),
            returned: Notify::new(),
        }
    }

    fn is_held(&self) -> bool {
        self.is_held.load(Ordering::SeqCst)
    }

    /// A permit, unless there are none now.
    fn try_enter(self: &Arc<Self>, worker: usize) -> Option<Permit> {
        self.out[worker].0.fetch_add(1, Ordering::SeqCst);
        let permit = Permit {
            gate: Arc::clone(self),
            worker,
        };
        // Otherwise it is given back right away.
        (!self.is_held()).then_some(permit)
    }

    /// A permit. While there are none it is waited for, until `end` at most.
    pub(super) async fn enter(self: &Arc<Self>, worker: usize, end: Instant) -> Option<Permit> {
        loop {
            if let Some(permit) = self.try_enter(worker) {
                return Some(permit);
            }
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if self.is_held() && timeout_at(end, released).await.is_err() {
                return None;
            }
        }
    }

    /// Permits that are out.
    pub(super) fn out(&self) -> usize {
        let out = self.out.iter();
        out.map(|out| out.0.load(Ordering::SeqCst)).sum()
    }

    /// Gives no permits from now on, and waits for so long at most until those that are out have
    /// come back. How many have not.
    pub(super) async fn hold(&self, most: Duration) -> usize {
        self.is_held.store(true, Ordering::SeqCst);
        let end = Instant::now() + most;
        loop {
            let out = self.out();
            // One comes back unheard only if another has been heard.
            if out == 0 || timeout_at(end, self.returned.notified()).await.is_err() {
                return self.out();
            }
        }
    }

    /// Gives permits again.
    pub(super) fn release(&self) {
        self.is_held.store(false, Ordering::SeqCst);
        self.released.notify_waiters();
    }
}

impl Session {
    /// The primary, and leave to work there. What may go to a replica as well needs none.
    pub(super) async fn enter_primary(&mut self, decision: &Decision) -> Result<usize, Vec<u8>> {
        let end = Instant::now() + self.worker.shared.now().primary_wait;
        loop {
            let server = self.primary().await?;
            if self.permit.is_some() || decision.target == Target::Replica {
                return Ok(server);
            }
            let Some(permit) = self.worker.enter(end).await else {
                self.worker.shared.count_trouble(Trouble::NoPrimary);
                let sentence = "lb holds writes back, because another server becomes the primary";
                return Err(refusal(&Refusal::new(1290, b"HY000", sentence)));
            };
            // It may be another by now.
            if self.worker.view().primary == Ok(server) {
                self.permit = Some(permit);
                return Ok(server);
            }
        }
    }

    /// The primary was not reached, and nothing was sent to it: whether it is worth trying again
    /// after a moment. It has been looked at by then.
    pub(super) async fn wait_for_another(&mut self, end: Instant) -> bool {
        if self.state.holds_primary() || Instant::now() >= end {
            return false;
        }
        self.give_permit_back();
        self.worker.shared.look_again();
        // Also when nothing has changed.
        let _ = timeout(RETRY, self.worker.view_changed()).await;
        true
    }

    /// Between two commands: what was begun at the primary is over, unless a transaction is open or
    /// a table locked there.
    pub(super) fn give_permit_back(&mut self) {
        let pins = self.state.pins();
        let is_open = self.state.transaction() == Some(Server::Primary)
            || pins.has(Pins::TABLE_LOCK)
            || pins.has(Pins::XA);
        if !is_open {
            self.permit = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[tokio::test]
    async fn work_goes_on_and_is_held_back() {
        let gate = Arc::new(Gate::new(2));
        let one = gate.enter(0, soon()).await;
        let two = gate.enter(1, soon()).await;
        assert!(one.is_some() && two.is_some());
        // Those that are out do not come back in time.
        assert_eq!(gate.hold(Duration::from_millis(5)).await, 2);
        assert!(gate.enter(0, soon()).await.is_none());
        assert_eq!(gate.out(), 2, "one that waited is counted");
        drop((one, two));
        assert_eq!(gate.hold(Duration::from_millis(5)).await, 0);
        gate.release();
        assert!(gate.enter(0, soon()).await.is_some());
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_it_is_over() {
        let gate = Arc::new(Gate::new(1));
        let out = gate.enter(0, soon()).await;
        let long = Duration::from_secs(60);
        let holder = async {
            let left = gate.hold(long).await;
            gate.release();
            left
        };
        let late = async {
            tokio::task::yield_now().await;
            drop(out);
            gate.enter(0, Instant::now() + long).await
        };
        let (left, permit) = tokio::join!(holder, late);
        assert_eq!(left, 0);
        assert!(permit.is_some());
        assert_eq!(gate.out(), 1);
    }
}
