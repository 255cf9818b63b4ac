//! The start: what has to be known and to stand before the agent is ready.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use lb_common::abi::{ABI_VERSION, features};
use sd_notify::NotifyState;
use tokio::time::{Instant, sleep_until};

use super::{
    Agent, BATCH, Error, app_host,
    collector::{Chore, Collector, FlowWatcher},
    core::Core,
    forwarding, hasten, interfaces,
    loads::LoadKeeper,
    memory,
    ports::PortKeeper,
    signals::Signals,
    source::Source,
    source_flows::SourceKeeper,
};
use crate::{
    admin::StatusSource,
    check_lane::STEERING_END,
    config::model::{CheckKind, Model, Service},
    dataplane::{Moved, Sizes},
    events::EventLog,
    next_hop::{self, Link},
};

/// How often the counts of half-open flows are corrected by what stands in the table.
const CORRECT_HALF_OPEN_EVERY: Duration = Duration::from_secs(1);

/// How long the start waits for next hops.
const WAYS_WAIT: Duration = Duration::from_millis(1500);
/// How long the start waits for first checks, at most.
const CHECKS_WAIT: Duration = Duration::from_secs(3);

impl Agent {
    /// From the first look around to the end.
    pub(super) async fn start(
        &mut self,
        mut signals: Signals,
        log: Arc<EventLog>,
    ) -> Result<(), Error> {
        let source: Arc<dyn StatusSource> = Arc::new(Source::new(
            Arc::clone(&self.core),
            self.commander.clone(),
            self.reloader(),
            log,
            self.mysql.clone(),
        ));
        self.server.begin(&source)?;
        tokio::select! {
            () = self.learn() => {}
            () = signals.stop() => return Ok(()),
        }
        self.make_pair().await?;
        // Anew, because much may have changed; from now on events tell.
        let links = next_hop::links().await.map_err(Error::Netlink)?;
        let mut retry = self.bring_up(links)?;
        if self.lock().lane.is_some() {
            self.check_anew();
            tokio::select! {
                () = self.learn() => {}
                () = signals.stop() => return Ok(()),
            }
            // Also what learning had to leave to a later moment.
            retry = self.lock().reconcile();
        }
        self.collector = Some(self.collect()?);
        if let Some(prepared) = self.prepared.take() {
            self.lock().join_cluster(prepared)?;
        }
        self.lock().begin_announcing();
        // Also those that linger since.
        self.follow_ways();
        self.server.serve(source)?;
        // Without systemd there is nobody to tell.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        tracing::info!(kind = "agent_ready", "ready");
        memory::trim();
        self.work(signals, retry).await;
        Ok(())
    }

    /// Begins to take expired flows out of the tables, until what is returned is dropped.
    pub(super) fn collect(&self) -> Result<Collector, Error> {
        let core = self.lock();
        let (tables, collected) = (core.flows.tables().clone(), Arc::clone(&core.collected));
        let mut watchers: Vec<Box<dyn FlowWatcher>> = Vec::new();
        let mut chores: Vec<Chore> = Vec::new();
        if let Some(dataplane) = &core.dataplane {
            let settings = *dataplane.tables.settings();
            if settings.features & features::FULL_NAT != 0 {
                let (words, owners) = dataplane.tables.ports();
                watchers.push(Box::new(PortKeeper::new(words, owners)));
            }
            if settings.features & features::LEAST_CONNECTIONS != 0 {
                let mut loads = LoadKeeper::new(core.flows.clone(), dataplane.tables.loads());
                chores.push(Box::new(move || loads.tend()));
            }
            if settings.features & features::FLOW_LIMIT != 0 {
                let words = dataplane.tables.source_words();
                let mut sources = SourceKeeper::new(tables.clone(), words, settings.hash_seed);
                chores.push(Box::new(move || sources.tend()));
            }
            if settings.features & features::SYN_COOKIES != 0 {
                let counts = dataplane.tables.half_open_counts();
                let mut due = Instant::now();
                chores.push(Box::new(move || {
                    if Instant::now() >= due {
                        counts.correct();
                        due = Instant::now() + CORRECT_HALF_OPEN_EVERY;
                    }
                }));
            }
        }
        let ward = core.ward.clone();
        Collector::start(tables, collected, watchers, (chores, ward)).map_err(|source| {
            Error::System {
                action: "start a thread",
                source,
            }
        })
    }

