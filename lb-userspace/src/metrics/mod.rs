//! The page that Prometheus reads: the status and the times of checks, as samples.
//!
//! Nothing is counted here. The counters are those of the data path, read when the page is.

mod check_times;
mod families;
mod page;
#[cfg(test)]
mod tests;

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

pub use self::check_times::{CheckTimes, Histogram};
use self::{families as f, page::Page};
use crate::{
    health::{BackendKey, Health},
    status::{Backend, Cluster, ClusterPeer, Handshakes, Mysql, Service, Status},
};

/// Of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the metrics have beside the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measures {
    /// How long checks took.
    pub check_times: CheckTimes,
    /// How the last reading of the config went; the agent's start is one too.
    pub config: ConfigRead,
}

/// How the last reading of the config went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigRead {
    /// Whether it was taken.
    pub is_success: bool,
    /// When it was taken for the last time.
    pub taken: SystemTime,
}

impl Default for ConfigRead {
    /// It was taken just now.
    fn default() -> Self {
        Self {
            is_success: true,
            taken: SystemTime::now(),
        }
    }
}

impl ConfigRead {
    /// It was refused now; the one before stays.
    pub const fn refused(&mut self) {
        self.is_success = false;
    }
}

/// All samples, in Prometheus' text format.
#[must_use]
pub fn page(status: &Status, measures: &Measures) -> String {
    let mut page = Page::new(status.services.iter().map(|one| one.backends.len()).sum());
    agent(&mut page, status, measures);
    services(&mut page, &status.services);
    backends(&mut page, &status.services, &measures.check_times);
    data_path(&mut page, status);
    if let Some(cluster) = &status.cluster {
        balancers(&mut page, cluster);
    }
    if let Some(mysql) = &status.mysql {
        databases(&mut page, mysql);
    }
    page.into_text()
}

fn agent(page: &mut Page, status: &Status, measures: &Measures) {
    let taken = measures.config.taken.duration_since(UNIX_EPOCH);
    page.gauges(f::BUILD_INFO, [([&*status.version], 1.0)]);
    page.gauges(f::AGENT_UPTIME, [([], status.agent.uptime_seconds)]);
    let generation = status.agent.config_generation as f64;
    page.gauges(f::CONFIG_GENERATION, [([], generation)]);
    let success = f64::from(u8::from(measures.config.is_success));
    page.gauges(f::RELOAD_SUCCESS, [([], success)]);
    let taken = taken.unwrap_or_default().as_secs_f64();
    page.gauges(f::RELOAD_TIMESTAMP, [([], taken)]);
    let interfaces = status.interfaces.iter();
    page.gauges(
        f::INTERFACE_INFO,
        interfaces.map(|one| ([&*one.name, &*one.xdp_mode], 1.0)),
    );
}

fn services(page: &mut Page, services: &[Service]) {
    let counts = |of: fn(&Service) -> u64| services.iter().map(move |one| ([&*one.name], of(one)));
    page.counters(f::SERVICE_CONNECTIONS, counts(|one| one.connections));
    page.counters(f::SERVICE_PACKETS, counts(|one| one.packets));
    page.counters(f::SERVICE_BYTES, counts(|one| one.bytes));
    let denied = services
        .iter()
        .filter_map(|one| Some(([&*one.name], one.firewall.as_ref()?.denied)));
    page.counters(f::SERVICE_DENIED, denied);
    let numbers = |of: fn(&Service) -> usize| {
        services
            .iter()
            .map(move |one| ([&*one.name], of(one) as f64))
    };
    page.gauges(
        f::SERVICE_ACTIVE_FLOWS,
        numbers(|one| one.active_flows as usize),
    );
    page.gauges(f::SERVICE_BACKENDS, numbers(|one| one.backends.len()));
    let in_rotation = |one: &Service| one.backends.iter().filter(|b| b.in_rotation).count();
    page.gauges(f::SERVICE_IN_ROTATION, numbers(in_rotation));
}

