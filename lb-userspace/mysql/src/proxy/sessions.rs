//! Who is there and does what, for people: each session keeps a few words of its own up to date,
//! which anybody may read. A statement takes neither a lock nor memory for it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::AbortHandle, time::timeout};

use super::{session::Session, shared::Shared};
use crate::route::{Reason, Target};

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// It has not logged in yet.
    Login,
    /// The client says nothing.
    Rest,
    /// A command is being done.
    Busy,
}

/// What a session tells of itself, and what can be done to it.
#[derive(Debug)]
pub(super) struct Running {
    /// The server's index and its number of the connection, in one word; [`NOTHING`] while nothing
    /// runs.
    at: AtomicU64,
    /// Tells the session to end, as soon as it rests.
    pub(super) end: Notify,
    /// Its client has been told.
    ended: Notify,
    /// What `at` was when the session was ended in the middle of something.
    cut_at: AtomicU64,
    /// Ends it in the middle of something.
    task: OnceLock<AbortHandle>,
    phase: AtomicU8,
    /// The reason of what the last statement was decided to be, from 1 on, and in the high byte
    /// the target.
    decision: AtomicU16,
    /// The reason why it has to stay where it is, from 1 on.
    pinned: AtomicU8,
    in_transaction: AtomicU8,
    /// The server, from 1 on, that it stays with while nothing runs.
    home: AtomicU32,
    /// Of the session's state when its schema was last told.
    environment: AtomicU64,
    began: Instant,
    /// When it began to do what it does, in microseconds from then on.
    since: AtomicU64,
    who: Mutex<Who>,
}

/// What seldom changes.
#[derive(Clone, Debug, Default)]
struct Who {
    user: Box<[u8]>,
    schema: Option<Box<[u8]>>,
    client: Box<str>,
}

/// Of [`Running`].
const NOTHING: u64 = 0;

/// Where something runs.
fn unpacked(at: u64) -> Option<(usize, u32)> {
    (at != NOTHING).then(|| ((at >> 32) as usize - 1, at as u32))
}

const TARGETS: [Target; 4] = [
    Target::Primary,
    Target::Replica,
    Target::Both,
    Target::Proxy,
];

fn reason(code: u8) -> Option<Reason> {
    let index = usize::from(code).checked_sub(1)?;
    Reason::ALL.get(index).copied()
}

impl Running {
    /// Of a client that has just come from somewhere.
    pub(super) fn new(client: Box<str>) -> Self {
        Self {
            at: AtomicU64::new(NOTHING),
            end: Notify::new(),
            ended: Notify::new(),
            cut_at: AtomicU64::new(NOTHING),
            task: OnceLock::new(),
            phase: AtomicU8::new(Phase::Login as u8),
            decision: AtomicU16::new(0),
            pinned: AtomicU8::new(0),
            in_transaction: AtomicU8::new(0),
            home: AtomicU32::new(0),
            environment: AtomicU64::new(0),
            began: Instant::now(),
            since: AtomicU64::new(0),
            who: Mutex::new(Who {
                client,
                ..Who::default()
            }),
        }
    }

