//! Whether a primary that is lost is replaced without being asked.
//!
//! What is guaranteed, and what is not: a replica is promoted by one proxy at most, because only
//! the holder of the lease does, and it looks again right before. The lease says nothing of the
//! former primary: it is believed to be gone because neither this proxy nor any replica that it
//! sees reaches it. Whoever does reach it, past the proxies or by one that is cut off from etcd and
//! from the others, still writes to it, and those writes are lost. Replication is asynchronous, so
//! what the primary confirmed in its last moments may be lost as well; what is known to be is told.
//! A proxy that sees the former primary return does not believe it.

use std::time::Duration;

use super::best_candidate;
use crate::topology::{Health, IoThread, Name, NoPrimary, Primary, Settings, View};

/// Watches for a primary that is lost for long enough.
#[derive(Clone, Debug)]
pub struct Automatic {
    wait: Duration,
    lost: Option<(Duration, u64)>,
}

/// Whether it is time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// The primary is there, or what is wrong is nothing that a promotion mends.
    No,
    /// It is lost, and may come back.
    In(Duration),
    /// Nobody could take its place; a sentence.
    Nobody(String),
    /// Now: ask for the lease, and promote this one.
    Now(Name),
}

impl Automatic {
    /// A primary has to be lost for so long.
    #[must_use]
    pub const fn new(wait: Duration) -> Self {
        Self { wait, lost: None }
    }

    /// How it is now. A promotion that was begun is not begun again: whoever carries one out asks
    /// no more until it has ended.
    pub fn look(&mut self, now: Duration, settings: &Settings, view: &View) -> Due {
        let Primary::Nobody(NoPrimary::Lost(primary, _)) = &view.primary else {
            self.lost = None;
            return Due::No;
        };
        let since = match self.lost {
            Some((since, epoch)) if epoch == view.epoch => since,
            Some(_) | None => now,
        };
        self.lost = Some((since, view.epoch));
        let left = self.wait.saturating_sub(now.saturating_sub(since));
        if !left.is_zero() {
            return Due::In(left);
        }
        // Who sees nobody at all is more likely cut off than right.
        let sees_any = view
            .servers
            .iter()
            .any(|server| matches!(server.health, Health::Up | Health::Failing(_)));
        if !sees_any {
            return Due::Nobody("no server is reached at all: it may be this host".to_owned());
        }
        // A replica that is connected to it proves that it is there. After the loss of a whole host
        // that takes until the replica's own timeout (`replica_net_timeout`, 60 s).
        let connected = view.servers.iter().find(|server| {
            let source = server.source.and_then(|source| view.servers.get(source));
            let is_up = matches!(server.health, Health::Up | Health::Failing(_));
            let channel = server.channel.as_ref();
            is_up
                && source.is_some_and(|source| source.name == *primary)
                && channel.is_some_and(|channel| channel.io == IoThread::Running)
        });
        if let Some(replica) = connected {
            return Due::Nobody(format!(
                "{} is connected to {primary}: it is there, and this host does not reach it",
                replica.name
            ));
        }
        match best_candidate(settings, view) {
            Some(candidate) => Due::Now(view.servers[candidate].name.clone()),
            None => {
                Due::Nobody("no replica that is reached is fit, or has all there is".to_owned())
            }
        }
    }
}
