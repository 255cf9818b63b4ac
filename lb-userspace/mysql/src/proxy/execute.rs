//! Prepared statements at work: each execution is routed, and what belongs to one follows it.

use std::{rc::Rc, time::Instant};

use super::{
    connection::Connection,
    obtain::Unobtained,
    peer::Lost,
    prepared::Text,
    query::{Asked, Sent, TRIES, framed, refusal},
    relay::Broken,
    session::{Next, Session, lost_words},
    trouble::Trouble,
};
use crate::{
    gtid::Family,
    route::{Decision, Server, Target},
    sql::classify,
    wire::{
        Status,
        command::{LAST_PREPARED, set_statement},
        error::Refusal,
        execute::Execute,
        reply::Expect,
    },
};

/// The error for a statement that the client has not prepared.
fn unknown(id: u32, command: &str) -> Vec<u8> {
    let words = format!("Unknown prepared statement handler ({id}) given to mysqld_stmt_{command}");
    refusal(&Refusal::new(1243, b"HY000", &words))
}

impl Session {
    /// `COM_STMT_EXECUTE`.
    pub(super) async fn execute(
        &mut self,
        payload: &[u8],
        reply: u8,
        id: u32,
    ) -> Result<Next, Lost> {
        let id = self.meant(id);
        let capabilities = self.capabilities;
        let Some(statement) = self.prepared.get_mut(&id) else {
            return self.give_up(reply, &unknown(id, "execute")).await;
        };
        let text = Rc::clone(&statement.text);
        let read = Execute::read(payload, text.parameters, capabilities);
        let read = read.ok().filter(|execute| {
            let types = execute.types.unwrap_or_default();
            text.has_room_for(types)
        });
        let Some(execute) = read else {
            let malformed =
                Refusal::new(1210, b"HY000", "Incorrect arguments to mysqld_stmt_execute");
            return self.give_up(reply, &refusal(&malformed)).await;
        };
        if let Some(types) = execute.types {
            statement.types = Some(types.into());
        }
        let (types, bound) = (statement.types.clone(), statement.bound);
        let mut decision = self.decide_prepared(&text);
        let began = Instant::now();
        let (mut tries, mut is_write) = (0, false);
        loop {
            tries += 1;
            let found = match bound {
                Some(server) => self.bound(server),
                None => {
                    let whole = Some((&text.sql[..], &text.known));
                    self.place(&mut decision, whole, tries).await
                }
            };
            let (server, mut connection) = match found {
                Ok(found) => found,
                Err(refused) => {
                    self.give_up(reply, &refused).await?;
                    return Ok(self.after_refusal(&decision));
                }
            };
            if let Err(refused) = self.before(&mut connection, &decision).await {
                self.give_up(reply, &refused).await?;
                return Ok(Next::End);
            }
            let learned = self
                .learn_routines(&mut connection, &text.sql, &text.known, decision.reason)
                .await
                .map_err(Unobtained::from);
            let own = match learned {
                Ok(()) => self.prepare_on(&mut connection, id, &text).await,
                Err(lost) => Err(lost),
            };
            let own = match own {
                Ok(own) => own,
                Err(Unobtained::Refused(refused) | Unobtained::Full(refused)) => {
                    self.put_away(connection);
                    return self.give_up(reply, &refused).await;
                }
                Err(Unobtained::Trouble(_) | Unobtained::Gone) => {
                    let broken = Broken::Server(Lost::Closed);
                    if self.is_again(&decision, tries) && bound.is_none() {
                        continue;
                    }
                    return self
                        .lost(connection, reply, &broken, false, &decision)
                        .await;
                }
            };
            let mut sent = Vec::with_capacity(payload.len() + 16);
            match &types {
                Some(types) if !own.has_types => execute.complete(types, &mut sent),
                Some(_) | None => sent.extend_from_slice(payload),
            }
            // It has room for the id: it was read from there.
            let _ = set_statement(&mut sent, own.id);
            let (command, reply) = framed(&sent);
            // What was sent to the replica before would have to be sent again.
            let mut asked = self.asked(Expect::Results, (&text.known, &decision));
            asked.turns &= bound.is_none();
            asked.may_write |= is_write;
            let sent = self.exchange(&mut connection, &command, reply, asked).await;
            match sent {
                Sent::TurnedBack(refused) => {
                    is_write = true;
                    self.put_away(connection);
                    decision = match self.turn_back(server, decision, refused, began).await {
                        Ok(decision) => decision,
                        Err(refused) => return self.give_up(reply, &refused).await,
                    };
                }
                Sent::Answered(told) => {
                    if let Some(own) = connection.statements.get_mut(&id) {
                        own.has_types |= types.is_some();
                    }
                    let has_cursor = told.status.is_some_and(|status| {
                        status.has(Status::CURSOR_EXISTS) && !status.has(Status::LAST_ROW_SENT)
                    }) && execute.wants_cursor;
                    self.set_open(&mut connection, id, has_cursor);
                    self.after(&mut connection, &text.sql, &text.known, &decision, &told);
                    self.account(server, &text.sql, &decision, began, &told);
                    self.put_away(connection);
                    return Ok(Next::Command);
                }
                Sent::Lost(Broken::Client(lost), _) => return Err(lost),
                Sent::Lost(broken, has_forwarded) => {
                    self.note_trouble(server, &broken);
                    if !has_forwarded && self.is_again(&decision, tries) && bound.is_none() {
                        self.worker.shared.count_trouble(Trouble::Retried);
                        continue;
                    }
                    return self
                        .lost(connection, reply, &broken, has_forwarded, &decision)
                        .await;
                }
            }
        }
    }

