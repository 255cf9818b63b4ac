//! Makes another server the primary: carries plans out, one at a time, by the account of the
//! monitor.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
    time::{Instant, timeout},
};

use super::{
    connect::Failure,
    connection::{self, Connection},
    driver_lease::Watchman,
    obtain::first_value,
    shared::Shared,
    watch,
};
use crate::topology::{
    self, Health, NoPrimary, Primary,
    plan::{self, Answer, End, Order, Plan, Statement},
};

/// How long the servers may take, once a plan is done, until the monitor sees what it has done.
const SETTLE: Duration = Duration::from_secs(5);
/// Between two attempts to have something seen.
const BLINK: Duration = Duration::from_millis(20);

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Whether the primary is there, or lost.
    pub kind: Kind,
    /// The server that is to be the primary. Needed while the primary is there.
    pub to: Option<String>,
    /// Only look whether it can be done, and say what would be.
    pub only_check: bool,
}

/// How another server becomes the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The primary hands over.
    Switchover,
    /// It is lost.
    Failover,
    /// It stays, and the former one becomes a replica.
    Rejoin,
}

/// What came of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was done, for all these reasons.
    Refused(Vec<String>),
    /// It can be done; in these steps.
    Checked(Vec<String>),
    /// It was tried: how that ended, and what was done, step by step.
    Tried(End, Vec<String>),
}

/// A wish, and where to tell what came of it.
pub(super) type Wished = (Wish, oneshot::Sender<Outcome>);

/// Carries plans out.
pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) settings: topology::Settings,
    /// Decides when a primary is replaced without being asked, if it is.
    pub(super) watchman: Option<Watchman>,
    /// Servers that lost their role while they were not reached: they are not to take writes when
    /// they return.
    to_fence: Vec<usize>,
}

/// Does what is wished until nobody can wish any more.
pub(super) async fn drive(shared: Arc<Shared>, mut wishes: UnboundedReceiver<Wished>) {
    let mut looked = shared.looked.subscribe();
    let mut driver = Driver {
        settings: watch::topology_settings(&shared),
        watchman: shared
            .settings
            .failover
            .automatic
            .as_ref()
            .map(Watchman::new),
        shared,
        to_fence: Vec::new(),
    };
    loop {
        tokio::select! {
            wished = wishes.recv() => {
                let Some((wish, told)) = wished else { return };
                driver.shared.drives.store(true, Ordering::SeqCst);
                let outcome = driver.fulfil(&wish).await;
                driver.shared.drives.store(false, Ordering::SeqCst);
                // Whoever asked may have gone; the log has it.
                let _ = told.send(outcome);
            }
            seen = looked.changed() => {
                if seen.is_err() {
                    return;
                }
                driver.shared.drives.store(true, Ordering::SeqCst);
                driver.fence_returned().await;
                driver.watch_over().await;
                driver.shared.drives.store(false, Ordering::SeqCst);
            }
        }
    }
}

/// Returns when no plan is being carried out: one that is half done must not stay so.
pub(super) async fn finished(shared: &Shared) {
    while shared.drives.load(Ordering::SeqCst) {
        tokio::time::sleep(BLINK).await;
    }
}

impl Driver {
    async fn fulfil(&mut self, wish: &Wish) -> Outcome {
        let lease = match (&self.watchman, wish.kind) {
            (Some(watchman), Kind::Failover) if !wish.only_check => Some(watchman.lease.clone()),
            (Some(_) | None, _) => None,
        };
        let Some(lease) = lease else {
            return self.try_to(wish, false).await;
        };
        // No proxy promotes another one meanwhile.
        let ready = async {
            lease.hold(self.least()).await?;
            lease.recorded().await.map(drop)
        };
        if let Err(sentence) = ready.await {
            let hint = "with automatic = true a failover takes the lease in etcd";
            return Outcome::Refused(vec![format!("{sentence} ({hint})")]);
        }
        let outcome = self.try_to(wish, true).await;
        if !matches!(outcome, Outcome::Tried(End::Stuck, _)) {
            // Otherwise it ends by itself.
            let _ = lease.give_back().await;
        }
        outcome
    }

