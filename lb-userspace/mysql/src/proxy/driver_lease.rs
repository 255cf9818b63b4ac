//! A primary that is lost is replaced without being asked, by one proxy of all that share a lease.
//!
//! The record says who the primary is. Whoever promotes has to hold the lease, has looked at all
//! servers since, and promotes only if the recorded primary is the one that it has lost itself, or is
//! reached and takes no writes. So a proxy that was asleep, or cut off, does not replace a primary
//! that another proxy has replaced already. The record is changed before the candidate takes writes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    driver::{Driver, look, run},
    lease::Lease,
    settings,
};
use crate::topology::{
    self, Health, NoPrimary, Primary,
    plan::{self, Answer, Automatic, Due, End},
};

/// After an attempt that came to nothing, or to write the record.
const AGAIN: Duration = Duration::from_secs(5);
/// Between two looks at the record while two servers take writes.
const SOON: Duration = Duration::from_millis(500);

/// What decides when.
#[derive(Debug)]
pub(super) struct Watchman {
    automatic: Automatic,
    pub(super) lease: Arc<dyn Lease>,
    began: Instant,
    /// No attempt before.
    not_before: Instant,
    /// What this proxy has recorded or read last, and in which epoch.
    noted: Option<(u64, String)>,
}

impl Watchman {
    pub(super) fn new(settings: &settings::Automatic) -> Self {
        let now = Instant::now();
        Self {
            automatic: Automatic::new(settings.wait),
            lease: Arc::clone(&settings.lease),
            began: now,
            not_before: now,
            noted: None,
        }
    }
}

impl Driver {
    fn due(&mut self, view: &topology::View) -> Due {
        let Some(watchman) = &mut self.watchman else {
            return Due::No;
        };
        let now = watchman.began.elapsed();
        watchman.automatic.look(now, &self.settings, view)
    }

    /// After each look: does what is to be done without being asked.
    pub(super) async fn watch_over(&mut self) {
        let Some(view) = self.shared.judged() else {
            return;
        };
        let due = self.due(&view);
        let Some(watchman) = &mut self.watchman else {
            return;
        };
        if Instant::now() < watchman.not_before {
            return;
        }
        let tried = match due {
            Due::No => self.keep_record(&view).await,
            Due::In(_) => return,
            Due::Nobody(why) => Err(format!("the primary is lost, and nobody takes over: {why}")),
            Due::Now(_) => self.take_over().await,
        };
        if let (Err(sentence), Some(watchman)) = (tried, &mut self.watchman) {
            watchman.not_before = Instant::now() + AGAIN;
            self.shared.tell_rarely(&format!("mysql: {sentence}"));
        }
    }

    /// How long a lease has to last for all that comes after it was asked for.
    pub(super) fn least(&self) -> Duration {
        self.shared.settings.failover.times.statement * 2
    }

    /// Has the record say who the primary is, if this proxy has not seen that it does.
    async fn keep_record(&mut self, view: &topology::View) -> Result<(), String> {
        let (Some(primary), Some(watchman)) = (view.primary(), &self.watchman) else {
            return Ok(());
        };
        let address = self.address(primary);
        let wanted = (view.epoch, address.clone());
        let is_noted = watchman.noted.as_ref() == Some(&wanted);
        if is_noted && view.rivals.is_empty() {
            return Ok(());
        }
        let lease = Arc::clone(&watchman.lease);
        let recorded = lease.recorded().await?;
        let mut rivals = view.rivals.iter();
        // A record that was right before has been changed since, by whoever had the lease.
        if is_noted && let Some(rival) = rivals.find(|one| recorded == Some(self.address(**one))) {
            return self.give_way(primary, *rival).await;
        }
        if recorded.as_ref() != Some(&address) {
            if let Err(sentence) = lease.hold(self.least()).await {
                // Most likely another proxy does the same at this moment.
                tracing::debug!("mysql: the record of the primary: {sentence}");
                if let Some(watchman) = &mut self.watchman {
                    watchman.not_before = Instant::now() + SOON;
                }
                return Ok(());
            }
            let done = self.correct_record(&*lease, &address).await;
            lease.give_back().await?;
            done?;
        }
        if let Some(watchman) = &mut self.watchman {
            watchman.noted = Some(wanted);
            // While two take writes, the record may change.
            watchman.not_before = Instant::now() + SOON;
        }
        Ok(())
    }

    /// Another proxy has promoted one while this one still reaches the former primary, which is to
    /// take no more writes.
    async fn give_way(&self, primary: usize, promoted: usize) -> Result<(), String> {
        // Of two looks the older one may be from before a planned change.
        let view = &look(&self.shared).await;
        if view.primary() != Some(primary) || !view.rivals.contains(&promoted) {
            return Ok(());
        }
        let (from, to) = (&view.servers[primary], &view.servers[promoted]);
        let Some(version) = &from.version else {
            return Ok(());
        };
        let patience = self.shared.settings.failover.times.statement;
        match run(&self.shared, primary, &plan::fence(version), patience).await {
            Answer::Done(_) => {
                tracing::error!(
                    kind = "mysql_topology",
                    "mysql: another proxy has promoted {} in the place of {}, which was set \
                     read-only; what was written to it since is not on {}",
                    to.name,
                    from.name,
                    to.name
                );
                Ok(())
            }
            Answer::Refused(why) | Answer::Unknown(why) => Err(format!(
                "another proxy has promoted {} in the place of {}, which cannot be set read-only: \
                 {why}",
                to.name, from.name
            )),
        }
    }