    /// Fills the tables and attaches. Returns when to reconcile again, if that is needed.
    fn bring_up(&mut self, links: Vec<Link>) -> Result<Option<Duration>, Error> {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let steered = interfaces::steered(&core.model);
        let attached = interfaces::find(&steered, &links)?;
        let described = interfaces::descriptions(&steered, &links);
        core.client_mtu = interfaces::smallest_mtu(&described, &links);
        core.check_room()?;
        // Before services ask for their lists.
        core.apply_firewall()?;
        let retry = core.fill()?;
        let Core {
            dataplane: Some(dataplane),
            app_host,
            model,
            ..
        } = &mut *core
        else {
            return Ok(None);
        };
        match app_host {
            Some(app_host) => app_host.bring_up(&links)?,
            None => app_host::clear(dataplane, model)?,
        }
        self.described = described;
        self.links = links;
        dataplane.tables.set_interfaces(&self.described)?;
        dataplane.tables.mark_filled()?;
        dataplane.copy_flows()?;
        // A new one has taken its place.
        dataplane.forget(STEERING_END)?;
        for link in &attached {
            interfaces::attach(dataplane, &model.agent, link)?;
        }
        self.is_attached = true;
        for name in dataplane.detach_others(&steered)? {
            tracing::info!("detached from {name}, which the config does not name");
        }
        if let Some(moved) = dataplane.finish_replacing()? {
            tell_moved(&moved);
        }
        core.open_lane(&self.links, &self.monitor)?;
        Ok(retry)
    }

    /// Waits a little for next hops and first checks, so that the data path begins with backends
    /// in rotation. Where it steers already, it follows what is learnt at once.
    async fn learn(&mut self) {
        let start = Instant::now();
        let checks_wait = self
            .lock()
            .model
            .services
            .iter()
            .filter(|service| service.health_check.kind != CheckKind::None)
            .map(|service| service.health_check.timeout + Duration::from_millis(100))
            .max()
            .unwrap_or_default()
            .min(CHECKS_WAIT);
        let checks_end = start + checks_wait;
        let ways_end = start + WAYS_WAIT;
        let mut due: Option<Instant> = None;
        loop {
            let now = Instant::now();
            {
                let core = self.lock();
                let is_enough = core.is_complete()
                    || (now >= ways_end && now >= checks_end)
                    || (now >= checks_end && core.are_ways_known());
                if is_enough {
                    return;
                }
            }
            let end = if now < checks_end {
                checks_end
            } else {
                ways_end
            };
            let end = if now < ways_end {
                end.min(ways_end)
            } else {
                end
            };
            let (mut events, mut reports) = (Vec::new(), Vec::new());
            tokio::select! {
                () = sleep_until(due.unwrap_or(end)), if due.is_some() => {
                    due = self.lock().reconcile().map(|wait| Instant::now() + wait);
                }
                1.. = self.events.recv_many(&mut events, BATCH) => {}
                1.. = self.reports.recv_many(&mut reports, BATCH) => {}
                () = sleep_until(end) => {}
            }
            let mut is_changed = self.note_reports(&mut reports);
            for event in events {
                is_changed |= self.note_event(event);
            }
            if is_changed && self.is_attached {
                hasten(&mut due);
            }
        }
    }
}

/// How large tables have to be.
pub(super) fn sizes(model: &Model) -> Sizes {
    let backends: usize = model
        .services
        .iter()
        .map(|service| service.backends.len())
        .sum();
    let more = to_come(model);
    let sizes = Sizes::with_headroom(
        model.limits.flows,
        model.limits.half_open_flows,
        // One more entry for each address.
        model.services.len() * 2,
        backends + more,
        model
            .services
            .iter()
            .map(forwarding::most_slots)
            .sum::<usize>()
            + more,
    );
    Sizes {
        features: forwarding::features(model),
        sources: forwarding::source_addresses(&model.services).len() as u32,
        affinity: model.limits.affinity_entries,
        fragments: model.limits.fragments,
        ..sizes
    }
}

/// Backends that may yet be discovered, as far as room is kept for them.
fn to_come(model: &Model) -> usize {
    const MOST: usize = 16_384;
    let missing = |service: &Service| {
        let most = service.discovery.as_ref()?.most as usize;
        Some(most.saturating_sub(service.backends.len()))
    };
    let all: usize = model.services.iter().filter_map(missing).sum();
    all.min(MOST)
}

/// Says what an upgrade or a resize of tables cost.
fn tell_moved(moved: &Moved) {
    let Moved {
        found,
        kept,
        lost_connections,
        lost_datagrams,
        took,
    } = moved;
    match lost_connections {
        Some(lost) => tracing::warn!(
            "the tables, of layout version {found}, were replaced by new ones, of version \
             {ABI_VERSION}: {kept} live flows were copied, {lost} TCP connections are lost, \
             {lost_datagrams} flows of UDP begin anew; connections that began within {} ms may \
             have been reset, and counters begin at 0",
            took.as_millis()
        ),
        None => tracing::warn!(
            "the tables, of layout version {found}, which this lb cannot read, were replaced by \
             new ones, of version {ABI_VERSION}: all live connections are lost"
        ),
    }
}
