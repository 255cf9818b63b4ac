//! What all workers have in common.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{
    Notify, OnceCell, Semaphore,
    mpsc::{self, UnboundedSender},
    watch,
};

use super::{
    ask::Question,
    budget::Budget,
    driver::Wished,
    follow::Followed,
    gate::Gate,
    limits::{Limit, Users},
    logging_in::AT_A_TIME,
    sessions::Sessions,
    settings::{Consistency, Settings},
    slow::Slow,
    trouble::Trouble,
    untold::Untold,
    view::View,
};
use crate::{
    auth::{rsa::KeyPair, secrets::Secrets},
    gtid::GtidSet,
    route::Reason,
    topology,
};

/// Secrets that are remembered at most.
const MOST_SECRETS: usize = 100_000;
/// Bytes of a command that any server may take.
const MOST_COMMAND: usize = 1 << 30;
/// Bytes of commands that are on their way at a time, of those that are long.
const COMMANDS: usize = 256 << 20;
/// The same for those of at most 1 MiB.
const SHORT_COMMANDS: usize = 64 << 20;
/// Bytes of texts that all sessions have prepared.
const PREPARED: usize = 512 << 20;
/// Bytes that are on their way of those who have not logged in.
const LOGINS: usize = 16 << 20;
/// How often the same trouble is told.
const RARELY: Duration = Duration::from_secs(10);

/// What all workers have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// As they were at the start: what does not change is read here.
    pub(super) settings: Settings,
    /// As they are now.
    now: Mutex<Arc<Settings>>,
    /// Of those, what every statement asks for.
    consistency: AtomicU8,
    /// The same, in microseconds.
    consistency_timeout: AtomicU64,
    pub(super) began: Instant,
    /// What is known of the servers.
    pub(super) view: watch::Sender<Arc<View>>,
    pub(super) workers: Vec<WorkerCounters>,
    pub(super) servers: Vec<ServerCounters>,
    secrets: Mutex<Secrets>,
    /// Clients' sessions.
    pub(super) sessions: Sessions,
    /// Where the next read goes.
    pub(super) cursor: AtomicUsize,
    told: Mutex<HashMap<String, Instant>>,
    /// What went wrong, by kind.
    errors: [AtomicU64; Trouble::ALL.len()],
    key_pair: OnceCell<Option<Arc<KeyPair>>>,
    /// How often something was defined by way of this proxy.
    pub(super) definitions: AtomicU64,
    /// What replicas apply, by server.
    pub(super) followed: Vec<Followed>,
    /// What was written by way of this proxy.
    written: Mutex<Option<GtidSet>>,
    /// How often that has changed.
    writes: AtomicU64,
    /// Writes that servers have not told of.
    pub(super) untold: Untold,
    judged: Mutex<Option<topology::View>>,
    /// Who may work at the primary.
    pub(super) gate: Arc<Gate>,
    /// Has the servers looked at now, and not only when it is time.
    look: Vec<Notify>,
    /// When the last look at each server began whose outcome is published.
    pub(super) looked: watch::Sender<Vec<Option<Instant>>>,
    /// What is wished of the driver.
    pub(super) wishes: mpsc::UnboundedSender<Wished>,
    /// Whether a plan is being carried out.
    pub(super) drives: AtomicBool,
    /// By the servers' order in the config.
    pub(super) limits: Vec<Option<Limit>>,
    pub(super) users: Users,
    /// Where workers are asked something.
    pub(super) askers: OnceLock<Vec<UnboundedSender<Question>>>,
    /// What took long.
    pub(super) slow: Slow,
    /// Memory for commands that are long.
    pub(super) commands: Budget,
    /// The same for those that are not much longer than usual.
    pub(super) short_commands: Budget,
    /// Memory for texts of prepared statements.
    pub(super) prepared: Budget,
    /// Memory for what is long of those who have not logged in.
    pub(super) logins: Budget,
    /// Bytes of a command at most, as the primary has it.
    most_command: AtomicUsize,
}

/// Of a worker.
#[derive(Debug)]
pub(super) struct WorkerCounters {
    /// Clients that are there.
    pub(super) sessions: AtomicUsize,
    /// Statements by where they went, primary or replica, and why.
    statements: [[AtomicU64; REASONS]; 2],
    /// How long they took, by where they went: up to each of [`BUCKETS`], and longer.
    took: [[AtomicU64; BUCKETS.len() + 1]; 2],
    /// The same together, in microseconds.
    micros: [AtomicU64; 2],
}

