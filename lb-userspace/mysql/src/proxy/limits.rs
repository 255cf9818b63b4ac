//! Limits of servers and of users.
//!
//! A server with a limit gives turns: whoever uses one of its connections has one, and who finds
//! none waits, first come first served, for a bounded time. An idle connection needs no turn, but a
//! place; who has a turn and finds neither a connection that fits nor a free place has an idle
//! connection closed, here or by another worker. As there are as many turns as places, there is
//! one.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{interval, sleep, timeout},
};

use super::{
    ask::Question,
    connect::{self, Failure, LoggedIn, Who},
    settings::{Server, User},
    worker::Worker,
};
use crate::wire::error::Refusal;

/// How often somebody who waits for a place has idle connections looked for.
const AGAIN: Duration = Duration::from_millis(20);

/// Of a server.
#[derive(Debug)]
pub(super) struct Limit {
    most: usize,
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Limit {
    /// Of a server that has one.
    pub(super) fn new(server: &Server) -> Option<Self> {
        let most = server.max_connections?;
        Some(Self {
            most,
            turns: Arc::new(Semaphore::new(most)),
            places: Arc::new(Semaphore::new(most)),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Connections at a time.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// Connections that are open, of those that count.
    pub(super) fn connections(&self) -> usize {
        self.most - self.places.available_permits()
    }

    /// Clients that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A turn, at once or in order.
    async fn turn(&self, patience: Duration) -> Option<OwnedSemaphorePermit> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Some(turn);
        }
        let _counted = Waiting::new(&self.waiting);
        let turn = timeout(patience, Arc::clone(&self.turns).acquire_owned()).await;
        turn.ok()?.ok()
    }
}

/// Counted for as long as it is there.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn new(count: &'w AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection to a server with a limit has.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// While it is used.
    pub(super) turn: Option<OwnedSemaphorePermit>,
    /// While it is there.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

impl Worker {
    fn limit(&self, server: usize) -> Option<&Limit> {
        self.shared.limits[server].as_ref()
    }

    /// A turn at a server; none is needed where there is no limit.
    pub(super) async fn turn(
        &self,
        server: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        let Some(limit) = self.limit(server) else {
            return Ok(None);
        };
        match limit.turn(self.shared.settings.connection_wait).await {
            Some(turn) => Ok(Some(turn)),
            None => Err(self.full(server, limit)),
        }
    }

    /// Whether no other connection to a server may be opened.
    pub(super) fn is_short_of_places(&self, server: usize) -> bool {
        self.limit(server)
            .is_some_and(|limit| limit.places.available_permits() == 0)
    }

    /// Room for a new connection, for which an idle one may have to go.
    pub(super) async fn place(
        &self,
        server: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        let Some(limit) = self.limit(server) else {
            return Ok(None);
        };
        let free = || Arc::clone(&limit.places).try_acquire_owned().ok();
        if let Some(place) = free() {
            return Ok(Some(place));
        }
        let mut place = pin!(Arc::clone(&limit.places).acquire_owned());
        let mut end = pin!(sleep(self.shared.settings.connection_wait));
        let mut again = interval(AGAIN);
        loop {
            tokio::select! {
                biased;
                place = &mut place => return Ok(place.ok()),
                () = &mut end => return Err(self.full(server, limit)),
                // The one that is idle may have been taken by somebody, and another one be idle.
                _ = again.tick() => self.have_idle_closed(server),
            }
        }
    }

    /// Closes an idle connection, here or, if there is none, where there is one.
    pub(super) fn have_idle_closed(&self, server: usize) {
        if self.close_idle(server) {
            return;
        }
        let others = self.shared.askers.get().map_or(&[][..], Vec::as_slice);
        for other in others {
            // One that has ended has no connections.
            let _ = other.send(Question::CloseIdle(server));
        }
    }

    /// Closes an idle connection to a server, if there is one.
    pub(super) fn close_idle(&self, server: usize) -> bool {
        let idle = self.pool.borrow_mut().idlest(server, Instant::now());
        let found = idle.is_some();
        if let Some(connection) = idle {
            connection.quit();
        }
        found
    }

    fn full(&self, server: usize, limit: &Limit) -> Failure {
        let shared = &self.shared;
        let name = &shared.settings.servers[server].name;
        let most = limit.most;
        shared.tell_rarely(&format!(
            "mysql: server {name}: all {most} connections (max_connections) are in use, and clients \
             wait for longer than connection_wait_seconds"
        ));
        let mut payload = Vec::new();
        Refusal::new(1040, b"08004", "Too many connections").put(&mut payload);
        Failure::Full(payload)
    }

    /// A connection that comes on top of the limit, for something that cannot wait.
    pub(super) async fn log_in_beside(
        &self,
        server: usize,
        who: &Who<'_>,
        epoch: u64,
    ) -> Result<LoggedIn, Failure> {
        connect::connect(&self.shared, server, who, epoch).await
    }

    /// A connection for a client's login, in its turn.
    pub(super) async fn log_in_in_turn(
        &self,
        server: usize,
        who: &Who<'_>,
        epoch: u64,
    ) -> Result<LoggedIn, Failure> {
        let turn = self.turn(server).await?;
        let patience = self.shared.settings.connection_wait;
        let mut logged_in = self.log_in(server, who, epoch, patience).await?;
        logged_in.connection.room.turn = turn;
        Ok(logged_in)
    }
}

/// Of users that have one.
#[derive(Debug, Default)]
pub(super) struct Users(HashMap<Box<[u8]>, Arc<UserLimit>>);

#[derive(Debug)]
struct UserLimit {
    most: usize,
    sessions: AtomicUsize,
}

/// A session counts for its user for as long as this is there.
#[derive(Debug)]
pub(super) struct UserPlace(Arc<UserLimit>);

impl Drop for UserPlace {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Users {
    pub(super) fn new(users: &[User]) -> Self {
        let limited = users.iter().filter_map(|user| {
            let limit = UserLimit {
                most: user.max_connections?,
                sessions: AtomicUsize::new(0),
            };
            Some((user.name.as_bytes().into(), Arc::new(limit)))
        });
        Self(limited.collect())
    }

    /// A place for another session; none is needed where there is no limit. What to say where it
    /// is reached.
    pub(super) fn enter(&self, user: &[u8]) -> Result<Option<Arc<UserPlace>>, String> {
        let Some(limit) = self.0.get(user) else {
            return Ok(None);
        };
        let before = limit.sessions.fetch_add(1, Ordering::Relaxed);
        let place = UserPlace(Arc::clone(limit));
        if before >= limit.most {
            return Err(format!(
                "User '{}' has exceeded the 'max_user_connections' resource (current value: {})",
                String::from_utf8_lossy(user),
                limit.most
            ));
        }
        Ok(Some(Arc::new(place)))
    }

    /// How many sessions each has, of how many.
    pub(super) fn list(&self) -> Vec<UserStatus> {
        let all = self.0.iter().map(|(name, limit)| UserStatus {
            name: String::from_utf8_lossy(name).into_owned(),
            sessions: limit.sessions.load(Ordering::Relaxed),
            max_connections: limit.most,
        });
        let mut all: Vec<UserStatus> = all.collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// A user with a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserStatus {
    /// Its name.
    pub name: String,
    /// Clients that it has.
    pub sessions: usize,
    /// That it may have.
    pub max_connections: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_places() {
        let user = |most| User {
            name: "app".to_owned(),
            secret: crate::auth::Secret::empty(),
            max_connections: most,
        };
        let users = Users::new(&[user(Some(2))]);
        let one = users.enter(b"app").unwrap();
        let _two = users.enter(b"app").unwrap();
        let said = users.enter(b"app").unwrap_err();
        assert!(said.contains("(current value: 2)"), "{said}");
        assert_eq!(users.list()[0].sessions, 2);
        drop(one);
        assert!(users.enter(b"app").unwrap().is_some());
        assert!(users.enter(b"other").unwrap().is_none());
        assert!(Users::new(&[user(None)]).enter(b"app").unwrap().is_none());
    }

    fn limit() -> Limit {
        Limit {
            most: 1,
            turns: Arc::new(Semaphore::new(1)),
            places: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_order_and_waiting_ends() {
        let limit = Arc::new(limit());
        let long = Duration::from_secs(10);
        let first = limit.turn(long).await;
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..3 {
            let (own, order) = (Arc::clone(&limit), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let turn = own.turn(long).await;
                order.lock().unwrap().push((number, turn.is_some()));
            }));
            tokio::task::yield_now().await;
            assert_eq!(limit.waiting(), number + 1);
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [(0, true), (1, true), (2, true)]);
        let _kept = limit.turn(long).await;
        assert!(limit.turn(long).await.is_none(), "it waits for ever");
        assert_eq!(limit.waiting(), 0);
    }
}