    async fn try_to(&mut self, wish: &Wish, has_lease: bool) -> Outcome {
        let view = look(&self.shared).await;
        let failover = &self.shared.settings.failover;
        let (times, account) = (failover.times, failover.replication.as_ref());
        let planned = match (wish.kind, &wish.to) {
            (Kind::Switchover, Some(to)) => {
                plan::switchover(&self.settings, &view, to, times, account)
            }
            (Kind::Switchover, None) => Err(vec!["which server is to be the primary?".to_owned()]),
            (Kind::Rejoin, Some(name)) => plan::rejoin(&self.settings, &view, name, times, account),
            (Kind::Rejoin, None) => Err(vec!["which server is to be a replica?".to_owned()]),
            (Kind::Failover, to) => {
                plan::failover(&self.settings, &view, to.as_deref(), times, has_lease)
            }
        };
        let plan = match planned {
            Ok(plan) if wish.only_check => return Outcome::Checked(plan.outline()),
            Ok(plan) => plan,
            Err(objections) => return Outcome::Refused(objections),
        };
        let candidate = match &wish.to {
            Some(to) => view.servers.iter().position(|server| *server.name == **to),
            None => plan::best_candidate(&self.settings, &view),
        };
        let address = candidate
            .filter(|_| has_lease)
            .map(|server| self.address(server));
        let (end, report) = self.carry_out(plan, wish.kind, address).await;
        if wish.kind == Kind::Failover && end != End::Undone {
            self.note_lost(&view);
        }
        Outcome::Tried(end, report)
    }

    /// Does all orders of a plan. With a lease, it is held when the plan begins, and where the plan
    /// asks for it the last time this address is recorded as the primary's.
    pub(super) async fn carry_out(
        &self,
        mut plan: Plan,
        kind: Kind,
        address: Option<String>,
    ) -> (End, Vec<String>) {
        let (mut told, mut leases) = (0, 0);
        while let Some(order) = plan.next_order() {
            let answer = match &order {
                Order::HoldWrites { most } => self.hold(*most, kind).await,
                Order::ReleaseWrites => {
                    self.settle().await;
                    self.shared.gate.release();
                    Answer::Done(None)
                }
                Order::HoldLease { least } => {
                    leases += 1;
                    let record = address.as_ref().filter(|_| leases > 1);
                    self.hold_lease(*least, record).await
                }
                Order::Run {
                    server,
                    statements,
                    most,
                } => run(&self.shared, *server, statements, *most).await,
            };
            plan.answered(&answer);
            for line in &plan.report()[told..] {
                tracing::info!(kind = "mysql_topology", "mysql: {line}");
            }
            told = plan.report().len();
        }
        // However it ended: nothing is held back for ever.
        self.shared.gate.release();
        (plan.end().unwrap_or(End::Stuck), plan.report().to_vec())
    }

    async fn hold(&self, most: Duration, kind: Kind) -> Answer {
        match kind {
            Kind::Switchover | Kind::Rejoin => match self.shared.gate.hold(most).await {
                0 => Answer::Done(None),
                left => Answer::Refused(format!(
                    "after {:.1} s {left} transactions or statements have not ended",
                    most.as_secs_f64()
                )),
            },
            // What is open at a primary that is lost does not end, and comes to nothing.
            Kind::Failover => {
                self.shared.gate.hold(Duration::ZERO).await;
                Answer::Done(None)
            }
        }
    }

    /// Waits until the monitor has seen who is the primary now.
    async fn settle(&self) {
        let end = Instant::now() + SETTLE;
        while look(&self.shared).await.primary().is_none() && Instant::now() < end {
            tokio::time::sleep(BLINK).await;
        }
    }

    /// Remembers who was the primary and is not reached.
    pub(super) fn note_lost(&mut self, view: &topology::View) {
        let name = match &view.primary {
            Primary::Nobody(NoPrimary::Lost(name, _)) => name,
            Primary::Nobody(_) | Primary::Server(_) => return,
        };
        let mut servers = view.servers.iter();
        let place = servers.position(|server| server.name == *name);
        self.to_fence.extend(place);
    }

