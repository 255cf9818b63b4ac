//! What only the workers know they are asked, each in its turn.

use std::{sync::mpsc, time::Duration};

use tokio::sync::mpsc::UnboundedSender;

use super::worker::Worker;
use crate::digest::Report;

/// How long a worker may take to answer; one that takes longer is left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a worker is asked.
#[derive(Debug)]
pub(super) enum Question {
    /// The kinds of statements that it has seen.
    Digests(mpsc::Sender<Report>),
    /// To close an idle connection to that server.
    CloseIdle(usize),
}

impl Question {
    /// Answers. Who does not wait any more is not told.
    pub(super) fn answer(self, worker: &Worker) {
        match self {
            Self::Digests(asker) => {
                let digests = worker.digests.as_ref();
                let report = digests.map(|digests| digests.borrow().report());
                let _ = asker.send(report.unwrap_or_default());
            }
            Self::CloseIdle(server) => {
                worker.close_idle(server);
            }
        }
    }
}

/// The kinds of statements that all of them have seen.
pub(super) fn digests(workers: &[UnboundedSender<Question>]) -> Report {
    let (sender, answers) = mpsc::channel();
    let asked = workers.iter().filter(|worker| {
        let question = Question::Digests(sender.clone());
        worker.send(question).is_ok()
    });
    let asked = asked.count();
    drop(sender);
    let mut all = Report::default();
    for _ in 0..asked {
        match answers.recv_timeout(PATIENCE) {
            Ok(report) => all.merge(report),
            Err(_) => break,
        }
    }
    all
}