    /// Something runs there as long as what is returned is kept.
    pub(super) fn run(&self, server: usize, number: u32) -> RunningNow<'_> {
        let at = (server as u64 + 1) << 32 | u64::from(number);
        self.at.store(at, Ordering::Relaxed);
        RunningNow(self)
    }

    /// The server's index, and its number of the connection, if something runs.
    pub(super) fn at(&self) -> Option<(usize, u32)> {
        unpacked(self.at.load(Ordering::Relaxed))
    }

    /// Where something ran when the session was ended in the middle of it.
    pub(super) fn cut_at(&self) -> Option<(usize, u32)> {
        unpacked(self.cut_at.load(Ordering::Relaxed))
    }

    /// What ends it whatever it does.
    pub(super) fn set_task(&self, task: AbortHandle) {
        // It has one.
        let _ = self.task.set(task);
    }

    /// Ends the session.
    pub(super) fn kill(&self) {
        if self.phase.load(Ordering::Relaxed) == Phase::Rest as u8 {
            self.end.notify_one();
            return;
        }
        let at = self.at.load(Ordering::Relaxed);
        self.cut_at.store(at, Ordering::Relaxed);
        match self.task.get() {
            Some(task) => task.abort(),
            None => self.end.notify_one(),
        }
    }

    /// Its client knows that it has ended.
    pub(super) fn note_ended(&self) {
        self.ended.notify_one();
    }

    /// Waits until its client knows that it has ended, for so long at most.
    pub(super) async fn ended(&self, most: Duration) {
        if timeout(most, self.ended.notified()).await.is_ok() {
            // For whoever waits as well.
            self.note_ended();
        }
    }

    /// Somebody has logged in.
    pub(super) fn set_who(&self, user: &[u8], schema: Option<&[u8]>) {
        let mut who = self.who();
        who.user = user.into();
        who.schema = schema.map(Into::into);
        self.environment.store(0, Ordering::Relaxed);
    }

    /// A balancer says that the client comes from there.
    pub(super) fn came_from(&self, client: &str) {
        self.who().client = client.into();
    }

    /// Who has logged in, empty before.
    pub(super) fn user(&self) -> Box<[u8]> {
        self.who().user.clone()
    }

    fn who(&self) -> MutexGuard<'_, Who> {
        // Nothing is left half done in there.
        self.who.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it does from now on.
    fn enter(&self, phase: Phase) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.since.store(micros, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// A command has come.
    pub(super) fn begin(&self) {
        self.enter(Phase::Busy);
    }

    /// Where a statement goes, and why.
    pub(super) fn decided(&self, target: Target, reason: Reason) {
        let code = (target as u16) << 8 | (reason as u16 + 1);
        self.decision.store(code, Ordering::Relaxed);
    }

    fn shown(&self, number: u32, servers: &[Box<str>]) -> SessionStatus {
        let Who {
            user,
            schema,
            client,
        } = self.who().clone();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let at = self.at();
        let home = self.home.load(Ordering::Relaxed).checked_sub(1);
        let place = at.map(|(server, _)| server).or(home.map(|at| at as usize));
        let in_transaction = self.in_transaction.load(Ordering::Relaxed) != 0;
        let phase = self.phase.load(Ordering::Relaxed);
        let state = match (phase, at) {
            (phase, _) if phase == Phase::Login as u8 => "login",
            (phase, _) if phase == Phase::Rest as u8 && in_transaction => "in_transaction",
            (phase, _) if phase == Phase::Rest as u8 => "idle",
            (_, Some(_)) => "running",
            (_, None) => "waiting",
        };
        let code = self.decision.load(Ordering::Relaxed);
        let target = TARGETS
            .into_iter()
            .find(|target| *target as u16 == code >> 8);
        let age = self.began.elapsed().as_secs_f64();
        let since = self.since.load(Ordering::Relaxed) as f64 / 1e6;
        SessionStatus {
            id: number,
            user: text(&user),
            client: client.into(),
            schema: schema.as_deref().map(text),
            state,
            state_seconds: (age - since).max(0.0),
            age_seconds: age,
            server: place.and_then(|at| Some(servers.get(at)?.to_string())),
            server_connection: at.map(|(_, number)| number),
            in_transaction,
            pinned: reason(self.pinned.load(Ordering::Relaxed)),
            last: target.zip(reason(code as u8)),
        }
    }
}

/// Something runs.
#[derive(Debug)]
pub(super) struct RunningNow<'r>(&'r Running);

impl Drop for RunningNow<'_> {
    fn drop(&mut self) {
        self.0.at.store(NOTHING, Ordering::Relaxed);
    }
}

/// A client's session, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionStatus {
    /// What the client takes for its connection's number.
    pub id: u32,
    /// Who has logged in; empty before that.
    pub user: String,
    /// Where the client is.
    pub client: String,
    /// The default schema.
    pub schema: Option<String>,
    /// `login`, `idle`, `in_transaction`, `running` or `waiting`.
    pub state: &'static str,
    /// For how long.
    pub state_seconds: f64,
    /// Since the client came.
    pub age_seconds: f64,
    /// The server where something runs, or that the session stays with.
    pub server: Option<String>,
    /// The server's number of the connection where something runs.
    pub server_connection: Option<u32>,
    /// Whether a transaction is open.
    pub in_transaction: bool,
    /// Why it has to stay with the primary, beside transactions.
    pub pinned: Option<Reason>,
    /// Where its last statement went, and why.
    pub last: Option<(Target, Reason)>,
}

/// Numbers of sessions are above this, and those of servers' connections below, unless a server has
/// run for very long: so that either can be meant by a KILL.
const ABOVE: u32 = 1_000_000_000;

/// All sessions, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: Mutex<HashMap<u32, Arc<Running>>>,
    next: AtomicU32,
}

impl Sessions {
    fn all(&self) -> MutexGuard<'_, HashMap<u32, Arc<Running>>> {
        // Nothing is left half done in there.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a session that no other has.
    pub(super) fn begin(&self, client: Box<str>) -> (u32, Arc<Running>) {
        let running = Arc::new(Running::new(client));
        let mut all = self.all();
        loop {
            let count = self.next.fetch_add(1, Ordering::Relaxed);
            let number = ABOVE + 1 + count % (u32::MAX - ABOVE);
            if let Entry::Vacant(place) = all.entry(number) {
                place.insert(Arc::clone(&running));
                return (number, running);
            }
        }
    }

