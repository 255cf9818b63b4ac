//! The agent of a host that steers nothing: without services there are no tables to fill. It makes
//! its host an app host, routes MySQL sessions, or both.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use lb_common::{
    abi::ABI_VERSION,
    verdict::{Event, Verdict},
};
use lb_mysql::proxy::Proxy;
use sd_notify::NotifyState;
use tokio::{sync::mpsc, time::interval};

use super::{
    Error, Invocation, Signals, announcing,
    app_host::{AppHost, LOOK_EVERY},
    interfaces,
    manager::{Reloading, Watchdog},
    reload::{self, Difference},
    reloading,
    source::seconds_since,
};
use crate::{
    admin::{self, Pieces, StatusSource},
    config::{
        Loaded,
        model::{Model, OnExit},
    },
    control::{Fault, NewPrimary, PrimaryChanged, Refusal, ReloadWish, Reloaded},
    events::EventLog,
    flow_list::Query,
    metrics::{ConfigRead, Measures},
    mysql,
    next_hop::{self, Event as News, Resolver},
    status::{self, Status},
};

/// Runs until it is told to stop.
pub(super) async fn run(
    invocation: Invocation,
    model: &Model,
    log: Arc<EventLog>,
) -> Result<(), Error> {
    let signals = Signals::new()?;
    let mysql = model.mysql.as_ref().map(mysql::start).transpose()?;
    let mysql = mysql.map(Arc::new);
    let app_host = match &model.app_host {
        Some(config) => {
            let links = next_hop::links().await.map_err(Error::Netlink)?;
            interfaces::find(&config.interfaces, &links)?;
            Some(AppHost::alone(config, model)?)
        }
        None => None,
    };
    let was_there = app_host.as_ref().is_some_and(AppHost::was_there);
    let shared = Arc::new(Mutex::new(app_host));
    let source = Source {
        invocation,
        model: Mutex::new(model.clone()),
        config_read: Mutex::default(),
        generation: AtomicU64::new(1),
        started: Instant::now(),
        log,
        app_host: Arc::clone(&shared),
        mysql: mysql.clone(),
    };
    let result = course(model, signals, &shared, source).await;
    if let Some(mysql) = mysql {
        mysql.let_go();
    }
    if let Err(error) = &result
        && was_there
    {
        tracing::warn!("leaving the host as it is, because of: {error}");
    }
    let keeps = match &result {
        Ok(()) => model.agent.on_exit == OnExit::Keep,
        Err(_) => was_there,
    };
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let app_host = lock(&shared).take();
    let ended = app_host.map_or(Ok(()), |app_host| app_host.end(keeps));
    if let (Err(_), Err(second)) = (&result, &ended) {
        tracing::error!("{second}");
    }
    tracing::info!("stopped");
    result.and(ended)
}

