//! When to ask whom.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, Semaphore, mpsc::Sender},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

use super::{
    AgentWord, BackendKey, Health, Lane, Machine, Report, Target, agent,
    probe::{self, Outcome, Tools, probe},
};
use crate::config::model::{CheckKind, HealthCheck};

/// So many first checks start at once; more are spread.
const AT_ONCE: usize = 200;
/// First checks per second, beyond [`AT_ONCE`].
const FIRST_PER_SECOND: u32 = 5000;
/// Open connections that checks leave to the rest of the process.
const RESERVED_FILES: u64 = 256;

/// A target that is being checked.
#[derive(Debug)]
struct Watched {
    target: Target,
    number: u64,
    task: AbortHandle,
    /// Has it asked now.
    haste: Arc<Notify>,
}

/// Checks backends until it is dropped.
#[derive(Debug)]
pub struct Monitor {
    /// By backend, what is checked and by whom.
    watched: HashMap<BackendKey, Watched>,
    /// Of the target that is next.
    number: u64,
    tasks: JoinSet<()>,
    room: Arc<Semaphore>,
    tools: Arc<Tools>,
    reports: Sender<Report>,
}

impl Monitor {
    /// Begins to check, and reports every check.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(targets: Vec<Target>, reports: Sender<Report>) -> Self {
        let mut monitor = Self {
            watched: HashMap::new(),
            number: 0,
            tasks: JoinSet::new(),
            room: Arc::new(Semaphore::new(in_flight_limit())),
            tools: Arc::new(Tools::default()),
            reports,
        };
        monitor.set_targets(targets);
        monitor
    }

    /// Checks these from now on. Checks of backends that are among them as they were before go on
    /// undisturbed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn set_targets(&mut self, targets: Vec<Target>) {
        while self.tasks.try_join_next().is_some() {}
        let mut before = std::mem::take(&mut self.watched);
        let mut new = Vec::new();
        for target in targets {
            match before.remove(&target.key) {
                Some(known) if known.target.is_checked_as(&target) => {
                    self.watched.insert(target.key.clone(), known);
                }
                Some(known) => {
                    known.task.abort();
                    new.push(target);
                }
                None => new.push(target),
            }
        }
        for known in before.into_values() {
            known.task.abort();
        }
        let spread = spread(new.len());
        for target in new {
            let first = Instant::now() + spread.mul_f64(fastrand::f64());
            let (room, tools) = (Arc::clone(&self.room), Arc::clone(&self.tools));
            let number = self.number;
            self.number += 1;
            let about = (target.clone(), number);
            let haste = Arc::new(Notify::new());
            let when = (first, Arc::clone(&haste));
            let task = self
                .tasks
                .spawn(watch(about, when, room, tools, self.reports.clone()));
            let watched = Watched {
                target,
                number,
                task,
                haste,
            };
            self.watched.insert(watched.target.key.clone(), watched);
        }
    }

    /// Whether a report is about a target as it is checked now, and not about one of the same name
    /// that was at another address, or was checked in another way, while the report was under way.
    #[must_use]
    pub fn is_current(&self, report: &Report) -> bool {
        let watched = self.watched.get(&report.key);
        watched.is_some_and(|watched| watched.number == report.target)
    }

    /// Checks a backend now, or again as soon as a check that is under way has ended.
    pub fn check_now(&self, key: &BackendKey) {
        if let Some(watched) = self.watched.get(key) {
            watched.haste.notify_one();
        }
    }

    /// Checks that go through a service take that way from now on.
    pub fn set_lane(&self, lane: Option<Arc<dyn Lane>>) {
        self.tools.set_lane(lane);
    }

    /// Ends all checks at once.
    pub fn stop(mut self) {
        self.tasks.abort_all();
    }
}

/// How long the first checks are spread over.
fn spread(targets: usize) -> Duration {
    if targets <= AT_ONCE {
        Duration::ZERO
    } else {
        Duration::from_secs(1).mul_f64(targets as f64 / f64::from(FIRST_PER_SECOND))
    }
}

/// Files that a check holds open.
fn files(check: &HealthCheck) -> u32 {
    let own = match check.kind {
        CheckKind::None => 0,
        CheckKind::Tcp
        | CheckKind::Http(_)
        | CheckKind::Https(..)
        | CheckKind::Grpc { .. }
        | CheckKind::Mysql(_) => 1,
        // Both ends of its output while it starts, and what the runtime waits at.
        CheckKind::Script { .. } => 8,
    };
    own + u32::from(check.agent_port.is_some())
}

