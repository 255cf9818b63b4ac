//! What the proxy tells, in the shapes of the status.

use std::collections::BTreeMap;

use lb_mysql::proxy::{self, Proxy};

use super::{Running, intercept};
use crate::status::{Mysql, MysqlDurations, MysqlServer, MysqlStatements, MysqlUser};

/// What the proxy does at the moment.
#[must_use]
pub fn status(running: &Running) -> Mysql {
    Mysql {
        intercept: running.interceptor().as_ref().and_then(intercept::status),
        ..of_proxy(running.proxy())
    }
}

/// The same of a proxy that nothing is brought into.
#[must_use]
pub fn of_proxy(proxy: &Proxy) -> Mysql {
    let proxy::Status {
        servers,
        no_primary,
        epoch,
        sessions,
        users,
        primary,
        replica,
        reasons,
        durations,
        troubles,
    } = proxy.status();
    let mut by_reason = BTreeMap::new();
    let mut by_target = BTreeMap::new();
    for (is_replica, reason, count) in reasons {
        *by_reason.entry(reason.to_owned()).or_insert(0) += count;
        let target = if is_replica { "replica" } else { "primary" };
        by_target.insert(format!("{target}/{reason}"), count);
    }
    let [of_primary, of_replica] = durations.map(took);
    Mysql {
        servers: servers.into_iter().map(server).collect(),
        sessions: sessions as u64,
        users: users.into_iter().map(user).collect(),
        statements: MysqlStatements { primary, replica },
        reasons: by_reason,
        no_primary,
        epoch,
        intercept: None,
        by_target,
        errors: troubles
            .into_iter()
            .map(|(kind, count)| (kind.to_owned(), count))
            .collect(),
        durations: BTreeMap::from([
            ("primary".to_owned(), of_primary),
            ("replica".to_owned(), of_replica),
        ]),
    }
}

fn server(one: proxy::ServerStatus) -> MysqlServer {
    MysqlServer {
        name: one.name,
        address: one.address,
        role: one.role.to_owned(),
        health: one.health.to_owned(),
        lag_seconds: one.lag_seconds,
        read_only: one.read_only,
        in_rotation: one.in_rotation,
        connections: one.connections as u64,
        max_connections: one.max_connections.map(|most| most as u64),
        waiting: one.waiting as u64,
        statements: one.statements,
        seconds: one.seconds,
        gtid: one.gtid,
        version: one.version,
        trouble: one.trouble,
        no_reads: one.no_reads,
    }
}

fn user(one: proxy::UserStatus) -> MysqlUser {
    MysqlUser {
        name: one.name,
        sessions: one.sessions as u64,
        max_connections: one.max_connections as u64,
    }
}

fn took(durations: proxy::Durations) -> MysqlDurations {
    MysqlDurations {
        buckets: durations.buckets,
        count: durations.count,
        seconds: durations.seconds,
    }
}
