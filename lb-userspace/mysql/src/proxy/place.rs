//! The server that a statement goes to, and a connection to it that is ready.

use std::time::Instant;

use super::{
    connection::Connection,
    moving,
    obtain::Unobtained,
    peer::Lost,
    query::refusal,
    relay::Broken,
    session::{Session, lost_words},
    trouble::Trouble,
};
use crate::{
    route::{Before, Decision, Reason, Server, Target},
    sql::Statement,
    wire::{command::Command, error::Refusal, reply::Expect},
};

impl Session {
    /// The server that a decision leads to, and a connection to it with the session's state. Where a
    /// replica stands in for the primary the decision says so from then on; of what is not a whole
    /// statement it never does.
    pub(super) async fn place(
        &mut self,
        decision: &mut Decision,
        whole: Option<(&[u8], &Statement)>,
        tries: usize,
    ) -> Result<(usize, Connection), Vec<u8>> {
        self.running.decided(decision.target, decision.reason);
        let mut is_replica = decision.server() == Some(Server::Replica);
        let (mut may_do_without, asked) = (true, decision.target);
        let end = tokio::time::Instant::now() + self.worker.shared.now().primary_wait;
        loop {
            let view = self.worker.view();
            // It may be lost only just now.
            if may_do_without
                && let Some((sql, statement)) = whole
                && self.does_without_primary(sql, statement, decision)
            {
                (is_replica, may_do_without) = (true, false);
                decision.target = Target::Replica;
            }
            let server = if is_replica {
                match self.reader(&view, decision, tries).await {
                    Some(server) => server,
                    None => {
                        is_replica = false;
                        decision.target = asked;
                        continue;
                    }
                }
            } else {
                self.enter_primary(decision).await?
            };
            self.count_under_way(&view, server);
            let moved = !is_replica
                && self.state.holds_primary()
                && self.home.is_some_and(|home| home != server);
            let mut luggage = Vec::new();
            if moved {
                match self.leave_home().await {
                    Some(statements) => luggage = statements,
                    // What the session had at the former primary does not come along.
                    None => return Err(refusal(&lost_words(&Broken::Server(Lost::Closed)))),
                }
            }
            // Whoever is the primary when the answer comes.
            self.as_primary = (!is_replica).then_some(server);
            let own = decision.same_connection;
            let wants_all = !is_replica || view.primary == Ok(server);
            let mut obtained = self.obtain(server, !wants_all, own).await;
            if let (Ok(connection), false) = (&mut obtained, luggage.is_empty()) {
                obtained = match moving::arrive(connection, &luggage).await {
                    Ok(()) => obtained,
                    Err(failed) => Err(failed),
                };
            }
            match obtained {
                Ok(connection) => {
                    // Also the primary, where it answers for one: what is asked about the statement
                    // has to go there, and a transaction to go on.
                    if decision.server() == Some(Server::Replica) {
                        self.replica = Some(server);
                    }
                    return Ok((server, connection));
                }
                Err(Unobtained::Gone) => {
                    let gone = "lb has given away the connection of the last statement, which this \
                                one is about; use a transaction, or ask at once";
                    return Err(refusal(&Refusal::new(1105, b"HY000", gone)));
                }
                Err(Unobtained::Full(payload)) => {
                    self.worker.shared.count_trouble(Trouble::ServerFull);
                    return Err(payload);
                }
                // A transaction that is open there cannot go on elsewhere.
                Err(Unobtained::Refused(payload)) if !is_replica => return Err(payload),
                Err(Unobtained::Trouble(sentence)) if !is_replica => {
                    self.tell_trouble(server, &sentence);
                    if !own && self.wait_for_another(end).await {
                        continue;
                    }
                    return Err(refusal(&Refusal::new(
                        1158,
                        b"08S01",
                        &format!("lb has no connection to the primary: {sentence}"),
                    )));
                }
                // What the session has there is gone with it.
                Err(Unobtained::Trouble(sentence)) if own || self.state.holds_replica() => {
                    self.tell_trouble(server, &sentence);
                    return Err(refusal(&lost_words(&Broken::Server(Lost::Closed))));
                }
                Err(Unobtained::Trouble(sentence)) => {
                    self.tell_trouble(server, &sentence);
                    is_replica = false;
                    decision.target = asked;
                }
                Err(Unobtained::Refused(payload)) => {
                    self.worker.shared.count_trouble(Trouble::StateRefused);
                    let refused = Refusal::read(&payload);
                    let words = refused.map_or(&b""[..], |refused| refused.message);
                    let words = String::from_utf8_lossy(words);
                    self.tell_trouble(server, &format!("a session's state was refused: {words}"));
                    is_replica = false;
                    decision.target = asked;
                }
            }
        }
    }