    /// Whether a read that was lost can be done elsewhere.
    fn is_again(&self, decision: &Decision, tries: usize) -> bool {
        tries < TRIES
            && decision.server() == Some(Server::Replica)
            && !decision.same_connection
            && self.state.transaction().is_none()
    }

    /// The statement that a client means.
    const fn meant(&self, id: u32) -> u32 {
        match id {
            LAST_PREPARED => self.last_prepared,
            id => id,
        }
    }

    /// Where a prepared statement goes. What the proxy would answer itself a server has to, and
    /// what was prepared while the session was another means something else on a replica.
    fn decide_prepared(&self, text: &Text) -> Decision {
        let decision = self.decide(&text.sql, &text.known);
        if decision.target == Target::Proxy || text.environment != self.state.environment() {
            return self.unknown_decision();
        }
        decision
    }

    /// As for a statement that nothing is known of.
    pub(super) fn unknown_decision(&self) -> Decision {
        self.decide(b"", &classify(b"", self.state.dialect()))
    }

    /// The connection that has something of a statement already.
    fn bound(&mut self, server: usize) -> Result<(usize, Connection), Vec<u8>> {
        match self.held.iter().position(|held| held.server == server) {
            Some(at) => Ok((server, self.held.swap_remove(at))),
            None => Err(refusal(&lost_words(&Broken::Server(Lost::Closed)))),
        }
    }

    /// Whether something of a statement is open on a connection.
    fn set_open(&mut self, connection: &mut Connection, id: u32, is_open: bool) {
        if is_open {
            connection.open.insert(id);
        } else {
            connection.open.remove(&id);
        }
        if let Some(statement) = self.prepared.get_mut(&id) {
            statement.bound = is_open.then_some(connection.server);
        }
        if self.worker.view().primary == Ok(connection.server) {
            self.state.set_cursor(!connection.open.is_empty());
        }
    }

