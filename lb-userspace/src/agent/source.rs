//! What the agent tells about itself.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use lb_common::{
    abi::{ABI_VERSION, BackendCounters, Forwarding, Protocol, Scheduler},
    firewall::Action,
    tables::FlowTable,
};
use lb_mysql::proxy::Proxy;

use super::{
    app_host::AppHost,
    capturing::Capturing,
    command::Commander,
    core::Core,
    explainer::Explainer,
    flow_lister::Lister,
    plan,
    reloading::Reloader,
    state::{BackendState, ServiceState, describe},
};
use crate::{
    admin::{Pieces, StatusSource},
    capture,
    cluster::Cluster,
    config::model::{self, Role},
    control::{Act, Changes, NewPrimary, Pattern, PrimaryChanged, Refusal, ReloadWish, Reloaded},
    dataplane::{self, FlowCounts},
    events::EventLog,
    firewall,
    flow_list::Query,
    metrics::Measures,
    mysql,
    next_hop::NextHop,
    status::{self, Status},
    why,
};

/// Reads the status from the running agent.
pub(super) struct Source {
    core: Arc<Mutex<Core>>,
    commander: Commander,
    reloader: Reloader,
    explainer: Explainer,
    log: Arc<EventLog>,
    mysql: Option<Arc<mysql::Running>>,
}

impl Source {
    pub(super) fn new(
        core: Arc<Mutex<Core>>,
        commander: Commander,
        reloader: Reloader,
        log: Arc<EventLog>,
        mysql: Option<Arc<mysql::Running>>,
    ) -> Self {
        Self {
            log,
            mysql,
            explainer: Explainer::new(Arc::clone(&core)),
            core,
            commander,
            reloader,
        }
    }
}

impl StatusSource for Source {
    fn status(&self) -> Status {
        // The scan takes longest and needs no lock.
        let scanner = self
            .core
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flows
            .clone();
        let flows = scanner.scan();
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = match &core.dataplane {
            Some(dataplane) => dataplane.tables.counters().unwrap_or_else(|error| {
                tracing::warn!("{error}");
                dataplane::CounterSums::default()
            }),
            None => dataplane::CounterSums::default(),
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            agent: status::Agent {
                pid: std::process::id(),
                uptime_seconds: seconds_since(core.started),
                config_file: core.config_file.display().to_string(),
                config_generation: core.generation,
                abi: ABI_VERSION,
            },
            interfaces: interfaces(&core),
            services: core
                .model
                .services
                .iter()
                .zip(&core.services)
                .map(|(service, state)| service_status(&core, service, state, &flows))
                .collect(),
            verdicts: counters.verdicts.into_iter().collect(),
            flow_tables: vec![
                flow_table(&core, FlowTable::Established, flows.established),
                flow_table(&core, FlowTable::HalfOpen, flows.half_open),
            ],
            events: counters.events.into_iter().collect(),
            app_host: core.app_host.as_ref().map(AppHost::status),
            mysql: self.mysql.as_deref().map(mysql::status),
            cluster: core.cluster.as_ref().map(Cluster::status),
            announced: core.announcer.status(),
        }
    }

    fn mysql(&self) -> Option<&Proxy> {
        self.mysql.as_deref().map(mysql::Running::proxy)
    }

    fn events(&self) -> Arc<EventLog> {
        Arc::clone(&self.log)
    }

    fn measures(&self) -> Measures {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        core.measures()
    }

    fn unready(&self) -> Option<String> {
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(dataplane) = &core.dataplane else {
            return Some("the agent is stopping".to_owned());
        };
        let attached = dataplane.attached();
        let missing = core.model.agent.interfaces.iter();
        let missing: Vec<&str> = missing
            .filter(|name| !attached.contains_key(*name))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Some(format!("steering is not attached to {missing}"));
        }
        core.is_catching_up()
            .then(|| "other balancers are still telling of their connections".to_owned())
    }

    fn flows(&self, query: &Query) -> Result<Box<dyn Pieces>, String> {
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Box::new(Lister::new(&core, query)?))
    }

    fn capture(&self, query: &capture::Query) -> Result<Box<dyn Pieces>, String> {
        Ok(Box::new(Capturing::begin(Arc::clone(&self.core), query)?))
    }

    fn change_primary(&self, change: NewPrimary, who: &str) -> Result<PrimaryChanged, Refusal> {
        mysql::change_primary(self.mysql.as_deref(), change, who)
    }

    fn act(&self, pattern: Pattern, act: Act, who: String) -> Result<Changes, Refusal> {
        self.commander.act(pattern, act, who)
    }

    fn reload(&self, wish: &ReloadWish, who: &str) -> Result<Reloaded, Refusal> {
        self.reloader.reload(wish, who)
    }

    fn firewall(&self) -> firewall::Document {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        core.firewall_document()
    }

    fn change_firewall(
        &self,
        wish: firewall::Wish,
        who: &str,
    ) -> Result<firewall::Changed, Refusal> {
        self.reloader.change_firewall(wish, who)
    }

    fn why(&self, query: &why::Query) -> Result<why::Answer, String> {
        self.explainer.explain(query)
    }
}

