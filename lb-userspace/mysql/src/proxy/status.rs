//! What the proxy tells of itself.

use std::sync::atomic::Ordering;

use super::{
    limits::{Limit, UserStatus},
    shared::{BUCKETS, Shared},
    trouble::Trouble,
};
use crate::{
    route::Reason,
    topology::{self, Reads},
};

/// What a proxy does at the moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Servers, in the order of the config.
    pub servers: Vec<ServerStatus>,
    /// Why nobody takes writes, if so.
    pub no_primary: Option<String>,
    /// Rises with each change of the primary.
    pub epoch: u64,
    /// Clients that are there.
    pub sessions: usize,
    /// Of users that may have so many.
    pub users: Vec<UserStatus>,
    /// Statements that went to the primary, and to replicas.
    pub primary: u64,
    /// To replicas.
    pub replica: u64,
    /// Statements by where they went (whether to a replica) and why; those that there were.
    pub reasons: Vec<(bool, &'static str, u64)>,
    /// How long they took.
    pub durations: [Durations; 2],
    /// What went wrong, by kind, zeros included.
    pub troubles: Vec<(&'static str, u64)>,
}

/// How long statements took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// Upper bounds in seconds, and how many took no longer, those of lower bounds included.
    pub buckets: Vec<(f64, u64)>,
    /// How many there were.
    pub count: u64,
    /// Seconds, all together.
    pub seconds: f64,
}

/// A server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerStatus {
    /// Of the config.
    pub name: String,
    /// Of the config.
    pub address: String,
    /// `primary`, `replica` or `unknown`.
    pub role: &'static str,
    /// `up`, `down` or `checking`.
    pub health: &'static str,
    /// Why it is not up.
    pub trouble: Option<String>,
    /// How far behind it is, if it is a replica and that is known.
    pub lag_seconds: Option<f64>,
    /// Whether it refuses writes.
    pub read_only: Option<bool>,
    /// Whether it gets statements: writes as the primary, reads as a replica.
    pub in_rotation: bool,
    /// Why it gets no reads.
    pub no_reads: Option<String>,
    /// Connections that are open.
    pub connections: usize,
    /// Of how many, if there is a limit.
    pub max_connections: Option<usize>,
    /// Clients that wait for one.
    pub waiting: usize,
    /// Statements that it got.
    pub statements: u64,
    /// How long they took together.
    pub seconds: f64,
    /// Transactions that it has.
    pub gtid: String,
    /// Its version.
    pub version: Option<String>,
}

pub(super) fn status(shared: &Shared) -> Status {
    let judged = shared.judged();
    let view = shared.view.borrow().clone();
    let servers = shared
        .settings
        .servers
        .iter()
        .enumerate()
        .map(|(index, server)| {
            let seen = judged.as_ref().map(|judged| &judged.servers[index]);
            let counters = &shared.servers[index];
            let limit = shared.limits[index].as_ref();
            let health = seen.map_or(&topology::Health::Checking, |seen| &seen.health);
            ServerStatus {
                name: server.name.to_string(),
                address: server.address.to_string(),
                role: seen.map_or("unknown", |seen| seen.role.word()),
                health: health.word(),
                trouble: match health {
                    topology::Health::Down(trouble) | topology::Health::Failing(trouble) => {
                        Some(trouble.to_string())
                    }
                    topology::Health::Checking | topology::Health::Up => None,
                },
                lag_seconds: seen.and_then(|seen| seen.lag).map(|lag| lag.as_secs_f64()),
                read_only: seen.and_then(|seen| seen.read_only),
                in_rotation: view.primary == Ok(index) || view.readers.contains(&index),
                no_reads: seen.and_then(|seen| match &seen.reads {
                    Reads::Yes { .. } => None,
                    Reads::No(why) => Some(why.to_string()),
                }),
                connections: match limit {
                    // Without those that look at it.
                    Some(limit) => limit.connections(),
                    None => counters.connections.load(Ordering::Relaxed),
                },
                max_connections: limit.map(Limit::most),
                waiting: limit.map_or(0, Limit::waiting),
                statements: counters.statements.load(Ordering::Relaxed),
                seconds: counters.micros.load(Ordering::Relaxed) as f64 / 1e6,
                gtid: seen
                    .and_then(|seen| seen.executed.as_ref())
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                version: seen
                    .and_then(|seen| seen.version.as_ref())
                    .map(ToString::to_string),
            }
        });
    let mut reasons = Vec::new();
    let mut totals = [0; 2];
    for is_replica in [false, true] {
        for reason in Reason::ALL {
            let counted = shared.workers.iter();
            let count: u64 = counted
                .map(|worker| worker.counted(is_replica, reason))
                .sum();
            totals[usize::from(is_replica)] += count;
            if count > 0 {
                reasons.push((is_replica, reason.label(), count));
            }
        }
    }
    Status {
        servers: servers.collect(),
        no_primary: view.primary.as_ref().err().map(ToString::to_string),
        epoch: view.epoch,
        sessions: shared.session_count(),
        users: shared.users.list(),
        primary: totals[0],
        replica: totals[1],
        reasons,
        durations: [durations(shared, false), durations(shared, true)],
        troubles: Trouble::ALL
            .map(|trouble| (trouble.label(), shared.troubles(trouble)))
            .to_vec(),
    }
}

fn durations(shared: &Shared, is_replica: bool) -> Durations {
    let mut count = 0;
    let mut buckets = Vec::new();
    for (index, most) in BUCKETS.iter().enumerate() {
        let workers = shared.workers.iter();
        count += workers
            .map(|worker| worker.took(is_replica, index))
            .sum::<u64>();
        buckets.push((*most as f64 / 1e6, count));
    }
    let workers = shared.workers.iter();
    let over: u64 = workers
        .map(|worker| worker.took(is_replica, BUCKETS.len()))
        .sum();
    let workers = shared.workers.iter();
    let micros: u64 = workers.map(|worker| worker.micros(is_replica)).sum();
    Durations {
        buckets,
        count: count + over,
        seconds: micros as f64 / 1e6,
    }
}