/// From the first change to the request to stop.
async fn course(
    model: &Model,
    mut signals: Signals,
    shared: &Mutex<Option<AppHost>>,
    source: Source,
) -> Result<(), Error> {
    // Before anything that runs is changed.
    let mut server = admin::Server::new(&model.admin)?;
    let (sender, mut events) = mpsc::unbounded_channel();
    let _resolver = Resolver::start([], sender).map_err(Error::Netlink)?;
    let links = next_hop::links().await.map_err(Error::Netlink)?;
    if let Some(app_host) = &mut *lock(shared) {
        app_host.bring_up(&links)?;
        app_host.clear_steering()?;
    }
    announcing::clear(&model.agent.pin_path);
    let source = Arc::new(source);
    server.serve(Arc::<Source>::clone(&source))?;
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    tracing::info!(kind = "agent_ready", "ready");
    let mut look = interval(LOOK_EVERY);
    let mut watchdog = Watchdog::new();
    loop {
        tokio::select! {
            biased;
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.hangup.recv() => {
                let source = Arc::clone(&source);
                // What became of it is logged.
                tokio::task::spawn_blocking(move || drop(source.reload(&ReloadWish::default(), "SIGHUP")));
            }
            () = watchdog.due() => watchdog.sign(|| lock(shared)),
            _ = look.tick() => {
                if let Some(app_host) = &mut *lock(shared) {
                    app_host.keep_vips();
                }
            }
            Some(event) = events.recv() => {
                if let (News::Link { name, link }, Some(app_host)) = (event, &mut *lock(shared)) {
                    app_host.follow_link(&name, link.as_ref());
                }
            }
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What such an agent tells about itself.
struct Source {
    invocation: Invocation,
    /// What runs; held while another one is taken over.
    model: Mutex<Model>,
    /// How that went the last time.
    config_read: Mutex<ConfigRead>,
    /// Of the config.
    generation: AtomicU64,
    started: Instant,
    log: Arc<EventLog>,
    /// `None` once the agent has let go of it.
    app_host: Arc<Mutex<Option<AppHost>>>,
    mysql: Option<Arc<mysql::Running>>,
}

impl Source {
    /// All or nothing.
    fn take_over(&self, old: &mut Model, loaded: Loaded) -> Result<Reloaded, Refusal> {
        let Loaded {
            model: new,
            warnings,
        } = loaded;
        let Difference {
            mut needs_restart,
            changes,
        } = reload::difference(old, &new);
        if needs_restart.is_empty() && old.agent != new.agent {
            needs_restart.push("[agent] is another one, which takes a restart".to_owned());
        }
        if !new.services.is_empty() {
            needs_restart.push("there is something to steer now, which takes a restart".to_owned());
        }
        if !needs_restart.is_empty() {
            return Err(reloading::takes_restart(needs_restart));
        }
        if let (Some(running), Some(config)) = (&self.mysql, &new.mysql) {
            let prepared = running.prepare(config);
            running
                .change(prepared.map_err(|error| Refusal::new(Fault::Failed, error.to_string()))?);
        }
        *old = new;
        Ok(Reloaded {
            config_generation: self.generation.fetch_add(1, Ordering::Relaxed) + 1,
            changes,
            warnings: reloading::lines(warnings),
        })
    }
}

impl StatusSource for Source {
    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            agent: status::Agent {
                pid: std::process::id(),
                uptime_seconds: seconds_since(self.started),
                config_file: self.invocation.config_file.display().to_string(),
                config_generation: self.generation.load(Ordering::Relaxed),
                abi: ABI_VERSION,
            },
            interfaces: Vec::new(),
            services: Vec::new(),
            verdicts: Verdict::ALL
                .map(|one| (one.label(), 0))
                .into_iter()
                .collect(),
            flow_tables: Vec::new(),
            events: Event::ALL.map(|one| (one.label(), 0)).into_iter().collect(),
            app_host: lock(&self.app_host).as_ref().map(AppHost::status),
            mysql: self.mysql.as_deref().map(mysql::status),
            cluster: None,
            announced: Vec::new(),
        }
    }

    fn mysql(&self) -> Option<&Proxy> {
        self.mysql.as_deref().map(mysql::Running::proxy)
    }

    fn measures(&self) -> Measures {
        Measures {
            config: *lock(&self.config_read),
            ..Measures::default()
        }
    }

    fn events(&self) -> Arc<EventLog> {
        Arc::clone(&self.log)
    }

    fn change_primary(&self, change: NewPrimary, who: &str) -> Result<PrimaryChanged, Refusal> {
        mysql::change_primary(self.mysql.as_deref(), change, who)
    }

    fn flows(&self, _: &Query) -> Result<Box<dyn Pieces>, String> {
        Err("this agent has no services, so there are no flows".to_owned())
    }

    fn capture(&self, _: &crate::capture::Query) -> Result<Box<dyn Pieces>, String> {
        Err("this agent steers nothing: it has no interfaces".to_owned())
    }

    fn reload(&self, _: &ReloadWish, who: &str) -> Result<Reloaded, Refusal> {
        let mut model = lock(&self.model);
        let _told = Reloading::begin();
        let loaded = self.invocation.load_again();
        let done = loaded.and_then(|loaded| self.take_over(&mut model, loaded));
        let mut config_read = lock(&self.config_read);
        match &done {
            Ok(reloaded) => {
                *config_read = ConfigRead::default();
                reloading::tell(reloaded, who);
            }
            Err(refusal) => {
                config_read.refused();
                reloading::tell_refusal(refusal, who);
            }
        }
        done
    }

    fn why(&self, _: &crate::why::Query) -> Result<crate::why::Answer, String> {
        Err("this agent steers nothing: it has no interfaces".to_owned())
    }
}