    /// A server that lost its role while it was not reached is back, and takes writes: it must not.
    async fn fence_returned(&mut self) {
        if self.to_fence.is_empty() {
            return;
        }
        let Some(view) = self.shared.judged() else {
            return;
        };
        let Some(primary) = view.primary() else {
            return;
        };
        for server in std::mem::take(&mut self.to_fence) {
            let seen = &view.servers[server];
            let is_up = matches!(seen.health, Health::Up);
            if server == primary || (is_up && seen.read_only == Some(true)) {
                continue;
            }
            self.to_fence.push(server);
            let Some(version) = seen.version.as_ref().filter(|_| is_up) else {
                continue;
            };
            let patience = self.shared.settings.failover.times.statement;
            let statements = plan::fence(version);
            match run(&self.shared, server, &statements, patience).await {
                Answer::Done(_) => tracing::warn!(
                    kind = "mysql_topology",
                    "mysql: {} is back, which was the primary, and was set read-only; whether it has \
                     transactions that {} lacks is to be looked at before it becomes its replica",
                    seen.name,
                    view.servers[primary].name
                ),
                Answer::Refused(why) | Answer::Unknown(why) => self.shared.tell_rarely(&format!(
                    "mysql: {} is back, which was the primary, takes writes, and cannot be set \
                     read-only: {why}",
                    seen.name
                )),
            }
        }
    }
}

/// Has all servers looked at, and says how they are judged then.
pub(super) async fn look(shared: &Shared) -> topology::View {
    let monitor = &shared.settings.monitor;
    let asked = std::time::Instant::now();
    let end = Instant::now() + monitor.interval + monitor.timeout * 2;
    let mut looked = shared.looked.subscribe();
    loop {
        let is_seen = |at: &Option<std::time::Instant>| at.is_some_and(|at| at >= asked);
        let are_seen = looked.borrow_and_update().iter().all(is_seen);
        let is_sure = |view: topology::View| {
            let mut servers = view.servers.iter();
            !servers.any(|server| matches!(server.health, Health::Failing(_) | Health::Checking))
        };
        if (are_seen && shared.judged().is_some_and(is_sure)) || Instant::now() >= end {
            break;
        }
        shared.look_again();
        let _ = timeout(BLINK, looked.changed()).await;
    }
    shared.judged().unwrap_or_else(|| {
        let settings = watch::topology_settings(shared);
        topology::Topology::new(settings, None).view().clone()
    })
}

/// Runs statements on a server.
pub(super) async fn run(
    shared: &Arc<Shared>,
    server: usize,
    statements: &[Statement],
    most: Duration,
) -> Answer {
    let work = async {
        let mut connection = match watch::log_in(shared, server).await {
            Ok(logged_in) => logged_in.connection,
            Err(Failure::Refused(payload) | Failure::Full(payload)) => {
                return Answer::Refused(watch::words(&payload));
            }
            Err(Failure::Trouble(sentence)) => return Answer::Refused(sentence),
        };
        let answer = all(&mut connection, statements).await;
        connection.quit();
        answer
    };
    timeout(most, work).await.unwrap_or_else(|_| {
        Answer::Unknown(format!("no answer within {:.1} s", most.as_secs_f64()))
    })
}

async fn all(connection: &mut Connection, statements: &[Statement]) -> Answer {
    let mut value = None;
    for statement in statements {
        value = match connection.query(statement.sql()).await {
            Ok(connection::Answer::Rows(columns, rows)) => {
                first_value(columns, &rows).map(<[u8]>::to_vec)
            }
            Ok(connection::Answer::Done) => None,
            Ok(connection::Answer::Refused(payload)) => {
                let words = watch::words(&payload);
                return Answer::Refused(format!("{statement}: {words}"));
            }
            Err(broken) => return Answer::Unknown(format!("{statement}: {broken}")),
        };
    }
    Answer::Done(value)
}
