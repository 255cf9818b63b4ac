//! The agent: brings up the data path, keeps its tables right, and goes.
//!
//! [`plan`] says what the tables should hold, [`held`] what they hold, and [`reconcile`] what to
//! write to get from one to the other; none of them touches the kernel, which [`kernel`] does.
//! [`core`] brings them together, and this file is the course of events.

mod allocate;
mod alone;
mod app_host;
mod capturing;
mod changing;
mod collector;
mod command;
mod core;
mod discovering;
mod explainer;
mod flow_lister;
mod forwarding;
mod held;
mod interfaces;
mod kernel;
mod lane;
mod loads;
mod manager;
mod memory;
mod names;
mod overrides;
mod passive;
mod plan;
mod ports;
mod privileges;
mod reconcile;
mod reload;
mod reloading;
mod retired;
mod rotation;
mod slow_start;
mod source;
mod state;
mod state_file;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lb_common::abi::{self, ABI_VERSION, features};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};

pub use self::reloading::Invocation;
use self::{
    app_host::AppHost,
    collector::{Collector, FlowWatcher},
    command::{Command, Commander},
    core::Core,
    discovering::{Discovered, Discovering},
    loads::LoadKeeper,
    manager::Watchdog,
    ports::PortKeeper,
    reloading::{Reloader, Turn},
    source::Source,
    state_file::Overrides,
};
use crate::{
    admin::{self, StatusSource},
    check_lane::{self, Pair, STEERING_END},
    config::model::{CheckKind, Model, OnExit, OnNewLayout, Service},
    dataplane::{self, Dataplane, Moved, Replace, Sizes},
    discovery::{Discoverer, News},
    events::EventLog,
    health::{Monitor, Report},
    next_hop::{self, Event, Link, Resolver},
};