    /// With the lease.
    async fn correct_record(&self, lease: &dyn Lease, address: &str) -> Result<(), String> {
        let view = look(&self.shared).await;
        let is_primary = |server| self.address(server) == address;
        if !view.primary().is_some_and(is_primary) {
            return Err("the primary has changed".to_owned());
        }
        if let Some(recorded) = lease.recorded().await? {
            self.is_settled(&view, &recorded)?;
        }
        lease.record(address.to_owned()).await
    }

    /// Whether the recorded primary surely is none any more: it is reached and takes no writes, or it
    /// is no server of the list.
    fn is_settled(&self, view: &topology::View, recorded: &str) -> Result<(), String> {
        let mut servers = 0..view.servers.len();
        let Some(server) = servers.find(|server| self.address(*server) == recorded) else {
            return Ok(());
        };
        let seen = &view.servers[server];
        match (&seen.health, seen.read_only) {
            (Health::Up, Some(true)) => Ok(()),
            (Health::Up | Health::Failing(_) | Health::Down(_) | Health::Checking, _) => {
                Err(format!(
                    "by the record in etcd {} is the primary, and it is not known that it takes no \
                     writes",
                    seen.name
                ))
            }
        }
    }

    /// Promotes a replica, if that is for this proxy to do.
    async fn take_over(&mut self) -> Result<(), String> {
        let Some(lease) = self.watchman.as_ref().map(|one| Arc::clone(&one.lease)) else {
            return Ok(());
        };
        lease.hold(self.least()).await?;
        let done = self.promote(&*lease).await;
        if let Some(watchman) = &mut self.watchman {
            // It may have been changed.
            watchman.noted = None;
        }
        // Where it is not known what was done, nobody else is to do anything for a while.
        if done != Ok(End::Stuck) {
            lease.give_back().await?;
        }
        match done? {
            End::Done => Ok(()),
            End::Undone => Err("the failover failed, and all is as it was".to_owned()),
            End::Stuck => Err("the failover failed half way".to_owned()),
        }
    }

    async fn promote(&mut self, lease: &dyn Lease) -> Result<End, String> {
        // What was seen before the lease was held does not count.
        let view = look(&self.shared).await;
        let Due::Now(name) = self.due(&view) else {
            return Err("the primary is there again, or another proxy was faster".to_owned());
        };
        let Primary::Nobody(NoPrimary::Lost(lost, _)) = &view.primary else {
            return Err("the primary is not lost".to_owned());
        };
        let mut servers = 0..view.servers.len();
        let lost = servers.find(|server| view.servers[*server].name == *lost);
        if let Some(recorded) = lease.recorded().await?
            && lost.is_none_or(|lost| self.address(lost) != recorded)
        {
            self.is_settled(&view, &recorded)?;
        }
        let times = self.shared.settings.failover.times;
        let plan = plan::failover(&self.settings, &view, Some(&name), times, true)
            .map_err(|objections| objections.join("; "))?;
        tracing::error!(
            kind = "mysql_topology",
            "mysql: the primary is lost for good, as far as can be told: {name} takes its place"
        );
        let mut servers = 0..view.servers.len();
        let candidate = servers.find(|server| view.servers[*server].name == name);
        let address = candidate.map(|candidate| self.address(candidate));
        let (end, _) = self
            .carry_out(plan, super::driver::Kind::Failover, address)
            .await;
        if end != End::Undone {
            self.note_lost(&view);
        }
        Ok(end)
    }

    /// An order of a plan; records an address after that, if there is one.
    pub(super) async fn hold_lease(&self, least: Duration, address: Option<&String>) -> Answer {
        let Some(watchman) = &self.watchman else {
            return Answer::Refused("there is no lease".to_owned());
        };
        if let Err(sentence) = watchman.lease.hold(least).await {
            return Answer::Refused(sentence);
        }
        let Some(address) = address else {
            return Answer::Done(None);
        };
        match watchman.lease.record(address.clone()).await {
            Ok(()) => {}
            Err(sentence) => return Answer::Refused(sentence),
        }
        // That took its time as well.
        match watchman.lease.hold(least).await {
            Ok(()) => Answer::Done(None),
            Err(sentence) => Answer::Refused(sentence),
        }
    }

    pub(super) fn address(&self, server: usize) -> String {
        let settings = &self.shared.settings.servers[server];
        settings.address.to_string()
    }
}
