//! A thread that serves clients: sessions and connections of its own, shared with no other.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpStream, UnixStream},
    sync::{mpsc::UnboundedReceiver, watch},
    task::spawn_local,
    time::interval,
};

use super::{
    ask::Question, connection::Connection, gate::Permit, listen::Arrived, peer::Peer, pool::Pool,
    routines::Catalogue, session, sessions::Entered, shared::Shared, stream::Stream, view::View,
};
use crate::{digest::Digests, route::Reason};

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(5);

/// A worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: RefCell<Pool>,
    pub(super) routines: Catalogue,
    view: RefCell<watch::Receiver<Arc<View>>>,
    seen: RefCell<Arc<View>>,
    /// The kinds of statements that there were.
    pub(super) digests: Option<RefCell<Digests>>,
    index: usize,
    /// Clients that are served.
    sessions: Cell<usize>,
    /// Nothing can be begun any more.
    pub(super) is_over: Cell<bool>,
}

impl Worker {
    /// What is known of the servers now.
    pub(super) fn view(&self) -> Arc<View> {
        let mut view = self.view.borrow_mut();
        // One atomic load, as long as nothing has changed.
        if view.has_changed().unwrap_or(false) {
            *self.seen.borrow_mut() = Arc::clone(&view.borrow_and_update());
        }
        Arc::clone(&self.seen.borrow())
    }

    /// Waits until something else is known.
    pub(super) async fn view_changed(&self) {
        // What came after the last look at it counts.
        let mut view = self.view.borrow().clone();
        // The proxy's end ends everything.
        let _ = view.changed().await;
    }

    /// Leave to work at the primary, for a statement or a transaction; nothing if there is none
    /// until then.
    pub(super) async fn enter(&self, end: tokio::time::Instant) -> Option<Permit> {
        self.shared.gate.enter(self.index, end).await
    }

    /// A statement was answered.
    pub(super) fn count(&self, server: usize, is_replica: bool, reason: Reason, took: Duration) {
        let counters = &self.shared.workers[self.index];
        counters.count(is_replica, reason, took);
        let server = &self.shared.servers[server];
        server.statements.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        server.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Whether a connection may be kept for others.
    fn is_wanted(view: &View, connection: &Connection) -> bool {
        view.servers[connection.server].is_up && connection.epoch == view.epoch
    }
}

/// Serves the clients that are handed over, until nobody hands any over.
pub(super) async fn run(
    shared: Arc<Shared>,
    index: usize,
    mut arrivals: UnboundedReceiver<Arrived>,
    mut questions: UnboundedReceiver<Question>,
) {
    let view = shared.view.subscribe();
    let seen = Arc::clone(&view.borrow());
    let worker = Rc::new(Worker {
        pool: RefCell::new(Pool::new(shared.settings.servers.len())),
        routines: Catalogue::default(),
        view: RefCell::new(view),
        seen: RefCell::new(seen),
        digests: match shared.settings.digests {
            0 => None,
            most => Some(RefCell::new(Digests::new(most))),
        },
        index,
        sessions: Cell::new(0),
        is_over: Cell::new(false),
        shared,
    });
    let mut sweep = interval(SWEEP);
    loop {
        tokio::select! {
            arrived = arrivals.recv() => {
                let Some(arrived) = arrived else {
                    worker.is_over.set(true);
                    return;
                };
                worker.begin(arrived);
            }
            Some(question) = questions.recv() => question.answer(&worker),
            _ = sweep.tick() => {
                let view = worker.view();
                let mut pool = worker.pool.borrow_mut();
                pool.sweep(Instant::now(), |connection| Worker::is_wanted(&view, connection));
            }
        }
    }
}

impl Worker {
    fn begin(self: &Rc<Self>, arrived: Arrived) {
        let (stream, from) = match arrived {
            Arrived::Tcp(stream) => {
                let from = stream.peer_addr();
                let from = from.map_or_else(|_| "?".to_owned(), |from| from.to_string());
                (TcpStream::from_std(stream).map(Stream::Tcp), from)
            }
            Arrived::Unix(stream) => {
                let from = "unix socket".to_owned();
                (UnixStream::from_std(stream).map(Stream::Unix), from)
            }
        };
        let guard = Guard(Rc::clone(self));
        self.sessions.set(self.sessions.get() + 1);
        match stream {
            Ok(stream) => {
                let worker = Rc::clone(self);
                let entered = Entered::new(&self.shared, from.into());
                let running = Arc::clone(&entered.running);
                let task = spawn_local(async move {
                    session::serve(worker, Peer::new(stream), entered).await;
                    drop(guard);
                });
                running.set_task(task.abort_handle());
            }
            Err(error) => tracing::debug!("mysql: a client: {error}"),
        }
    }
}

/// Counts a client out.
struct Guard(Rc<Worker>);

impl Drop for Guard {
    fn drop(&mut self) {
        let Self(worker) = self;
        worker.sessions.set(worker.sessions.get().saturating_sub(1));
        let counters = &worker.shared.workers[worker.index];
        counters.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}