/// How many reasons there are.
const REASONS: usize = Reason::ALL.len();
/// Upper bounds of what is counted together, in microseconds.
pub(super) const BUCKETS: [u64; 14] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_000_000,
    10_000_000,
];

impl Default for WorkerCounters {
    fn default() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            sessions: AtomicUsize::new(0),
            statements: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            took: [zeros(), zeros()],
            micros: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }
}

impl WorkerCounters {
    /// A statement was answered.
    pub(super) fn count(&self, is_replica: bool, reason: Reason, took: Duration) {
        let at = usize::from(is_replica);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|most| micros <= *most);
        self.statements[at][reason as usize].fetch_add(1, Ordering::Relaxed);
        self.took[at][bucket.unwrap_or(BUCKETS.len())].fetch_add(1, Ordering::Relaxed);
        self.micros[at].fetch_add(micros, Ordering::Relaxed);
    }

    /// How many took as long as that bucket says.
    pub(super) fn took(&self, is_replica: bool, bucket: usize) -> u64 {
        self.took[usize::from(is_replica)][bucket].load(Ordering::Relaxed)
    }

    /// How long they took together.
    pub(super) fn micros(&self, is_replica: bool) -> u64 {
        self.micros[usize::from(is_replica)].load(Ordering::Relaxed)
    }

    /// How many statements there were, for a reason.
    pub(super) fn counted(&self, is_replica: bool, reason: Reason) -> u64 {
        self.statements[usize::from(is_replica)][reason as usize].load(Ordering::Relaxed)
    }
}

/// Of a server.
#[derive(Debug)]
pub(super) struct ServerCounters {
    /// Connections that are open.
    pub(super) connections: AtomicUsize,
    /// Statements under way, where reads go by them.
    pub(super) under_way: AtomicUsize,
    /// Statements that it got.
    pub(super) statements: AtomicU64,
    /// How long they took together, in microseconds.
    pub(super) micros: AtomicU64,
    /// Its `max_allowed_packet`; 0 as long as nobody has seen it.
    pub(super) most_packet: AtomicUsize,
    /// Leave to open connections to it.
    pub(super) opening: Semaphore,
    /// Until when it counts as full, in milliseconds since the beginning.
    pub(super) full_until: AtomicU64,
}

impl Default for ServerCounters {
    fn default() -> Self {
        Self {
            connections: AtomicUsize::new(0),
            statements: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            most_packet: AtomicUsize::new(0),
            opening: Semaphore::new(AT_A_TIME),
            full_until: AtomicU64::new(0),
        }
    }
}