fn backends(page: &mut Page, services: &[Service], times: &CheckTimes) {
    let all = || {
        services.iter().flat_map(|service| {
            let backends = service.backends.iter();
            backends.map(|backend| ([&*service.name, &*backend.name], backend))
        })
    };
    let counts = |of: fn(&Backend) -> u64| all().map(move |(labels, one)| (labels, of(one)));
    page.counters(f::BACKEND_CONNECTIONS, counts(|one| one.connections));
    page.counters(f::BACKEND_PACKETS, counts(|one| one.packets));
    page.counters(f::BACKEND_BYTES, counts(|one| one.bytes));
    page.counters(f::BACKEND_REPLY_PACKETS, counts(|one| one.reply_packets));
    page.counters(f::BACKEND_REPLY_BYTES, counts(|one| one.reply_bytes));
    let seen = |of: fn(&Handshakes) -> u64| {
        all().filter_map(move |(labels, one)| Some((labels, of(one.handshakes.as_ref()?))))
    };
    page.counters(f::BACKEND_ACCEPTED, seen(|one| one.accepted));
    page.counters(f::BACKEND_REFUSED, seen(|one| one.refused));
    page.counters(f::BACKEND_UNANSWERED, seen(|one| one.unanswered));
    let numbers = |of: fn(&Backend) -> f64| all().map(move |(labels, one)| (labels, of(one)));
    let yes = |is: bool| f64::from(u8::from(is));
    page.gauges(
        f::BACKEND_ACTIVE_FLOWS,
        numbers(|one| one.active_flows as f64),
    );
    page.gauges(
        f::BACKEND_UP,
        all().map(|(labels, one)| (labels, yes(one.health == Health::Up.label()))),
    );
    page.gauges(
        f::BACKEND_IN_ROTATION,
        all().map(|(labels, one)| (labels, yes(one.in_rotation))),
    );
    page.gauges(f::BACKEND_WEIGHT, numbers(|one| one.weight.into()));
    page.gauges(
        f::BACKEND_INFO,
        all().map(|([service, name], one)| ([service, name, &*one.role, &*one.state], 1.0)),
    );
    page.gauges(
        f::BACKEND_CERTIFICATE,
        all().filter_map(|(labels, one)| Some((labels, one.certificate_expires? as f64))),
    );
    page.gauges(
        f::BACKEND_LAG,
        all().filter_map(|(labels, one)| Some((labels, one.replication_lag_seconds?))),
    );
    page.histograms(
        f::BACKEND_CHECK_DURATION,
        all().filter_map(|([service, backend], _)| {
            let key = BackendKey {
                service: service.into(),
                backend: backend.into(),
            };
            Some(([service, backend], times.of(&key)?))
        }),
    );
}

fn data_path(page: &mut Page, status: &Status) {
    let Status {
        verdicts,
        events,
        flow_tables,
        app_host,
        announced,
        ..
    } = status;
    page.counters(f::VERDICTS, verdicts.iter().map(|(label, n)| ([label], n)));
    page.counters(f::EVENTS, events.iter().map(|(label, n)| ([label], n)));
    let tables = || flow_tables.iter();
    page.gauges(
        f::FLOW_TABLE_ENTRIES,
        tables().map(|table| ([&*table.name], table.entries as f64)),
    );
    page.gauges(
        f::FLOW_TABLE_CAPACITY,
        tables().map(|table| ([&*table.name], table.capacity as f64)),
    );
    page.counters(
        f::FLOW_TABLE_EXPIRED,
        tables().map(|table| ([&*table.name], table.expired)),
    );
    if let Some(app_host) = app_host {
        let verdicts = app_host.verdicts.iter();
        page.counters(f::DECAP_VERDICTS, verdicts.map(|(label, n)| ([label], n)));
        let vips = app_host.vips.iter();
        page.gauges(
            f::APP_HOST_VIP,
            vips.map(|vip| ([&*vip.address], f64::from(u8::from(vip.on_lo)))),
        );
    }
    let vips = announced.iter();
    page.gauges(
        f::VIP_ANNOUNCED,
        vips.map(|vip| ([&*vip.address], f64::from(u8::from(vip.on_lo)))),
    );
}

