//! The proxy: clients come in, are logged in at a server, and each statement goes where it belongs.
//!
//! One thread watches the servers ([`watch`]) and lets clients in ([`listen`]); the others are
//! workers ([`worker`]), each with sessions ([`session`]) and idle connections ([`pool`]) of its own,
//! so that a statement takes no lock.

mod account;
mod ask;
mod budget;
mod commands;
mod connect;
mod connection;
mod driver;
mod driver_lease;
mod execute;
mod follow;
mod gate;
mod incoming;
mod keepalive;
mod kill;
mod lease;
mod least;
mod limits;
mod listen;
mod logging_in;
mod login;
mod moving;
mod obtain;
mod peer;
mod place;
mod pool;
mod prepared;
mod proxy_protocol;
mod query;
mod readers;
mod relay;
mod rewound;
mod routines;
mod session;
mod sessions;
mod settings;
mod shared;
mod slow;
mod status;
mod stream;
mod tracked;
mod trouble;
mod untold;
mod view;
mod watch;
mod worker;

pub use driver::{Kind, Outcome, Wish};
pub use lease::{Later, Lease};
pub use limits::UserStatus;
pub use listen::Error;
pub use sessions::SessionStatus;
pub use settings::{
    Automatic, Consistency, Failover, Monitor, Network, ReadScheduler, Reads, Role, Server,
    Settings, Tls, User,
};
pub use slow::SLOW;
pub use status::{Durations, ServerStatus, Status};
pub use trouble::Trouble;

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot},
    task::LocalSet,
};

use self::shared::Shared;
use crate::digest::Report;

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// Why the proxy does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] Error),
    /// There are no threads.
    #[error("cannot start threads: {0}")]
    Threads(#[from] io::Error),
}

/// The proxy does nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the MySQL proxy is about to end")]
pub struct Ended;

impl Proxy {
    /// Starts one. When this returns, clients can come in; they are served as soon as a server was
    /// reached.
    ///
    /// # Errors
    /// When it cannot listen where it should.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let workers = match settings.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let (wishes, wished) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(settings, workers, wishes));
        let mut threads = Vec::new();
        let mut senders = Vec::new();
        let mut askers = Vec::new();
        for index in 0..workers {
            let (sender, arrivals) = mpsc::unbounded_channel();
            senders.push(sender);
            let (asker, questions) = mpsc::unbounded_channel();
            askers.push(asker);
            let runtime = runtime()?;
            let shared = Arc::clone(&shared);
            let name = format!("lb-mysql-{index}");
            threads.push(thread::Builder::new().name(name).spawn(move || {
                let local = LocalSet::new();
                local.block_on(&runtime, worker::run(shared, index, arrivals, questions));
            })?);
        }
        // There are none yet.
        let _ = shared.askers.set(askers);
        let runtime = runtime()?;
        let doors = {
            let _within = runtime.enter();
            let tcp = shared
                .settings
                .listen
                .iter()
                .map(|address| listen::tcp(*address));
            let unix = shared
                .settings
                .unix_socket
                .iter()
                .map(|path| listen::unix(path));
            tcp.chain(unix).collect::<Result<Vec<_>, _>>()
        };
        let doors = match doors {
            Ok(doors) => doors,
            Err(error) => {
                // To drop it would wait, which nobody may who is in a runtime himself.
                runtime.shutdown_background();
                return Err(error.into());
            }
        };
        let (stop, stopped) = oneshot::channel();
        let watched = Arc::clone(&shared);
        let name = "lb-mysql".to_owned();
        threads.push(thread::Builder::new().name(name).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async {
                for door in doors {
                    let accepted = listen::accept(door, Arc::clone(&watched), senders.clone());
                    tokio::task::spawn_local(accepted);
                }
                drop(senders);
                tokio::task::spawn_local(driver::drive(Arc::clone(&watched), wished));
                let stopped = async {
                    let _ = stopped.await;
                    driver::finished(&watched).await;
                };
                tokio::select! {
                    () = watch::watch(Arc::clone(&watched)) => {}
                    () = stopped => {}
                }
            });
        })?);
        Ok(Self {
            shared,
            stop: Some(stop),
            threads,
        })
    }
}

impl Proxy {
    /// Goes on with other settings. What can change is: who gets in (`max_connections`, `learns`,
    /// `users`, `proxy_protocol`), TLS of both sides, who gets reads (`reads`, `read_scheduler`,
    /// `max_lag`, weights), `consistency`, its timeout and `primary_wait`; all else stays as it was at the start, and the
    /// servers have to be the same, in the same order. Sessions go on.
    pub fn change(&self, settings: Settings) {
        debug_assert!(
            settings.servers.len() == self.shared.settings.servers.len(),
            "other servers"
        );
        self.shared.change(settings);
    }

    /// What it does at the moment.
    #[must_use]
    pub fn status(&self) -> Status {
        status::status(&self.shared)
    }

    /// Makes another server the primary, and returns when that is done or given up. On a thread
    /// where waiting is allowed.
    ///
    /// # Errors
    /// When the proxy is about to end.
    pub fn change_primary(&self, wish: Wish) -> Result<Outcome, Ended> {
        let (tell, told) = oneshot::channel();
        let sent = self.shared.wishes.send((wish, tell));
        sent.map_err(|_| Ended)?;
        told.blocking_recv().map_err(|_| Ended)
    }

    /// Clients' sessions, in the order of their numbers.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionStatus> {
        let servers = self.shared.settings.servers.iter();
        let names: Vec<Box<str>> = servers.map(|server| (*server.name).into()).collect();
        self.shared.sessions.list(&names)
    }

    /// The kinds of statements that there were; none if they are not counted. May wait a moment for
    /// the threads that count them.
    #[must_use]
    pub fn digests(&self) -> Option<Report> {
        let askers = self.shared.askers.get().map_or(&[][..], Vec::as_slice);
        (self.shared.settings.digests > 0).then(|| ask::digests(askers))
    }

    /// Ends a session, whatever it does: what runs for it at a server is killed there. Whether
    /// there was such a session.
    #[must_use]
    pub fn kill(&self, session: u32) -> bool {
        let found = self.shared.sessions.get(session);
        if let Some(running) = &found {
            running.kill();
        }
        found.is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Who has ended already is not to be told.
            let _ = stop.send(());
        }
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