    /// `COM_STMT_SEND_LONG_DATA`: it goes to where the execution will go. There is no answer:
    /// whatever goes wrong is said by the execution.
    pub(super) async fn long_data(&mut self, payload: &[u8], id: u32) -> Result<Next, Lost> {
        let id = self.meant(id);
        let Some(statement) = self.prepared.get(&id) else {
            return Ok(Next::Command);
        };
        let (text, bound) = (Rc::clone(&statement.text), statement.bound);
        let mut decision = self.decide_prepared(&text);
        if decision.target == Target::Replica && !self.state.holds_replica() {
            // A transaction may begin before it is executed.
            decision = self.unknown_decision();
        }
        let found = match bound {
            Some(server) => self.bound(server),
            None => self.place(&mut decision, None, 1).await,
        };
        let Ok((_, mut connection)) = found else {
            return Ok(Next::Command);
        };
        if let Ok(own) = self.prepare_on(&mut connection, id, &text).await {
            let mut sent = payload.to_vec();
            // It has room for the id: it was read from there.
            let _ = set_statement(&mut sent, own.id);
            let (command, _) = framed(&sent);
            if connection.peer.write_all(&command).await.is_ok() {
                self.set_open(&mut connection, id, true);
            }
        }
        self.put_away(connection);
        Ok(Next::Command)
    }

    /// `COM_STMT_FETCH`.
    pub(super) async fn fetch(&mut self, payload: &[u8], reply: u8, id: u32) -> Result<Next, Lost> {
        let id = self.meant(id);
        match self.prepared.get(&id).map(|statement| statement.bound) {
            None => self.give_up(reply, &unknown(id, "fetch")).await,
            Some(None) => {
                let end = match self.face.family {
                    Family::MySql => ".",
                    Family::MariaDb => "",
                };
                let none = format!("The statement ({id}) has no open cursor{end}");
                let none = refusal(&Refusal::new(1421, b"HY000", &none));
                self.give_up(reply, &none).await
            }
            Some(Some(server)) => {
                self.follow(payload, reply, (id, server), Expect::Rows)
                    .await
            }
        }
    }

    /// `COM_STMT_RESET`.
    pub(super) async fn reset_statement(
        &mut self,
        payload: &[u8],
        reply: u8,
        id: u32,
    ) -> Result<Next, Lost> {
        let id = self.meant(id);
        match self.prepared.get(&id).map(|statement| statement.bound) {
            None => self.give_up(reply, &unknown(id, "reset")).await,
            Some(None) => {
                // No server has anything of it.
                self.done(reply).await?;
                Ok(Next::Command)
            }
            Some(Some(server)) => {
                self.follow(payload, reply, (id, server), Expect::Done)
                    .await
            }
        }
    }

    /// Sends a command to the connection that has something of a statement.
    async fn follow(
        &mut self,
        payload: &[u8],
        reply: u8,
        (id, server): (u32, usize),
        expect: Expect,
    ) -> Result<Next, Lost> {
        let (_, mut connection) = match self.bound(server) {
            Ok(found) => found,
            Err(refused) => return self.give_up(reply, &refused).await,
        };
        let own = connection.statements.get(&id).map_or(0, |own| own.id);
        let mut sent = payload.to_vec();
        // It has room for the id: it was read from there.
        let _ = set_statement(&mut sent, own);
        let (command, reply) = framed(&sent);
        // What a cursor reads was written by its execution.
        let asked = Asked {
            expect,
            turns: false,
            may_write: false,
        };
        let sent = self.exchange(&mut connection, &command, reply, asked).await;
        match sent {
            // Nobody asked for it.
            Sent::TurnedBack(_) => Ok(Next::Command),
            Sent::Answered(told) => {
                let is_over = expect == Expect::Done
                    || told.failed
                    || told
                        .status
                        .is_some_and(|status| status.has(Status::LAST_ROW_SENT));
                if is_over {
                    self.set_open(&mut connection, id, false);
                }
                self.put_away(connection);
                Ok(Next::Command)
            }
            Sent::Lost(Broken::Client(lost), _) => Err(lost),
            Sent::Lost(broken, has_forwarded) => {
                let decision = self.unknown_decision();
                self.lost(connection, reply, &broken, has_forwarded, &decision)
                    .await
            }
        }
    }
}
