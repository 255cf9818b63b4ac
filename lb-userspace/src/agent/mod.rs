//! The agent: brings up the data path, keeps its tables right, and goes.
//!
//! [`plan`] says what the tables should hold, [`held`] what they hold, and [`reconcile`] what to
//! write to get from one to the other; none of them touches the kernel, which [`kernel`] does.
//! [`core`] brings them together, and this file is the course of events.

mod allocate;
mod alone;
mod announcing;
mod app_host;
mod capturing;
mod changing;
mod checking;
mod clustering;
mod collector;
mod command;
mod core;
mod discovering;
mod explainer;
mod firewall;
mod flow_lister;
mod following;
mod forwarding;
mod held;
mod interfaces;
mod kernel;
mod lane;
mod lane_care;
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
mod signals;
mod slow_start;
mod source;
mod source_flows;
mod starting;
mod state;
mod state_file;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lb_common::abi::{self, features};
use sd_notify::NotifyState;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};

pub use self::reloading::Invocation;
use self::{
    app_host::AppHost,
    collector::Collector,
    command::{Command, Commander},
    core::Core,
    discovering::{Discovered, Discovering},
    firewall::rules::Rules,
    lane_care::LaneCare,
    manager::Watchdog,
    reloading::{Reloader, Turn},
    signals::Signals,
    starting::sizes,
    state_file::Overrides,
};
use crate::{
    admin,
    check_lane::{self, Pair, STEERING_END},
    cluster,
    config::model::{Model, OnExit, OnNewLayout},
    dataplane::{self, Dataplane, Replace},
    discovery::{Discoverer, News},
    events::EventLog,
    health::{Monitor, Report},
    mysql,
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
    /// Other balancers.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// A lock-down that somebody would not get through.
    #[error("{0}; dry_run = true only counts, and `lb firewall apply --confirm 60` tries it")]
    LockedOut(String),
    /// The MySQL proxy.
    #[error(transparent)]
    Mysql(#[from] mysql::Error),
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
/// How long the end waits for threads that wait for the system.
const THREADS_WAIT: Duration = Duration::from_secs(1);
/// How often it is looked whether other balancers have told of everything.
const CATCHING_UP_EVERY: Duration = Duration::from_millis(100);
/// How often backends without a place in the config are looked at.
const LINGERING_EVERY: Duration = Duration::from_secs(5);
/// How often the data path's counters of handshakes are looked at.
const HANDSHAKES_EVERY: Duration = Duration::from_millis(500);
/// What is taken in at a time while the agent starts.
const BATCH: usize = 4096;
/// Check reports that may wait for the agent.
const REPORTS: usize = 1024;

/// Whom a config locks out of this host who is connected to it now, in a sentence.
#[must_use]
pub fn locked_out(model: &Model) -> Option<String> {
    firewall::locked_out(None, model, &firewall::plan::Rules::new())
}

/// Who of these a config's firewall denies, and by which prefix.
#[must_use]
pub fn denied(model: &Model, addresses: &[std::net::IpAddr]) -> Vec<(std::net::IpAddr, String)> {
    firewall::denied(model, addresses)
}

/// Runs the agent until it is told to stop. The log is what it tells of on request.
pub fn run(invocation: Invocation, model: Model, log: Arc<EventLog>) -> Result<(), Error> {
    // A host that only routes MySQL sessions needs no privilege.
    if model.loads_programs() {
        dataplane::check_privilege()?;
        privileges::settle(&invocation.config_file, &model)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("lb-agent")
        .enable_all()
        .build()
        .map_err(|source| Error::System {
            action: "start threads",
            source,
        })?;
    let ended = if model.steers() {
        runtime.block_on(run_async(invocation, model, log))
    } else {
        runtime.block_on(alone::run(invocation, &model, log))
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
    let proxy = model.mysql.as_ref().map(mysql::start).transpose()?;
    let proxy = proxy.map(Arc::new);
    let prepared = model.cluster.as_ref().map(cluster::Prepared::new);
    let prepared = prepared.transpose()?;
    let rules = Rules::load(&model.agent.state_file);
    rules.put_into(&mut model);
    let mut sizes = sizes(&model);
    if rules.has_of_host() {
        sizes.features |= features::FIREWALL;
    }
    let mut dataplane = Dataplane::open(&model.agent.pin_path, sizes, replace)?;
    let was_there = dataplane.taken_over;
    // Whoever came in while it was locked down already is fine.
    let is_locked = was_there && dataplane.tables.firewall().control().is_locked();
    let out = firewall::locked_out(None, &model, &rules.actions()).filter(|_| !is_locked);
    // Before anything that runs is changed.
    let beside = out
        .map_or(Ok(()), |out| Err(Error::LockedOut(out)))
        .and_then(|()| AppHost::beside(&dataplane, &model).map_err(Error::from))
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
    agent.mysql = proxy;
    agent.prepared = prepared;
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
    lane_care: LaneCare,
    /// Routes MySQL sessions, if the config says so.
    mysql: Option<Arc<mysql::Running>>,
    /// Ready to talk to other balancers, until it begins.
    prepared: Option<cluster::Prepared>,
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
            lane_care: LaneCare::default(),
            mysql: None,
            prepared: None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(&mut self, mut signals: Signals, retry: Option<Duration>) {
        let mut due = retry.map(|wait| Instant::now() + wait);
        let mut lingering = interval(LINGERING_EVERY);
        let mut look = interval(app_host::LOOK_EVERY);
        let mut handshakes = interval(HANDSHAKES_EVERY);
        handshakes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut catching_up = interval(CATCHING_UP_EVERY);
        let mut is_catching_up = self.lock().is_catching_up();
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
                () = sleep_until(self.lane_care.due()), if self.lane_care.is_due() => {
                    if self.care_for_lane().await {
                        hasten(&mut due);
                    }
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
                _ = catching_up.tick(), if is_catching_up => {
                    let mut core = self.lock();
                    is_catching_up = core.is_catching_up();
                    core.begin_announcing();
                }
                _ = look.tick() => {
                    let mut core = self.lock();
                    if let Some(app_host) = &mut core.app_host {
                        app_host.keep_vips();
                    }
                    core.announce(true);
                }
                _ = handshakes.tick() => {
                    if self.lock().expire_firewall() {
                        hasten(&mut due);
                    }
                    if self.is_lane_doubted() {
                        self.lane_care.begin();
                    }
                    let (is_changed, doubted) = self.lock().look_at_handshakes();
                    for key in &doubted {
                        self.monitor.check_now(key);
                    }
                    if is_changed {
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

    /// Stops answering, and removes the data path or leaves it forwarding.
    async fn end(self, keeps_data_path: bool) -> Result<(), Error> {
        let Self {
            core,
            resolver,
            monitor,
            server,
            collector,
            pair,
            mysql,
            ..
        } = self;
        if let Some(mysql) = &mysql {
            mysql.let_go();
        }
        let announcer = {
            let mut core = core.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut core.announcer)
        };
        if !keeps_data_path && announcer.end() {
            // Steering goes on meanwhile.
            tokio::time::sleep(announcing::ROUTERS_WAIT).await;
        }
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
            core.cluster = None;
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

/// Has something done soon, and not later than it would have been.
fn hasten(due: &mut Option<Instant>) {
    let soon = Instant::now() + DEBOUNCE;
    *due = Some(due.map_or(soon, |due| due.min(soon)));
}