fn balancers(page: &mut Page, cluster: &Cluster) {
    let peers = || cluster.peers.iter();
    let numbers =
        |of: fn(&ClusterPeer) -> f64| peers().map(move |peer| ([&*peer.address], of(peer)));
    page.gauges(
        f::CLUSTER_PEER_UP,
        numbers(|peer| f64::from(u8::from(peer.up))),
    );
    let caught_up = f64::from(u8::from(cluster.caught_up));
    page.gauges(f::CLUSTER_CAUGHT_UP, [([], caught_up)]);
    page.gauges(
        f::CLUSTER_PEER_HEARD,
        peers().filter_map(|peer| Some(([&*peer.address], peer.heard_seconds?))),
    );
    let counts =
        |of: fn(&ClusterPeer) -> u64| peers().map(move |peer| ([&*peer.address], of(peer)));
    page.counters(f::CLUSTER_SESSIONS, counts(|peer| peer.sessions));
    page.counters(f::CLUSTER_FLOWS_SENT, counts(|peer| peer.flows_sent));
    page.counters(
        f::CLUSTER_FLOWS_RECEIVED,
        counts(|peer| peer.flows_received),
    );
    page.counters(f::CLUSTER_BYTES_SENT, counts(|peer| peer.bytes_sent));
    page.counters(
        f::CLUSTER_BYTES_RECEIVED,
        counts(|peer| peer.bytes_received),
    );
    let fates = cluster.flows.iter();
    page.counters(f::CLUSTER_FLOWS, fates.map(|(label, n)| ([label], n)));
    let refused = cluster.refused.iter();
    page.counters(f::CLUSTER_REFUSED, refused.map(|(label, n)| ([label], n)));
    page.counters(f::CLUSTER_OVERWRITTEN, [([], cluster.overwritten)]);
    page.counters(f::CLUSTER_UNSENT, [([], cluster.unsent)]);
    let shared = cluster.shared_addresses.len() as f64;
    page.gauges(f::CLUSTER_SHARED, [([], shared)]);
}

fn databases(page: &mut Page, mysql: &Mysql) {
    let statements = mysql.by_target.iter().filter_map(|(key, count)| {
        let (target, reason) = key.split_once('/')?;
        Some(([target, reason], *count))
    });
    page.counters(f::MYSQL_STATEMENTS, statements);
    let durations = mysql.durations.iter();
    page.durations(
        f::MYSQL_DURATION,
        durations
            .map(|(target, took)| ([&**target], (&took.buckets[..], took.count, took.seconds))),
    );
    page.gauges(f::MYSQL_SESSIONS, [([], mysql.sessions as f64)]);
    let servers = || mysql.servers.iter();
    let yes = |is: bool| f64::from(u8::from(is));
    page.gauges(
        f::MYSQL_SERVER_UP,
        servers().map(|one| ([&*one.name], yes(one.health == "up"))),
    );
    page.gauges(
        f::MYSQL_SERVER_LAG,
        servers().filter_map(|one| Some(([&*one.name], one.lag_seconds?))),
    );
    let roles = servers().flat_map(|one| {
        let roles = ["primary", "replica", "unknown"].into_iter();
        roles.map(|role| ([&*one.name, role], yes(one.role == role)))
    });
    page.gauges(f::MYSQL_SERVER_ROLE, roles);
    page.gauges(
        f::MYSQL_SERVER_CONNECTIONS,
        servers().map(|one| ([&*one.name], one.connections as f64)),
    );
    if let Some(intercept) = &mysql.intercept {
        let outcomes = [
            (["taken"], intercept.intercepted),
            (["own"], intercept.own),
            (["other_namespace"], intercept.other_namespace),
            (["no_listener"], intercept.no_listener),
        ];
        page.counters(f::MYSQL_INTERCEPT, outcomes);
    }
    let errors = mysql.errors.iter();
    page.counters(
        f::MYSQL_ERRORS,
        errors.map(|(kind, count)| ([&**kind], *count)),
    );
}

/// The reference of the metrics, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = "# Metrics\n\n\
        <!-- Made by `lb gen-docs` from lb-userspace/src/metrics/families.rs. Do not edit. -->\n\n\
        `GET /metrics`, on the Unix socket and where `admin.listen` says. Counters of the data path \
        go on when the agent restarts and takes its tables over. A metric without samples is not on \
        the page.\n\n| metric | type | labels | |\n|---|---|---|---|\n"
        .to_owned();
    for family in f::ALL {
        let labels: Vec<String> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let kind = family.kind.word();
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {kind} | {} | {} |",
            family.name,
            labels.join(", "),
            family.help
        );
    }
    page
}
