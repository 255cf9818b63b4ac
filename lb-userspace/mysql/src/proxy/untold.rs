//! Writes that answers do not tell of. Rows end with an EOF packet for clients without
//! `DEPRECATE_EOF`, and there is no room in it for what was written, as by INSERT … RETURNING or by
//! a function; nor is there in an error behind a part that was done. Whoever must see such a write
//! has the primary asked for all that it has, once for all who want to know at the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{
    connect::Failure,
    connection::{Answer, Connection},
    obtain::first_value,
    shared::Shared,
    watch::log_in,
};
use crate::{
    gtid::{self, Family, GtidSet},
    sql::{Class, Facts, Statement},
};

/// How long the primary may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Before it is asked again that has not answered.
const AGAIN: Duration = Duration::from_secs(1);

/// A write that was not told, by their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// What the primary has answered.
#[derive(Clone, Debug, Default)]
struct Known {
    /// All up to this one are among what it had.
    ticket: u64,
    set: Option<GtidSet>,
}

/// Writes that were not told.
#[derive(Debug, Default)]
pub(super) struct Untold {
    given: AtomicU64,
    wake: Notify,
    known: watch::Sender<Known>,
}

impl Untold {
    /// There is one more. It has to be taken before a client knows that its statement is done.
    pub(super) fn take(&self) -> Ticket {
        Ticket(self.given.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// The last one of all sessions, if it is not known yet what was written.
    pub(super) fn last(&self) -> Option<Ticket> {
        let given = self.given.load(Ordering::Acquire);
        (given > self.known.borrow().ticket).then_some(Ticket(given))
    }

    /// What the primary had that had written this, at least. None if it does not say so in time;
    /// nothing where servers have no GTIDs.
    pub(super) async fn learn(&self, ticket: Ticket, most: Duration) -> Option<Option<GtidSet>> {
        let mut known = self.known.subscribe();
        if known.borrow().ticket < ticket.0 {
            self.wake.notify_one();
        }
        let answered = known.wait_for(|known| known.ticket >= ticket.0);
        let known = timeout(most, answered).await.ok()?.ok()?;
        Some(known.set.clone())
    }

    /// Has the primary asked once more, if anybody still waits.
    fn ask_again(&self) {
        if self.known.receiver_count() > 0 {
            self.wake.notify_one();
        }
    }
}

/// Asks the primary whenever somebody wants to know, for as long as it is polled.
pub(super) async fn ask(shared: &Arc<Shared>) {
    let untold = &shared.untold;
    let mut view = shared.view.subscribe();
    let mut connection = None;
    loop {
        untold.wake.notified().await;
        // What is written later is not among what it has now.
        let ticket = untold.given.load(Ordering::Acquire);
        if ticket == untold.known.borrow().ticket {
            continue;
        }
        let primary = view.borrow_and_update().primary.clone();
        let Ok(primary) = primary else {
            if view.changed().await.is_err() {
                return;
            }
            untold.ask_again();
            continue;
        };
        match timeout(PATIENCE, position(shared, primary, &mut connection)).await {
            Ok(Ok(set)) => {
                if let Some(set) = &set {
                    shared.note_written(set);
                }
                untold.known.send_replace(Known { ticket, set });
            }
            Ok(Err(_)) | Err(_) => {
                connection = None;
                let name = &shared.settings.servers[primary].name;
                shared.tell_rarely(&format!(
                    "mysql: server {name}: it does not say what it has written; reads that must \
                     see that go to the primary"
                ));
                sleep(AGAIN).await;
                untold.ask_again();
            }
        }
    }
}

/// All that a server has written.
async fn position(
    shared: &Arc<Shared>,
    server: usize,
    connection: &mut Option<Connection>,
) -> Result<Option<GtidSet>, Failure> {
    let known = connection.take().filter(|known| known.server == server);
    let connection = match known {
        Some(known) => connection.insert(known),
        None => connection.insert(log_in(shared, server).await?.connection),
    };
    let greeting = shared.view.borrow().greeting.clone();
    let family = greeting.map_or(Family::MySql, |face| face.family);
    let trouble = |words: &dyn std::fmt::Display| Failure::Trouble(words.to_string());
    let answer = connection.query(gtid::position_statement(family)).await;
    let (columns, rows) = match answer.map_err(|broken| trouble(&broken))? {
        Answer::Rows(columns, rows) => (columns, rows),
        Answer::Refused(payload) => return Err(Failure::Refused(payload)),
        Answer::Done => return Err(trouble(&"no answer")),
    };
    let text = first_value(columns, &rows).unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|error| trouble(&error))?;
    let set = GtidSet::parse(family, text).map_err(|error| trouble(&error))?;
    Ok((!set.is_empty()).then_some(set))
}

/// Whether a statement may have written something when its rows or an error come: by itself, by
/// what it calls, which does not always do as it says, or by a commit that comes before it.
pub(super) fn may_write(statement: &Statement) -> bool {
    let reads = matches!(
        statement.class,
        Class::Read
            | Class::LockingRead
            | Class::SelectInto
            | Class::Do
            | Class::Use
            | Class::ShowServer
            | Class::Diagnostics
            | Class::Handler
            | Class::Kill
            | Class::Empty
    );
    !reads || statement.has(Facts::SEQUENCE) || statement.has(Facts::CALLS)
}
