//! Memory that sessions share: whoever needs much of it takes a part, in turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// What is counted at a time.
const UNIT: usize = 1 << 10;

/// So much memory.
#[derive(Debug)]
pub(super) struct Budget {
    free: Arc<Semaphore>,
    units: u32,
    waiting: AtomicUsize,
}

/// A part of it, until it is dropped.
#[derive(Debug)]
pub(super) struct Share(OwnedSemaphorePermit);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let units = units(bytes);
        Self {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Room for so many bytes, in turn; whoever needs more than there is gets all of it. None where
    /// there was none for so long.
    pub(super) async fn take(&self, bytes: usize, patience: Duration) -> Option<Share> {
        if let Some(share) = self.try_take(bytes) {
            return Some(share);
        }
        let _waits = Waits::new(&self.waiting);
        let taken = Arc::clone(&self.free).acquire_many_owned(units(bytes).min(self.units));
        timeout(patience, taken).await.ok()?.ok().map(Share)
    }

    /// The same, at once or not at all.
    pub(super) fn try_take(&self, bytes: usize) -> Option<Share> {
        let units = units(bytes).min(self.units);
        let taken = Arc::clone(&self.free).try_acquire_many_owned(units);
        taken.ok().map(Share)
    }

    /// Whether somebody waits for a part.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

impl Share {
    /// Gives back what is beyond so many bytes.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let Self(permit) = self;
        let beyond = permit
            .num_permits()
            .saturating_sub(units(bytes).try_into().unwrap_or(usize::MAX));
        drop(permit.split(beyond));
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// Counted for as long as it is there.
struct Waits<'w>(&'w AtomicUsize);

impl<'w> Waits<'w> {
    fn new(count: &'w AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn nobody_gets_what_is_not_there() {
        let budget = Budget::new(100 << 10);
        let mut first = budget.take(60 << 10, LONG).await.unwrap();
        assert!(budget.try_take(41 << 10).is_none());
        assert!(budget.take(41 << 10, LONG).await.is_none());
        assert!(!budget.is_awaited());
        first.shrink_to((59 << 10) - 1);
        let second = budget.try_take(41 << 10);
        assert!(second.is_some());
        drop((first, second));
        // Whoever needs more than there is.
        let all = budget.try_take(1 << 30).unwrap();
        assert!(budget.try_take(1).is_none());
        drop(all);
        assert!(budget.try_take(1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_needs_much_is_not_overtaken() {
        let budget = Arc::new(Budget::new(100 << 10));
        let held = budget.try_take(50 << 10).unwrap();
        let own = Arc::clone(&budget);
        let much = tokio::spawn(async move { own.take(80 << 10, LONG).await.is_some() });
        tokio::task::yield_now().await;
        assert!(budget.is_awaited());
        assert!(budget.try_take(10 << 10).is_none(), "overtaken");
        drop(held);
        assert!(much.await.unwrap());
    }
}