    /// Whether a replica may take what is otherwise the primary's: while there is none, so that
    /// clients that set or ask for something when they come in can read. What is set is replayed
    /// on the primary later.
    fn does_without_primary(&self, sql: &[u8], statement: &Statement, decision: &Decision) -> bool {
        let may = match (decision.target, decision.reason) {
            (Target::Both, Reason::SessionState) => self.state.replays(sql, statement),
            (Target::Primary, Reason::SystemVariable) => true,
            _ => false,
        };
        may && decision.before == Before::Nothing
            && decision.pins.is_empty()
            && !decision.same_connection
            && !self.state.holds_primary()
            && self.state.transaction().is_none()
            && self.worker.view().primary.is_err()
    }

    /// The primary. While there is none it is waited for.
    pub(super) async fn primary(&self) -> Result<usize, Vec<u8>> {
        let end = tokio::time::Instant::now() + self.worker.shared.now().primary_wait;
        loop {
            let why = match &self.worker.view().primary {
                Ok(primary) => return Ok(*primary),
                Err(why) => why.clone(),
            };
            let changed = self.worker.view_changed();
            if tokio::time::timeout_at(end, changed).await.is_err() {
                self.worker.shared.count_trouble(Trouble::NoPrimary);
                let sentence = format!("lb knows no primary to write to: {why}");
                return Err(refusal(&Refusal::new(1290, b"HY000", &sentence)));
            }
        }
    }

    /// What a decision asks for first.
    pub(super) async fn before(
        &mut self,
        connection: &mut Connection,
        decision: &Decision,
    ) -> Result<(), Vec<u8>> {
        let run = match decision.before {
            Before::Nothing => return Ok(()),
            Before::SetTransaction => {
                let statement = self.state.next_transaction().unwrap_or_default().to_vec();
                run_on(connection, &statement).await
            }
            Before::EndReplicaTransaction => self.end_on_replica(connection).await,
            Before::MoveTransaction => match self.end_on_replica(connection).await {
                Ok(()) => run_on(connection, b"START TRANSACTION READ ONLY").await,
                failed => failed,
            },
        };
        match run {
            Ok(()) => Ok(()),
            Err(Unobtained::Refused(payload) | Unobtained::Full(payload)) => Err(payload),
            Err(Unobtained::Trouble(_) | Unobtained::Gone) => {
                Err(refusal(&lost_words(&Broken::Server(Lost::Closed))))
            }
        }
    }

    /// Ends the transaction that is open on the replica.
    async fn end_on_replica(&mut self, connection: &mut Connection) -> Result<(), Unobtained> {
        let Some(replica) = self.replica else {
            return Ok(());
        };
        if connection.server == replica {
            return run_on(connection, b"COMMIT").await;
        }
        if let Some(at) = self.held.iter().position(|held| held.server == replica) {
            let mut held = self.held.swap_remove(at);
            run_on(&mut held, b"COMMIT").await?;
            held.owner = self.owner();
            held.used = Instant::now();
            let place = self.worker.pool.borrow_mut().put(held);
            self.places.push((replica, place));
        }
        Ok(())
    }
}

/// Runs a statement of our own.
pub(super) async fn run_on(
    connection: &mut Connection,
    statement: &[u8],
) -> Result<(), Unobtained> {
    connection.send(Command::Query, statement).await?;
    match connection.answer(Expect::Results).await? {
        super::connection::Answer::Refused(payload) => Err(Unobtained::Refused(payload)),
        super::connection::Answer::Rows(..) | super::connection::Answer::Done => Ok(()),
    }
}