/// Of [`Shared::consistency`].
const EVENTUAL: u8 = 0;
const SESSION: u8 = 1;
const GLOBAL: u8 = 2;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done in there.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        settings: Settings,
        workers: usize,
        wishes: mpsc::UnboundedSender<Wished>,
    ) -> Self {
        let servers = settings.servers.len();
        let shared = Self {
            now: Mutex::new(Arc::new(settings.clone())),
            began: Instant::now(),
            consistency: AtomicU8::default(),
            consistency_timeout: AtomicU64::default(),
            view: watch::Sender::new(Arc::new(View::unknown(servers))),
            workers: (0..workers).map(|_| WorkerCounters::default()).collect(),
            servers: (0..servers).map(|_| ServerCounters::default()).collect(),
            secrets: Mutex::new(Secrets::new(MOST_SECRETS)),
            sessions: Sessions::default(),
            cursor: AtomicUsize::new(0),
            told: Mutex::default(),
            errors: std::array::from_fn(|_| AtomicU64::new(0)),
            key_pair: OnceCell::new(),
            definitions: AtomicU64::new(0),
            followed: (0..servers).map(|_| Followed::new()).collect(),
            written: Mutex::default(),
            writes: AtomicU64::new(0),
            untold: Untold::default(),
            judged: Mutex::default(),
            gate: Arc::new(Gate::new(workers)),
            look: (0..servers).map(|_| Notify::new()).collect(),
            looked: watch::Sender::new(vec![None; servers]),
            wishes,
            drives: AtomicBool::new(false),
            limits: settings.servers.iter().map(Limit::new).collect(),
            users: Users::new(&settings.users),
            askers: OnceLock::new(),
            slow: Slow::new(settings.slow_statement),
            commands: Budget::new(COMMANDS),
            short_commands: Budget::new(SHORT_COMMANDS),
            prepared: Budget::new(PREPARED),
            logins: Budget::new(LOGINS),
            most_command: AtomicUsize::new(MOST_COMMAND),
            settings,
        };
        shared.note(&shared.settings);
        shared
    }

    /// The settings as they are now.
    pub(super) fn now(&self) -> Arc<Settings> {
        Arc::clone(&lock(&self.now))
    }

    /// They are others from now on.
    pub(super) fn change(&self, settings: Settings) {
        self.note(&settings);
        *lock(&self.now) = Arc::new(settings);
    }

    fn note(&self, settings: &Settings) {
        let timeout = settings.consistency_timeout.as_micros();
        let timeout = u64::try_from(timeout).unwrap_or(u64::MAX);
        self.consistency_timeout.store(timeout, Ordering::Relaxed);
        let code = match settings.consistency {
            Consistency::Eventual => EVENTUAL,
            Consistency::Session => SESSION,
            Consistency::Global => GLOBAL,
        };
        self.consistency.store(code, Ordering::Relaxed);
    }

    /// What a session is sure to see.
    pub(super) fn consistency(&self) -> Consistency {
        match self.consistency.load(Ordering::Relaxed) {
            EVENTUAL => Consistency::Eventual,
            GLOBAL => Consistency::Global,
            _ => Consistency::Session,
        }
    }

    /// How long a replica is waited for.
    pub(super) fn consistency_timeout(&self) -> Duration {
        Duration::from_micros(self.consistency_timeout.load(Ordering::Relaxed))
    }

    /// Has all servers looked at soon. Whoever looks at the moment does so once more.
    pub(super) fn look_again(&self) {
        for look in &self.look {
            look.notify_one();
        }
    }

    /// Waits until somebody wants a server looked at.
    pub(super) async fn is_to_look(&self, server: usize) {
        self.look[server].notified().await;
    }

    /// What was learned of passwords.
    pub(super) fn secrets(&self) -> MutexGuard<'_, Secrets> {
        lock(&self.secrets)
    }

    /// Something went wrong.
    pub(super) fn count_trouble(&self, trouble: Trouble) {
        self.errors[trouble as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often something went wrong.
    pub(super) fn troubles(&self, trouble: Trouble) -> u64 {
        self.errors[trouble as usize].load(Ordering::Relaxed)
    }

    /// The proxy's RSA key, which is made when it is first needed.
    pub(super) async fn key_pair(&self) -> Option<Arc<KeyPair>> {
        let make = || async {
            let made = tokio::task::spawn_blocking(KeyPair::generate).await;
            made.ok().flatten().map(Arc::new)
        };
        self.key_pair.get_or_init(make).await.clone()
    }

    /// What was written by way of this proxy.
    pub(super) fn written(&self) -> Option<GtidSet> {
        lock(&self.written).clone()
    }

    /// How often that has changed.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    /// A session has written.
    pub(super) fn note_written(&self, new: &GtidSet) {
        if self.consistency() == Consistency::Global {
            let mut written = lock(&self.written);
            match &mut *written {
                Some(all) => {
                    all.union(new);
                    all.fill();
                }
                none => *none = Some(new.clone()),
            }
            self.writes.fetch_add(1, Ordering::Release);
        }
    }

    /// Bytes of a command at most: what is longer the primary would not take.
    pub(super) fn most_command(&self) -> usize {
        self.most_command.load(Ordering::Relaxed)
    }

    /// The `max_allowed_packet` of a server, as the monitor has seen it.
    pub(super) fn note_most_packet(&self, server: usize, bytes: usize) {
        self.servers[server]
            .most_packet
            .store(bytes, Ordering::Relaxed);
        if self.view.borrow().primary == Ok(server) {
            // A packet of exactly so many bytes is none that servers take.
            let most = bytes.saturating_sub(1).min(MOST_COMMAND);
            self.most_command.store(most, Ordering::Relaxed);
        }
    }

    /// The next turn of reads.
    pub(super) fn next_turn(&self) -> usize {
        self.cursor.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn set_judged(&self, view: topology::View) {
        *lock(&self.judged) = Some(view);
    }

    /// How the servers are judged, for people.
    pub(super) fn judged(&self) -> Option<topology::View> {
        lock(&self.judged).clone()
    }

    /// Clients that are there.
    pub(super) fn session_count(&self) -> usize {
        self.workers
            .iter()
            .map(|worker| worker.sessions.load(Ordering::Relaxed))
            .sum()
    }

    /// Warns, but not of the same all the time.
    pub(super) fn tell_rarely(&self, sentence: &str) {
        let now = Instant::now();
        let mut told = lock(&self.told);
        told.retain(|_, at| now.duration_since(*at) < RARELY);
        if !told.contains_key(sentence) && told.len() < 64 {
            told.insert(sentence.to_owned(), now);
            tracing::warn!("{sentence}");
        }
    }
}
