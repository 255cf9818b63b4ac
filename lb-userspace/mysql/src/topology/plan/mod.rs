//! Another primary on purpose: what to do in which order, and back again when it fails.
//!
//! A [`Plan`] is a pure state machine. The runtime asks for the [`Plan::next_order`] order, does
//! it, tells [`Plan::answered`] what came of it, and so on until there is none; then [`Plan::end`]
//! says how it ended. Everything that was done before a step failed is undone in reverse, up to the
//! one step after which there is no way back: the candidate takes writes. When it is not known
//! whether that step was done, nothing is undone, because the former primary must not take writes
//! beside it.

mod automatic;
mod check;
mod failover;
mod rejoin;
mod sql;
mod switchover;

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

pub use self::{
    automatic::{Automatic, Due},
    check::{ReplicationAccount, Times},
    failover::{best_candidate, failover},
    rejoin::rejoin,
    sql::{Statement, fence},
    switchover::switchover,
};
use super::Name;
use crate::gtid::{Family, GtidSet, Waited, waited};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Begin no transaction on the primary any more, and wait for so long at most until those that
    /// are open have ended. Refused when they do not end.
    HoldWrites {
        /// How long.
        most: Duration,
    },
    /// Let writes go on, to whoever is the primary.
    ReleaseWrites,
    /// Make sure that no other proxy does the same: the lease is held for so long from now on.
    /// Refused when it is not.
    HoldLease {
        /// How long.
        least: Duration,
    },
    /// Run statements on a server, in order, on one connection. The answer is the first value of
    /// the last one.
    Run {
        /// Its place in the list.
        server: usize,
        /// What to run.
        statements: Vec<Statement>,
        /// How long all may take.
        most: Duration,
    },
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; the first value, where there is one that is not NULL.
    Done(Option<Vec<u8>>),
    /// Certainly not done; why.
    Refused(String),
    /// It may have been done or not: no answer in time, or the connection was lost.
    Unknown(String),
}

/// How a plan ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// What was wanted is so.
    Done,
    /// All is as it was.
    Undone,
    /// It is not as it was; the report says what is left to do by hand.
    Stuck,
}

/// One step.
#[derive(Clone, Debug)]
struct Step {
    /// For the report: "hold writes".
    what: String,
    act: Act,
    /// What takes it back once it was done or may have been, on the server it was done on.
    undo: Option<Act>,
    on_failure: OnFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnFailure {
    /// Undo everything before it; it as well if it may have been done.
    Undo,
    /// If it was certainly not done, undo; else there is no way back.
    NoWayBack,
    /// Say so and go on.
    Report,
}

/// What a step does, before positions are known.
#[derive(Clone, Debug)]
enum Act {
    Hold(Duration),
    Release,
    Lease(Duration),
    Run(usize, Vec<Statement>, Duration),
    /// Asks for all that a server has, which is the position from then on.
    AskPosition(usize, Statement, Duration),
    /// Waits until a server has it.
    AwaitPosition(usize, Duration),
    /// Waits until a server has applied these.
    Await(usize, GtidSet, Duration),
    /// Cannot be done; why.
    ByHand(String),
    /// Sets MariaDB's place in a source's log to the position, then runs.
    StartAtPosition(usize, Vec<Statement>, Duration),
}

/// A plan that is being carried out.
#[derive(Clone, Debug)]
pub struct Plan {
    family: Family,
    names: Vec<Name>,
    steps: VecDeque<Step>,
    /// Done, with what takes them back, in the order in which they were done.
    done: Vec<(String, Act)>,
    current: Option<Current>,
    position: GtidSet,
    report: Vec<String>,
    failed: Option<End>,
}

#[derive(Clone, Debug)]
enum Current {
    Forward(Step),
    Back(String),
}

impl Plan {
    fn new(family: Family, names: Vec<Name>, steps: Vec<Step>) -> Self {
        Self {
            family,
            names,
            steps: steps.into(),
            done: Vec::new(),
            current: None,
            position: GtidSet::empty(family),
            report: Vec::new(),
            failed: None,
        }
    }

    /// What all steps are, as sentences, before anything is done.
    #[must_use]
    pub fn outline(&self) -> Vec<String> {
        self.steps.iter().map(|step| step.what.clone()).collect()
    }

    /// What was done and what failed, so far.
    #[must_use]
    pub fn report(&self) -> &[String] {
        &self.report
    }

    /// What to do next; nothing at the end. The same again until it is answered.
    pub fn next_order(&mut self) -> Option<Order> {
        loop {
            let (act, is_back) = match &self.current {
                Some(Current::Forward(step)) => (step.act.clone(), false),
                Some(Current::Back(_)) => (self.done.last()?.1.clone(), true),
                None if self.failed.is_some() => {
                    let (what, _) = self.done.last()?;
                    self.current = Some(Current::Back(what.clone()));
                    continue;
                }
                None => {
                    self.current = Some(Current::Forward(self.steps.pop_front()?));
                    continue;
                }
            };
            if let Act::ByHand(why) = act {
                self.answered(&Answer::Refused(why));
                continue;
            }
            match self.order_of(act) {
                Some(order) => return Some(order),
                // There is nothing to wait for.
                None if is_back => {
                    self.done.pop();
                    self.current = None;
                }
                None => self.answered(&Answer::Done(Some(b"0".to_vec()))),
            }
        }
    }

