//! What the agent tells a service manager, systemd for example, beside READY and STOPPING. Without one
//! there is nobody to tell, and nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often a sign of life is given within the time after which the manager ends the agent.
const SIGNS: u32 = 3;

/// Tells the manager's watchdog that the agent is alive: from the main loop, which has to come round,
/// and only after the core's lock could be taken, which whoever hangs would keep.
pub(super) struct Watchdog(Option<Interval>);

impl Watchdog {
    /// As the environment asks for.
    pub(super) fn new() -> Self {
        Self::every(sd_notify::watchdog_enabled())
    }

    fn every(limit: Option<Duration>) -> Self {
        let period = limit.map(|limit| limit / SIGNS);
        Self(period.filter(|period| !period.is_zero()).map(|period| {
            let mut signs = interval(period);
            signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
            signs
        }))
    }

    /// Waits until a sign of life is due, for ever if nobody wants any.
    pub(super) async fn due(&mut self) {
        match &mut self.0 {
            Some(signs) => drop(signs.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Gives it, if `lock` can be taken.
    pub(super) fn sign<T>(&self, lock: impl FnOnce() -> T) {
        drop(lock());
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

/// While it lives, the manager knows that the config is read anew.
pub(super) struct Reloading(());

impl Reloading {
    pub(super) fn begin() -> Self {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now());
        let _ = sd_notify::notify(&states);
        Self(())
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn signs_come_well_within_the_limit() {
        let mut watchdog = Watchdog::every(Some(Duration::from_secs(30)));
        watchdog.due().await;
        let start = Instant::now();
        watchdog.due().await;
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_told_who_did_not_ask() {
        for limit in [None, Some(Duration::ZERO)] {
            let mut watchdog = Watchdog::every(limit);
            let hour = Duration::from_secs(3600);
            assert!(timeout(hour, watchdog.due()).await.is_err());
        }
    }
}