/// Files that checks may hold open; the process must keep some.
fn in_flight_limit() -> usize {
    let files = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .map_or(1024, |(soft, _)| soft);
    let limit = files.saturating_sub(RESERVED_FILES).max(files / 2).max(1);
    usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS)
}

/// From the start of one check to that of the next: the interval, give or take a tenth, so that
/// checks of many backends do not fall into step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// Checks one backend for ever.
async fn watch(
    (target, number): (Target, u64),
    (first, haste): (Instant, Arc<Notify>),
    room: Arc<Semaphore>,
    tools: Arc<Tools>,
    reports: Sender<Report>,
) {
    let Target {
        key,
        address,
        through,
        check,
        initial,
    } = target;
    if check.kind == CheckKind::None && check.agent_port.is_none() {
        let report = Report {
            key,
            target: number,
            health: Health::Up,
            passed: None,
            changed: initial != Some(Health::Up),
            detail: "not checked".to_owned(),
            took: Duration::ZERO,
            certificate_ends: None,
            lag: None,
            agent: None,
        };
        let _ = reports.send(report).await;
        return;
    }
    let agent = check
        .agent_port
        .map(|port| SocketAddr::new(address.ip(), port));
    let address = SocketAddr::new(address.ip(), check.port.unwrap_or(address.port()));
    let mut known = initial.unwrap_or(Health::Checking);
    let mut machine = Machine::new(known, check.rise, check.fall);
    let mut word = None;
    let mut next = first;
    loop {
        tokio::select! {
            () = sleep_until(next) => {}
            () = haste.notified() => {}
        }
        let Ok(permit) = room.acquire_many(files(&check)).await else {
            return;
        };
        let start = Instant::now();
        // In a box, so that a backend that is not being asked takes little memory.
        let asked = Box::pin(probe(&key, (address, through), &check, &tools));
        let (outcome, said) = match agent {
            Some(agent) => {
                let deadline = start + check.timeout;
                let (outcome, said) = tokio::join!(asked, agent::ask(agent, deadline, &mut word));
                (outcome, format!("; {said}"))
            }
            None => (asked.await, String::new()),
        };
        drop(permit);
        let Outcome {
            result,
            detail,
            took,
            certificate_ends,
            lag,
        } = outcome;
        let passed = match result {
            probe::Result::Success => Some(true),
            probe::Result::Failure => Some(false),
            probe::Result::NotAsked => None,
        };
        if let Some(passed) = passed {
            machine.result(passed);
        }
        let health = match word {
            Some(AgentWord { is_down: true, .. }) => Health::Down,
            Some(_) | None => machine.health(),
        };
        let changed = std::mem::replace(&mut known, health) != health;
        let report = Report {
            key: key.clone(),
            target: number,
            health,
            passed,
            changed,
            detail: detail + &said,
            took,
            certificate_ends,
            lag,
            agent: word,
        };
        if reports.send(report).await.is_err() {
            return;
        }
        next = start + jittered(check.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Via;

    #[tokio::test]
    async fn a_backend_that_is_not_being_asked_takes_little_memory() {
        let target = Target {
            key: BackendKey {
                service: "web".into(),
                backend: "web1".into(),
            },
            address: ([127, 0, 0, 1], 80).into(),
            through: None,
            check: HealthCheck {
                kind: CheckKind::Tcp,
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                rise: 2,
                fall: 3,
                port: None,
                via: Via::Direct,
                agent_port: None,
            },
            initial: None,
        };
        let (reports, _) = tokio::sync::mpsc::channel(1);
        let (room, tools) = (Arc::new(Semaphore::new(1)), Arc::default());
        let when = (Instant::now(), Arc::default());
        let task = watch((target, 0), when, room, tools, reports);
        let bytes = size_of_val(&task);
        assert!(bytes < 2000, "{bytes} bytes");
    }

    #[test]
    fn many_first_checks_are_spread() {
        assert_eq!(spread(200), Duration::ZERO);
        assert_eq!(spread(5000), Duration::from_secs(1));
    }

    #[test]
    fn jitter_is_a_tenth_at_most() {
        let interval = Duration::from_secs(10);
        let times: Vec<Duration> = (0..1000).map(|_| jittered(interval)).collect();
        assert!(
            times
                .iter()
                .all(|time| (9.0..=11.0).contains(&time.as_secs_f64()))
        );
        assert!(times.iter().any(|time| time.as_secs_f64() < 9.5));
        assert!(times.iter().any(|time| time.as_secs_f64() > 10.5));
    }
}