    fn order_of(&self, act: Act) -> Option<Order> {
        let run = |server, statements, most| Order::Run {
            server,
            statements,
            most,
        };
        let wait = |server, set: &GtidSet, most| {
            let statement = set.wait_statement(most)?;
            // The wait ends by itself; what is more is for the way.
            let patience = most + Duration::from_secs(2);
            Some(run(server, vec![Statement::plain(statement)], patience))
        };
        Some(match act {
            Act::Hold(most) => Order::HoldWrites { most },
            Act::Release => Order::ReleaseWrites,
            Act::Lease(least) => Order::HoldLease { least },
            Act::ByHand(_) => return None,
            Act::Run(server, statements, most) => run(server, statements, most),
            Act::AskPosition(server, statement, most) => run(server, vec![statement], most),
            Act::AwaitPosition(server, most) => return wait(server, &self.position, most),
            Act::Await(server, set, most) => return wait(server, &set, most),
            Act::StartAtPosition(server, mut statements, most) => {
                if self.family == Family::MariaDb {
                    statements.insert(0, sql::set_position(&self.position));
                }
                run(server, statements, most)
            }
        })
    }

    /// What came of the order.
    pub fn answered(&mut self, answer: &Answer) {
        match self.current.take() {
            None => {}
            Some(Current::Back(what)) => {
                self.done.pop();
                match answer {
                    Answer::Done(_) => self.report.push(format!("taken back: {what}")),
                    Answer::Refused(why) | Answer::Unknown(why) => {
                        self.failed = Some(End::Stuck);
                        self.report.push(format!("not taken back: {what}: {why}"));
                    }
                }
            }
            Some(Current::Forward(step)) => match self.outcome(&step, answer) {
                Ok(()) => {
                    self.report.push(format!("done: {}", step.what));
                    self.keep(step);
                }
                Err(why) => self.fail(step, &why, matches!(answer, Answer::Refused(_))),
            },
        }
    }

    /// Whether an answer is the one that was wanted.
    fn outcome(&mut self, step: &Step, answer: &Answer) -> Result<(), String> {
        let value = match answer {
            Answer::Done(value) => value.as_deref(),
            Answer::Refused(why) | Answer::Unknown(why) => return Err(why.clone()),
        };
        match &step.act {
            Act::AskPosition(..) => {
                let text = std::str::from_utf8(value.unwrap_or_default());
                let text = text.map_err(|_| "the position is no text".to_owned())?;
                let set = GtidSet::parse(self.family, text);
                self.position = set.map_err(|error| error.to_string())?;
                Ok(())
            }
            Act::AwaitPosition(..) | Act::Await(..) => match waited(value) {
                Waited::Reached => Ok(()),
                Waited::TimedOut => Err("it was not reached in time".to_owned()),
                Waited::Impossible => Err("the server cannot wait for it".to_owned()),
            },
            Act::Hold(_)
            | Act::Release
            | Act::Lease(_)
            | Act::ByHand(_)
            | Act::Run(..)
            | Act::StartAtPosition(..) => Ok(()),
        }
    }

    fn keep(&mut self, step: Step) {
        if step.on_failure == OnFailure::NoWayBack {
            self.done.clear();
        } else if let Some(undo) = step.undo {
            self.done.push((step.what, undo));
        }
    }

    fn fail(&mut self, step: Step, why: &str, is_certain: bool) {
        let what = &step.what;
        match step.on_failure {
            OnFailure::Report => {
                self.report
                    .push(format!("left to be done by hand: {what}: {why}"));
            }
            OnFailure::NoWayBack if !is_certain => {
                self.report.push(format!(
                    "it is not known whether this was done: {what}: {why}. Nothing was taken back, \
                     so that no two servers take writes: look at read_only on {}",
                    listed(&self.names)
                ));
                self.failed = Some(End::Stuck);
                self.steps.clear();
                // Writes may go on, to whichever server takes them.
                self.done = vec![("hold writes".to_owned(), Act::Release)];
            }
            OnFailure::Undo | OnFailure::NoWayBack => {
                self.report.push(format!("failed: {what}: {why}"));
                self.failed = Some(End::Undone);
                self.steps.clear();
                // Of several statements the first ones may have been done.
                let is_whole = !matches!(&step.act, Act::Run(_, run, _) if run.len() > 1);
                if let (false, Some(undo)) = (is_certain && is_whole, step.undo) {
                    self.done.push((step.what, undo));
                }
            }
        }
    }

    /// How it ended; nothing while it goes on.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        let is_over = self.current.is_none()
            && (self.steps.is_empty() && (self.failed.is_none() || self.done.is_empty()));
        is_over.then(|| self.failed.clone().unwrap_or(End::Done))
    }
}

fn listed(names: &[Name]) -> String {
    super::view::listed(names)
}
