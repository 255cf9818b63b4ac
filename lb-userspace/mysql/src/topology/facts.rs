//! What is known of each server before anything is concluded.

use std::time::Duration;

use super::{
    Channel, Health, Identity, IoThread, Name, Observation, ServerSettings, Settings, Trouble,
    WantedRole,
};
use crate::gtid::GtidSet;

/// What is remembered of a server from one observation to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// The last answer, and when.
    pub(super) last: Option<(Duration, Observation)>,
    /// Failures since then.
    pub(super) failing: Option<(u32, Trouble)>,
    /// It was the primary before another became it, and did not join again. What it had then.
    pub(super) deposed: Option<Option<GtidSet>>,
    /// Whether it took writes while it was a replica.
    pub(super) is_careless: bool,
    /// When it was seen to take writes after it had been read-only.
    pub(super) turned: Option<Duration>,
    /// Since when it has been connected to no source.
    pub(super) cut_off: Option<Duration>,
    /// Whether it took writes while the primary did.
    pub(super) rivalry: Rivalry,
}

impl Memory {
    /// Whether it failed once, so that the next answer matters.
    pub(super) const fn is_uncertain(&self) -> bool {
        self.failing.is_some() && self.last.is_some()
    }
}

/// How sure it is that a server took writes beside the primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rivalry {
    #[default]
    None,
    /// It does since then, when the primary had been seen to earlier.
    Since(Duration),
    /// The primary was seen to again later.
    Certain,
}

/// Everything that is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) settings: &'a Settings,
    pub(super) memory: &'a [Memory],
    pub(super) now: Duration,
}

impl<'a> Facts<'a> {
    pub(super) fn indices(&self) -> std::ops::Range<usize> {
        0..self.memory.len()
    }

    pub(super) fn own(&self, server: usize) -> &'a ServerSettings {
        &self.settings.servers[server]
    }

    pub(super) fn name(&self, server: usize) -> Name {
        self.own(server).name.clone()
    }

    pub(super) fn health(&self, server: usize) -> Health {
        let memory = &self.memory[server];
        let failing = memory.failing.clone();
        match (&memory.last, failing) {
            (None, None) => Health::Checking,
            (Some((at, _)), None) => {
                if self.now.saturating_sub(*at) > self.settings.stale_after {
                    Health::Down(Trouble::TimedOut)
                } else {
                    Health::Up
                }
            }
            (Some((at, _)), Some((count, trouble))) => {
                let is_old = self.now.saturating_sub(*at) > self.settings.stale_after;
                if trouble.is_certain() || count >= self.settings.fall || is_old {
                    Health::Down(trouble)
                } else {
                    Health::Failing(trouble)
                }
            }
            (None, Some((_, trouble))) => Health::Down(trouble),
        }
    }

    /// What a server that is reached was seen to be.
    pub(super) fn up(&self, server: usize) -> Option<&'a Observation> {
        match self.health(server) {
            Health::Up | Health::Failing(_) => self.last(server),
            Health::Checking | Health::Down(_) => None,
        }
    }

    /// What a server was seen to be, reached or not.
    pub(super) fn last(&self, server: usize) -> Option<&'a Observation> {
        self.memory[server].last.as_ref().map(|(_, seen)| seen)
    }

    pub(super) fn identity(&self, server: usize) -> Option<Identity> {
        self.last(server).map(|seen| seen.identity)
    }

    /// What a server wrote itself and the primary does not have, if there is something.
    pub(super) fn only_at(&self, server: usize, primary: usize) -> Option<GtidSet> {
        let (own, primary) = (self.up(server)?, self.up(primary)?);
        let uuid = own.identity.uuid?;
        let (GtidSet::MySql(own), GtidSet::MySql(primary)) =
            (own.executed.as_ref()?, primary.executed.as_ref()?)
        else {
            return None;
        };
        let only = own.written_by(uuid).without(primary);
        (!only.is_empty()).then_some(GtidSet::MySql(only))
    }

    /// The earlier server of the list that this one is the same as.
    pub(super) fn same_as(&self, server: usize) -> Option<usize> {
        let own = self.up(server)?.identity;
        (0..server).find(|other| self.up(*other).is_some_and(|other| other.identity.is(&own)))
    }

    /// Whether a server that is reached takes writes of ordinary users.
    pub(super) fn takes_writes(&self, server: usize) -> bool {
        self.up(server)
            .is_some_and(|seen| !seen.read_only && !seen.offline)
    }

    pub(super) fn may_be_primary(&self, server: usize) -> bool {
        self.own(server).role != WantedRole::Replica && self.same_as(server).is_none()
    }

    /// The server of the list that a channel copies from.
    ///
    /// Connected, the replica knows who that is, wherever its address leads. If it is not, the
    /// address counts: MariaDB goes on telling the id of a source that it was taken away from.
    pub(super) fn source(&self, channel: &Channel) -> Option<usize> {
        let told = channel
            .source
            .filter(|source| source.uuid.is_some() || source.server_id != 0);
        let by_identity = self.indices().find(|server| {
            let own = self.identity(*server);
            told.zip(own).is_some_and(|(told, own)| told.is(&own))
        });
        let mut at = self.indices();
        let by_address = at.find(|server| self.own(*server).is_at(&channel.host, channel.port));
        if channel.io != IoThread::Running {
            return by_address.or(by_identity);
        }
        let is_other = |server: &usize| {
            let own = self.identity(*server);
            told.zip(own).is_some_and(|(told, own)| !told.is(&own))
        };
        by_identity.or(by_address.filter(|server| !is_other(server)))
    }

    /// Servers of the list that a server copies from, or would as soon as it reaches them.
    pub(super) fn live_sources(&self, server: usize) -> impl Iterator<Item = usize> {
        let channels = self.last(server).map_or(&[][..], Observation::channels);
        let live = channels
            .iter()
            .filter(|channel| channel.io != IoThread::Stopped);
        live.filter_map(|channel| self.source(channel))
            .filter(move |source| *source != server)
    }

    /// Whether a replica is cut off from a server because that is gone, and not for longer.
    pub(super) fn is_cut_off_by_loss(&self, replica: usize, source: usize) -> bool {
        let until = self.memory[source].last.as_ref().map(|(at, _)| *at);
        let since = self.memory[replica].cut_off;
        // One answer that is missing is enough here: replicas may notice earlier than the monitor.
        let is_doubted = !matches!(self.health(source), Health::Up);
        is_doubted && (until.is_none() || since > until)
    }

    /// Whether a server copies from another, directly or by way of others.
    pub(super) fn follows(&self, server: usize, other: usize) -> bool {
        let mut reached = vec![server];
        let mut next = 0;
        while let Some(&server) = reached.get(next) {
            next += 1;
            for source in self.live_sources(server) {
                if source == other {
                    return true;
                }
                if !reached.contains(&source) {
                    reached.push(source);
                }
            }
        }
        false
    }
}