    /// One of them.
    pub(super) fn get(&self, number: u32) -> Option<Arc<Running>> {
        self.all().get(&number).cloned()
    }

    /// One is gone.
    pub(super) fn end(&self, number: u32) {
        self.all().remove(&number);
    }

    /// How they are, in the order of their numbers.
    pub(super) fn list(&self, servers: &[Box<str>]) -> Vec<SessionStatus> {
        // Clients that come in wait for no more than the copy of the pointers.
        let mut all: Vec<(u32, Arc<Running>)> = {
            let all = self.all();
            all.iter()
                .map(|(number, running)| (*number, Arc::clone(running)))
                .collect()
        };
        all.sort_unstable_by_key(|(number, _)| *number);
        all.iter()
            .map(|(number, running)| running.shown(*number, servers))
            .collect()
    }
}

/// One of the sessions, for as long as it is there.
#[derive(Debug)]
pub(super) struct Entered {
    shared: Arc<Shared>,
    pub(super) number: u32,
    pub(super) running: Arc<Running>,
}

impl Entered {
    /// A client has come from somewhere.
    pub(super) fn new(shared: &Arc<Shared>, client: Box<str>) -> Self {
        let (number, running) = shared.sessions.begin(client);
        Self {
            shared: Arc::clone(shared),
            number,
            running,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.shared.sessions.end(self.number);
        self.running.note_ended();
    }
}

impl Session {
    /// Tells how the session is while its client says nothing.
    pub(super) fn rest(&self) {
        let running = &self.running;
        let place = if self.state.holds_replica() {
            self.replica
        } else {
            self.home
        };
        let place = place.map_or(0, |place| place as u32 + 1);
        running.home.store(place, Ordering::Relaxed);
        let pinned = self.state.pins().reason();
        let pinned = pinned.map_or(0, |reason| reason as u8 + 1);
        running.pinned.store(pinned, Ordering::Relaxed);
        let in_transaction = self.state.transaction().is_some();
        running
            .in_transaction
            .store(in_transaction.into(), Ordering::Relaxed);
        let environment = self.state.environment();
        if running.environment.load(Ordering::Relaxed) != environment {
            running.environment.store(environment, Ordering::Relaxed);
            running.who().schema = self.state.schema().map(Into::into);
        }
        running.enter(Phase::Rest);
    }
}

impl Drop for Session {
    /// One that was ended in the middle of a statement leaves it running at the server, which has
    /// to be told.
    fn drop(&mut self) {
        let Some((server, number)) = self.running.cut_at() else {
            return;
        };
        if self.worker.is_over.get() {
            return;
        }
        let worker = self.worker.clone();
        let (identity, capabilities) = (self.identity.clone(), self.capabilities);
        tokio::task::spawn_local(async move {
            let epoch = worker.view().epoch;
            let who = identity.who(capabilities);
            // If it cannot be told, it finds out when it has something to say.
            if let Ok(mut logged_in) = worker.log_in_beside(server, &who, epoch).await {
                let kill = format!("KILL {number}");
                let _ = logged_in.connection.query(&kill).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_tells_what_it_does() {
        let sessions = Sessions::default();
        let names: [Box<str>; 2] = ["one".into(), "two".into()];
        let (number, running) = sessions.begin("127.0.0.1:5".into());
        let list = || sessions.list(&names);
        assert_eq!((list()[0].state, &*list()[0].user), ("login", ""));
        running.set_who(b"app", Some(b"shop"));
        running.begin();
        running.decided(Target::Replica, Reason::PinnedUnknownState);
        assert_eq!(list()[0].state, "waiting");
        {
            let _now = running.run(1, 77);
            let seen = &list()[0];
            assert_eq!((seen.state, seen.server_connection), ("running", Some(77)));
            assert_eq!(seen.server.as_deref(), Some("two"));
            assert_eq!(
                seen.last,
                Some((Target::Replica, Reason::PinnedUnknownState))
            );
        }
        running.enter(Phase::Rest);
        let seen = &list()[0];
        assert_eq!((seen.id, seen.state), (number, "idle"));
        assert_eq!((&*seen.user, seen.schema.as_deref()), ("app", Some("shop")));
        assert_eq!((&seen.server, seen.pinned), (&None, None));
        sessions.end(number);
        assert_eq!(list(), []);
    }

    /// They are kept in a byte each.
    #[test]
    fn every_reason_has_a_code() {
        assert!(Reason::ALL.len() < 255);
        for one in Reason::ALL {
            assert_eq!(reason(one as u8 + 1), Some(one));
        }
    }
}