pub(super) fn seconds_since(then: Instant) -> f64 {
    (then.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

fn flow_table(core: &Core, table: FlowTable, entries: u64) -> status::FlowTable {
    status::FlowTable {
        name: match table {
            FlowTable::Established => "established",
            FlowTable::HalfOpen => "half_open",
        }
        .to_owned(),
        entries,
        capacity: core.flows.tables().capacity(table),
        expired: core.collected.expired(table),
    }
}

/// In the order of the config; one that is gone is not there.
fn interfaces(core: &Core) -> Vec<status::Interface> {
    let Some(dataplane) = &core.dataplane else {
        return Vec::new();
    };
    let attached = dataplane.attached();
    core.model
        .agent
        .interfaces
        .iter()
        .filter_map(|name| {
            attached.get(name).map(|attached| status::Interface {
                name: name.clone(),
                xdp_mode: attached.mode.word().to_owned(),
                program_id: attached.program_id,
            })
        })
        .collect()
}

fn service_status(
    core: &Core,
    service: &model::Service,
    state: &ServiceState,
    flows: &FlowCounts,
) -> status::Service {
    let mut sum = core.former_counters(&state.key);
    let mut active_flows = 0;
    let backends = service
        .backends
        .iter()
        .zip(&state.backends)
        .map(|(backend, backend_state)| {
            let id = core.backend_id(&state.key, backend);
            let counters = id
                .zip(core.dataplane.as_ref())
                .and_then(|(id, dataplane)| dataplane.tables.backend_counters(id).ok())
                .unwrap_or_default();
            let active = id.map_or(0, |id| flows.active(id));
            sum = dataplane::add(&sum, &counters);
            active_flows += active;
            backend_status(core, service, backend, backend_state, counters, active)
        })
        .collect();
    status::Service {
        name: service.name.clone(),
        address: service.address.to_string(),
        port: service.port,
        protocol: match service.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
        .to_owned(),
        scheduler: match service.scheduler {
            Scheduler::RoundRobin => "round-robin",
            Scheduler::LeastConnections => "least-connections",
            Scheduler::Maglev => "maglev",
            Scheduler::SourceHash => "source-hash",
        }
        .to_owned(),
        forwarding: match service.forwarding {
            Forwarding::Nat => "nat",
            Forwarding::FullNat => "full-nat",
            Forwarding::DsrL2 => "dsr-l2",
            Forwarding::DsrIpip => "dsr-ipip",
            Forwarding::DsrGue => "dsr-gue",
        }
        .to_owned(),
        connections: sum.connections,
        active_flows,
        packets: sum.packets,
        bytes: sum.bytes,
        firewall: service_firewall(core, service, state),
        backends,
    }
}

fn service_firewall(
    core: &Core,
    service: &model::Service,
    state: &ServiceState,
) -> Option<status::ServiceFirewall> {
    let lists = &service.firewall;
    let set = |action| lists.set.iter().filter(|(_, own)| *own == action).count();
    let id = core.service_id(&state.key).zip(core.dataplane.as_ref());
    let denied = id.and_then(|(id, dataplane)| dataplane.tables.denied(id).ok());
    lists.is_used().then(|| status::ServiceFirewall {
        deny: (lists.deny.all().count() + set(Action::Deny)) as u64,
        allow: (lists.allow.all().count() + set(Action::Allow)) as u64,
        allowed_only: lists.is_restricted(),
        denied: denied.unwrap_or_default(),
    })
}

fn backend_status(
    core: &Core,
    service: &model::Service,
    backend: &model::Backend,
    state: &BackendState,
    counters: BackendCounters,
    active_flows: u64,
) -> status::Backend {
    let address: IpAddr = backend.address;
    status::Backend {
        name: backend.name.clone(),
        address: address.to_string(),
        port: backend.port,
        weight: backend.weight,
        state: state.state.word().to_owned(),
        role: match backend.role {
            Role::Active => "active",
            Role::Backup => "backup",
        }
        .to_owned(),
        health: state.health.label().to_owned(),
        in_rotation: state.is_in_rotation,
        connections: counters.connections,
        active_flows,
        packets: counters.packets,
        bytes: counters.bytes,
        last_check: state.last_check.clone(),
        since_seconds: seconds_since(state.since),
        next_hop: core.next_hops.get(&address).map(|next_hop| match next_hop {
            NextHop::Local if plan::is_deaf(service, backend) => plan::deafness(service),
            NextHop::Local | NextHop::Resolved(_) | NextHop::Unresolved { .. } => {
                describe(next_hop)
            }
        }),
        reply_packets: counters.reply_packets,
        reply_bytes: counters.reply_bytes,
        check_seconds: core
            .check_times
            .of(&state.key)
            .map(|times| (times.last() * 1e6).round() / 1e6),
        certificate_expires: state.certificate_ends.and_then(|end| {
            let since = end.duration_since(SystemTime::UNIX_EPOCH);
            since.ok().map(|since| since.as_secs())
        }),
        replication_lag_seconds: state.lag,
        handshakes: service.passive.map(|_| status::Handshakes {
            accepted: counters.accepted,
            refused: counters.refused,
            unanswered: counters.unanswered,
        }),
    }
}