/// Why the agent could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data plane.
    #[error(transparent)]
    Dataplane(#[from] dataplane::Error),
    /// The host itself, where it is an app host.
    #[error(transparent)]
    AppHost(#[from] crate::app_host::Error),
    /// Users and capabilities.
    #[error(transparent)]
    Privileges(#[from] privileges::Error),
    /// The way of checks through services.
    #[error(transparent)]
    CheckLane(#[from] check_lane::Error),
    /// The admin socket.
    #[error(transparent)]
    Admin(#[from] admin::Error),
    /// The routing socket.
    #[error("cannot follow interfaces and routes (rtnetlink): {0}")]
    Netlink(#[source] io::Error),
    /// Threads, signals.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

pub use privileges::prepare;

/// How long changes are gathered before they are written.
const DEBOUNCE: Duration = Duration::from_millis(4);
/// How long the start waits for next hops.
const WAYS_WAIT: Duration = Duration::from_millis(1500);
/// How long the start waits for first checks, at most.
const CHECKS_WAIT: Duration = Duration::from_secs(3);
/// How long the end waits for threads that wait for the system.
const THREADS_WAIT: Duration = Duration::from_secs(1);
/// How often backends without a place in the config are looked at.
const LINGERING_EVERY: Duration = Duration::from_secs(5);
/// How often the data path's counters of handshakes are looked at.
const HANDSHAKES_EVERY: Duration = Duration::from_millis(500);
/// What is taken in at a time while the agent starts.
const BATCH: usize = 4096;
/// Check reports that may wait for the agent.
const REPORTS: usize = 1024;

/// Runs the agent until it is told to stop. The log is what it tells of on request.
pub fn run(invocation: Invocation, model: Model, log: Arc<EventLog>) -> Result<(), Error> {
    dataplane::check_privilege()?;
    privileges::settle(&invocation.config_file, &model)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("lb-agent")
        .enable_all()
        .build()
        .map_err(|source| Error::System {
            action: "start threads",
            source,
        })?;
    let steers = !model.services.is_empty() || !model.agent.interfaces.is_empty();
    let ended = match &model.app_host {
        Some(app_host) if !steers => {
            runtime.block_on(alone::run(&invocation.config_file, &model, app_host, log))
        }
        _ => runtime.block_on(run_async(invocation, model, log)),
    };
    // A thread that reads a file of a server that is gone, say, would be waited for for ever.
    runtime.shutdown_timeout(THREADS_WAIT);
    ended
}

async fn run_async(invocation: Invocation, model: Model, log: Arc<EventLog>) -> Result<(), Error> {
    let signals = Signals::new()?;
    let links = next_hop::links().await.map_err(Error::Netlink)?;
    interfaces::find(&model.agent.interfaces, &links)?;
    if let Some(app_host) = &model.app_host {
        interfaces::find(&app_host.interfaces, &links)?;
    }
    let (discovering, mut model) = Discovering::begin(model).await;
    let mut overrides = state_file::load(&model.agent.state_file);
    for line in overrides::apply(&mut model, &mut overrides) {
        tracing::info!("{line}");
    }
    let replace = match (invocation.replace_tables, model.agent.on_new_layout) {
        (true, _) => Replace::Always,
        (false, OnNewLayout::Replace) => Replace::OtherLayout,
        (false, OnNewLayout::Refuse) => Replace::Never,
    };
    let dataplane = Dataplane::open(&model.agent.pin_path, sizes(&model), replace)?;
    let was_there = dataplane.taken_over;
    // Before anything that runs is changed.
    let beside = AppHost::beside(&dataplane, &model)
        .map_err(Error::from)
        .and_then(|app_host| Ok((app_host, admin::Server::new(&model.admin)?)));
    let (app_host, server) = match beside {
        Ok(both) => both,
        Err(error) => {
            if was_there {
                dataplane.close();
            } else if let Err(error) = dataplane.detach() {
                tracing::error!("{error}");
            }
            return Err(error);
        }
    };
    let mut agent = Agent::begin(
        invocation,
        (model, overrides, discovering),
        dataplane,
        app_host,
        server,
    )?;
    let result = agent.start(signals, log).await;
    if let Err(error) = &result
        && was_there
    {
        tracing::warn!("leaving the data path as it is, because of: {error}");
    }
    let keeps = match &result {
        Ok(()) => agent.lock().model.agent.on_exit == OnExit::Keep,
        Err(_) => was_there,
    };
    let ended = agent.end(keeps).await;
    if let (Err(_), Err(second)) = (&result, &ended) {
        tracing::error!("{second}");
    }
    result.and(ended)
}

fn sizes(model: &Model) -> Sizes {
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

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen = |kind| {
            signal(kind).map_err(|source| Error::System {
                action: "listen for signals",
                source,
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

impl Signals {
    /// Waits until the agent is told to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The agent at work.
struct Agent {
    core: Arc<Mutex<Core>>,
    /// All there are, from the attachment on.
    links: Vec<Link>,
    /// What the data path was told of them.
    described: Vec<(u32, abi::Interface)>,
    is_attached: bool,
    resolver: Resolver,
    events: mpsc::UnboundedReceiver<Event>,
    monitor: Monitor,
    reports: mpsc::Receiver<Report>,
    server: admin::Server,
    commands: mpsc::Receiver<Command>,
    commander: Commander,
    /// Of reloads.
    turn: Arc<Turn>,
    invocation: Invocation,
    /// Takes expired flows out of the tables.
    collector: Option<Collector>,
    discovered: Discovered,
    discoverer: Discoverer,
    news: mpsc::Receiver<News>,
    /// What checks through services take, while there are some.
    pair: Option<Pair>,
}

impl Agent {
    fn begin(
        invocation: Invocation,
        (model, overrides, discovering): (Model, Overrides, Discovering),
        dataplane: Dataplane,
        app_host: Option<AppHost>,
        server: admin::Server,
    ) -> Result<Self, Error> {
        let config_file = invocation.config_file.clone();
        let core = Core::new(config_file, (model, overrides), dataplane, app_host)?;
        let (event_sender, events) = mpsc::unbounded_channel();
        let resolver = Resolver::start(core.addresses(), event_sender).map_err(Error::Netlink)?;
        let (report_sender, reports) = mpsc::channel(REPORTS);
        let monitor = Monitor::start(core.check_targets(), report_sender);
        let core = Arc::new(Mutex::new(core));
        let (commander, commands) = command::channel();
        let Discovering {
            discovered,
            discoverer,
            news,
        } = discovering;
        Ok(Self {
            core,
            links: Vec::new(),
            described: Vec::new(),
            is_attached: false,
            resolver,
            events,
            monitor,
            reports,
            server,
            commands,
            commander,
            turn: Arc::default(),
            invocation,
            collector: None,
            discovered,
            discoverer,
            news,
            pair: None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the first look around to the end.
    async fn start(&mut self, mut signals: Signals, log: Arc<EventLog>) -> Result<(), Error> {
        let source: Arc<dyn StatusSource> = Arc::new(Source::new(
            Arc::clone(&self.core),
            self.commander.clone(),
            self.reloader(),
            log,
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
            retry = self.lock().reconcile();
        }
        self.collector = Some(self.collect()?);
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
    fn collect(&self) -> Result<Collector, Error> {
        let core = self.lock();
        let (tables, collected) = (core.flows.tables().clone(), Arc::clone(&core.collected));
        let mut watchers: Vec<Box<dyn FlowWatcher>> = Vec::new();
        let mut loads = None;
        if let Some(dataplane) = &core.dataplane {
            let settings = *dataplane.tables.settings();
            if settings.features & features::FULL_NAT != 0 {
                let (words, owners) = dataplane.tables.ports();
                watchers.push(Box::new(PortKeeper::new(words, owners)));
            }
            if settings.features & features::LEAST_CONNECTIONS != 0 {
                loads = Some(LoadKeeper::new(
                    core.flows.clone(),
                    dataplane.tables.loads(),
                ));
            }
        }
        Collector::start(tables, collected, watchers, loads).map_err(|source| Error::System {
            action: "start a thread",
            source,
        })
    }

    /// Fills the tables and attaches. Returns when to reconcile again, if that is needed.
    fn bring_up(&mut self, links: Vec<Link>) -> Result<Option<Duration>, Error> {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let steered = interfaces::steered(&core.model);
        let attached = interfaces::find(&steered, &links)?;
        let described = interfaces::descriptions(&steered, &links);
        core.client_mtu = interfaces::smallest_mtu(&described, &links);
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
    /// in rotation.
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
                1.. = self.events.recv_many(&mut events, BATCH) => {}
                1.. = self.reports.recv_many(&mut reports, BATCH) => {}
                () = sleep_until(end) => {}
            }
            for event in events {
                self.note_event(event);
            }
            self.note_reports(&mut reports);
        }
    }

    async fn work(&mut self, mut signals: Signals, retry: Option<Duration>) {
        let mut due = retry.map(|wait| Instant::now() + wait);
        let mut lingering = interval(LINGERING_EVERY);
        let mut look = interval(app_host::LOOK_EVERY);
        let mut handshakes = interval(HANDSHAKES_EVERY);
        handshakes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog = Watchdog::new();
        let (mut events, mut reports) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                biased;
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
                _ = signals.hangup.recv() => self.reload_from_file(),
                () = watchdog.due() => watchdog.sign(|| self.lock()),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = self.lock().reconcile().map(|wait| Instant::now() + wait);
                }
                // Before commands, which take their time: whoever gives one after the other must
                // not keep the agent from seeing that a server is down.
                1.. = self.reports.recv_many(&mut reports, BATCH) => {
                    if self.note_reports(&mut reports) {
                        hasten(&mut due);
                    }
                }
                1.. = self.events.recv_many(&mut events, BATCH) => {
                    for event in events.drain(..) {
                        if self.note_event(event) {
                            hasten(&mut due);
                        }
                    }
                }
                Some(news) = self.news.recv() => {
                    if self.note_discovered(news) {
                        hasten(&mut due);
                    }
                }
                Some(command) = self.commands.recv() => {
                    let wait = self.obey(command).await;
                    due = wait.map(|wait| Instant::now() + wait);
                }
                _ = look.tick() => {
                    if let Some(app_host) = &mut self.lock().app_host {
                        app_host.keep_vips();
                    }
                }
                _ = handshakes.tick() => {
                    if self.lock().look_at_handshakes() {
                        hasten(&mut due);
                    }
                }
                _ = lingering.tick() => {
                    self.discovered.save_again();
                    self.lock().save_again();
                    if self.lock().expire_lingering() {
                        self.follow_ways();
                        hasten(&mut due);
                    }
                }
            }
        }
    }

    fn reloader(&self) -> Reloader {
        let (commander, core) = (self.commander.clone(), Arc::clone(&self.core));
        Reloader::new(
            self.invocation.clone(),
            commander,
            core,
            Arc::clone(&self.turn),
        )
    }

    /// Begins to reload the config file; a command follows when it is read.
    fn reload_from_file(&self) {
        if self.turn.awaits_signal() {
            // It has not read the file yet.
            return;
        }
        let reloader = self.reloader();
        // What became of it is logged.
        tokio::task::spawn_blocking(move || drop(reloader.reload_by_signal()));
    }

    /// Takes in what checks gave, and says whether the tables may have to change.
    fn note_reports(&mut self, reports: &mut Vec<Report>) -> bool {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = false;
        for report in reports.drain(..) {
            if !self.monitor.is_current(&report) {
                continue;
            }
            if let Some(address) = core.silent_address(&report) {
                self.resolver.verify(address);
            }
            changes |= core.note_report(report);
        }
        changes
    }

    /// Has the ways to all backends followed, and no others.
    fn follow_ways(&self) {
        let addresses = {
            let mut core = self.lock();
            let addresses = core.addresses();
            core.next_hops
                .retain(|address, _| addresses.contains(address));
            addresses
        };
        self.resolver.set_addresses(addresses);
    }

    /// Takes in an event, and says whether the tables of backends may have to change.
    fn note_event(&mut self, event: Event) -> bool {
        match event {
            Event::NextHop { address, next_hop } => {
                self.lock().note_next_hop(address, next_hop);
                true
            }
            Event::Link { name, link } => {
                // Before that they are read anew.
                self.is_attached && self.follow_link(&name, link)
            }
        }
    }

    /// Follows the interfaces that steering attaches to, and those below them. Says whether the
    /// tables of backends may have to change.
    fn follow_link(&mut self, name: &str, link: Option<Link>) -> bool {
        self.links.retain(|known| known.name != name);
        self.links.extend(link.clone());
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let Core {
            dataplane: Some(dataplane),
            app_host,
            model,
            client_mtu,
            ..
        } = &mut *core
        else {
            return false;
        };
        if let Some(app_host) = app_host {
            app_host.follow_link(name, link.as_ref());
        }
        let steered = interfaces::steered(model);
        let described = interfaces::descriptions(&steered, &self.links);
        let mtu = interfaces::smallest_mtu(&described, &self.links);
        let is_mtu_new = std::mem::replace(client_mtu, mtu) != mtu;
        if described != self.described {
            match dataplane.tables.set_interfaces(&described) {
                Ok(()) => self.described = described,
                Err(error) => tracing::error!("{error}"),
            }
        }
        let attached = dataplane
            .attached()
            .get(name)
            .map(|attached| attached.ifindex);
        let result = match (attached, link) {
            // The agent's own; what it does there itself is told late.
            _ if name == STEERING_END => Ok(()),
            (Some(ifindex), Some(link)) if ifindex == link.ifindex => Ok(()),
            (Some(_), None) => {
                tracing::warn!(
                    kind = "interface_gone",
                    "{name} is gone; nothing is steered there until it comes back"
                );
                dataplane.forget(name)
            }
            (_, Some(link)) if model.agent.interfaces.iter().any(|ours| ours == name) => {
                tracing::info!(kind = "interface_back", "{name} is back");
                interfaces::attach(dataplane, &model.agent, &link)
            }
            // Never attached.
            _ => Ok(()),
        };
        if let Err(error) = result {
            tracing::error!("{error}");
        }
        is_mtu_new
    }

    /// Stops answering, and removes the data path or leaves it forwarding.
    async fn end(self, keeps_data_path: bool) -> Result<(), Error> {
        let Self {
            core,
            resolver,
            monitor,
            server,
            collector,
            pair,
            ..
        } = self;
        // Without systemd there is nobody to tell.
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        drop(server);
        drop(collector);
        monitor.stop();
        if let Some(pair) = pair
            && let Err(error) = pair.remove().await
        {
            tracing::error!("{error}");
        }
        let (dataplane, app_host, is_capturing) = {
            let mut core = core.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = core.close_lane() {
                tracing::error!("{error}");
            }
            let is_capturing = core.is_capturing;
            (core.dataplane.take(), core.app_host.take(), is_capturing)
        };
        let ended = app_host.map_or(Ok(()), |app_host| app_host.end(keeps_data_path));
        let Some(mut dataplane) = dataplane else {
            return ended;
        };
        if keeps_data_path {
            if let Err(error) = dataplane.forget(STEERING_END) {
                tracing::warn!("{error}");
            }
            if is_capturing && let Err(error) = dataplane.swap_back() {
                tracing::warn!("{error}; the capturing program stays, which steers and is slower");
            }
            dataplane.close();
            tracing::info!("stopped; the data path goes on forwarding");
            return ended;
        }
        let detached = dataplane.detach()?;
        // The kernel answers at once; waiting longer would help nobody.
        let _ = timeout_at(Instant::now() + Duration::from_secs(1), resolver.release()).await;
        match detached.links.as_slice() {
            [] => tracing::info!("stopped"),
            links => tracing::info!("stopped; detached from {}", links.join(", ")),
        }
        ended
    }
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

/// Has something done soon, and not later than it would have been.
fn hasten(due: &mut Option<Instant>) {
    let soon = Instant::now() + DEBOUNCE;
    *due = Some(due.map_or(soon, |due| due.min(soon)));
}
