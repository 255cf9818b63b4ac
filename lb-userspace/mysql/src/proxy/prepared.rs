//! Prepared statements of the binary protocol: classified once, routed at each execution, and
//! prepared on a server when they are first executed there.

use super::{
    connection::{Connection, Own},
    obtain::Unobtained,
    peer::Lost,
    query::{framed, refusal},
    relay::{Broken, Relay, swallow},
    session::{Next, Session, Told, lost_words},
};
use crate::{
    route::{Decision, Server, Target},
    sql::{self, classify},
    wire::{
        Status,
        command::{Command, LAST_PREPARED, set_statement},
        error::Refusal,
        execute::Execute,
        packet::HEADER,
        reply::{Event, Expect, Packet},
    },
};

/// Statements that a session may have prepared.
const MOST: usize = 16_382;
/// Bytes of an answer to our own preparation.
const MOST_ANSWER: usize = 1 << 20;

/// A prepared statement of a client.
#[derive(Debug)]
pub(super) struct Statement {
    sql: Box<[u8]>,
    known: sql::Statement,
    parameters: u16,
    /// Of its parameters, as they were sent last.
    types: Option<Vec<u8>>,
    /// What the session was like, so that it means the same elsewhere.
    environment: u64,
    /// The server that has parts of its parameters, or its cursor.
    bound: Option<usize>,
}

fn unknown(command: &str) -> Refusal<'static> {
    let words = match command {
        "fetch" => "Unknown prepared statement handler given to mysqld_stmt_fetch",
        "reset" => "Unknown prepared statement handler given to mysqld_stmt_reset",
        _ => "Unknown prepared statement handler given to mysqld_stmt_execute",
    };
    Refusal::new(1243, b"HY000", words)
}

impl Session {
    /// `COM_STMT_PREPARE`.
    pub(super) async fn prepare(
        &mut self,
        framed: &[u8],
        reply: u8,
        sql: &[u8],
    ) -> Result<Next, Lost> {
        if self.prepared.len() >= MOST {
            let many = "Can't create more than max_prepared_stmt_count statements";
            self.refuse(&Refusal::new(1461, b"42000", many)).await?;
            return Ok(Next::Command);
        }
        let known = classify(sql, self.state.dialect());
        let mut decision = self.decide(sql, &known);
        if decision.target != Target::Replica {
            decision = self.decide(b"", &classify(b"", self.state.dialect()));
        }
        let id = self.next_id();
        let (server, mut connection) = match self.place(&decision, 1).await {
            Ok(found) => found,
            Err(payload) => return self.give_up(reply, &payload).await,
        };
        let mut prepared = None;
        let mut told = Told::default();
        let capabilities = self.capabilities;
        let result = {
            if let Err(lost) = connection.peer.write_all(framed).await {
                return self
                    .prepare_lost(connection, reply, &Broken::Server(lost))
                    .await;
            }
            let Connection { peer, watch, .. } = &mut connection;
            watch.begin(Expect::Prepared, reply);
            let mut relay = Relay {
                client: &mut self.client,
                server: peer,
                watch,
                has_forwarded: false,
            };
            let mut see = |event: &Event<'_>, instead: &mut Vec<u8>| {
                if let Packet::Prepared(own) = event.packet {
                    prepared = Some(own);
                    instead.extend_from_slice(&event.raw[HEADER..]);
                    // It has room for the id: it was read from there.
                    let _ = set_statement(instead, id);
                    return super::relay::Treatment::Replace;
                }
                told.see(event, capabilities, instead)
            };
            relay.run(&mut see).await
        };
        match result {
            Ok(()) => {
                if let Some(own) = prepared {
                    let statement = Statement {
                        sql: sql.into(),
                        known,
                        parameters: own.parameters,
                        types: None,
                        environment: self.state.environment(),
                        bound: None,
                    };
                    self.prepared.insert(id, statement);
                    self.last_prepared = id;
                    let own = Own {
                        id: own.statement,
                        has_types: false,
                    };
                    connection.statements.insert(id, own);
                }
                let _ = server;
                self.put_away(connection);
                Ok(Next::Command)
            }
            Err(Broken::Client(lost)) => Err(lost),
            Err(broken) => self.prepare_lost(connection, reply, &broken).await,
        }
    }

    async fn prepare_lost(
        &mut self,
        connection: Connection,
        reply: u8,
        broken: &Broken,
    ) -> Result<Next, Lost> {
        drop(connection);
        self.refuse_at(reply, &lost_words(broken)).await?;
        Ok(Next::End)
    }

    async fn give_up(&mut self, reply: u8, payload: &[u8]) -> Result<Next, Lost> {
        let mut sequence = reply;
        self.client.send(&mut sequence, payload).await?;
        Ok(Next::Command)
    }

    fn next_id(&mut self) -> u32 {
        loop {
            let id = self.next_prepared;
            self.next_prepared = self.next_prepared.wrapping_add(1);
            if id != 0 && id != LAST_PREPARED && !self.prepared.contains_key(&id) {
                return id;
            }
        }
    }

    /// `COM_STMT_EXECUTE`.
    pub(super) async fn execute(
        &mut self,
        payload: &[u8],
        reply: u8,
        id: u32,
    ) -> Result<Next, Lost> {
        let id = match id {
            LAST_PREPARED => self.last_prepared,
            id => id,
        };
        let Some(statement) = self.prepared.remove(&id) else {
            self.refuse(&unknown("execute")).await?;
            return Ok(Next::Command);
        };
        let done = self.execute_known(payload, reply, (id, statement)).await;
        let (next, statement) = done?;
        self.prepared.insert(id, statement);
        Ok(next)
    }

    async fn execute_known(
        &mut self,
        payload: &[u8],
        reply: u8,
        (id, mut statement): (u32, Statement),
    ) -> Result<(Next, Statement), Lost> {
        let Ok(execute) = Execute::read(payload, statement.parameters, self.capabilities) else {
            let malformed =
                Refusal::new(1210, b"HY000", "Incorrect arguments to mysqld_stmt_execute");
            self.refuse(&malformed).await?;
            return Ok((Next::Command, statement));
        };
        if let Some(types) = execute.types {
            statement.types = Some(types.to_vec());
        }
        let mut decision = self.decide(&statement.sql, &statement.known);
        if decision.target == Target::Proxy || statement.environment != self.state.environment() {
            decision = self.decide(b"", &classify(b"", self.state.dialect()));
        }
        let wants_cursor = execute.wants_cursor;
        let mut tries = 0;
        loop {
            tries += 1;
            let found = match statement.bound {
                Some(server) => self.bound(server).await,
                None => self.place(&decision, tries).await,
            };
            let (server, mut connection) = match found {
                Ok(found) => found,
                Err(refused) => return Ok((self.give_up(reply, &refused).await?, statement)),
            };
            let learned = self
                .learn_routines(
                    &mut connection,
                    &statement.sql,
                    &statement.known,
                    decision.reason,
                )
                .await
                .map_err(Unobtained::from);
            let own = match learned {
                Ok(()) => self.prepare_on(&mut connection, id, &statement).await,
                Err(lost) => Err(lost),
            };
            let own = match own {
                Ok(own) => own,
                Err(Unobtained::Refused(refused)) => {
                    self.put_away(connection);
                    return Ok((self.give_up(reply, &refused).await?, statement));
                }
                Err(Unobtained::Trouble(_) | Unobtained::Gone) => {
                    let lost = refusal(&lost_words(&Broken::Server(Lost::Closed)));
                    return Ok((self.give_up(reply, &lost).await?, statement));
                }
            };
            let mut sent = Vec::with_capacity(payload.len() + 16);
            match &statement.types {
                Some(types) if !own.has_types => execute.complete(types, &mut sent),
                Some(_) | None => sent.extend_from_slice(payload),
            }
            let _ = set_statement(&mut sent, own.id);
            let (command, reply) = framed(&sent);
            // What was sent to the replica before would have to be sent again.
            let turns = statement.bound.is_none() && self.may_turn_back(&decision);
            let outcome = self
                .exchange(&mut connection, &command, reply, (Expect::Results, turns))
                .await;
            match outcome {
                super::query::Sent::TurnedBack => {
                    self.put_away(connection);
                    decision = self.turn_back(server, decision);
                }
                super::query::Sent::Answered(told) => {
                    if let Some(own) = connection.statements.get_mut(&id) {
                        own.has_types |= statement.types.is_some();
                    }
                    let has_cursor = told.status.is_some_and(|status| {
                        status.has(Status::CURSOR_EXISTS) && !status.has(Status::LAST_ROW_SENT)
                    }) && wants_cursor;
                    self.set_cursor(&mut connection, id, has_cursor);
                    statement.bound = has_cursor.then_some(server);
                    let known = statement.known;
                    self.after(&mut connection, &statement.sql, &known, &decision, &told);
                    self.put_away(connection);
                    return Ok((Next::Command, statement));
                }
                super::query::Sent::Lost(Broken::Client(lost), _) => return Err(lost),
                super::query::Sent::Lost(broken, has_forwarded) => {
                    let is_again = !has_forwarded
                        && tries < 3
                        && decision.server() == Some(Server::Replica)
                        && self.state.transaction().is_none()
                        && statement.bound.is_none();
                    if is_again {
                        continue;
                    }
                    let next = self
                        .lost(connection, reply, &broken, has_forwarded, &decision)
                        .await?;
                    return Ok((next, statement));
                }
            }
        }
    }

    /// The connection that has something of a statement already.
    async fn bound(&mut self, server: usize) -> Result<(usize, Connection), Vec<u8>> {
        let lost = || refusal(&lost_words(&Broken::Server(Lost::Closed)));
        let at = self.held.iter().position(|held| held.server == server);
        match at {
            Some(at) => Ok((server, self.held.swap_remove(at))),
            None => Err(lost()),
        }
    }

    fn set_cursor(&mut self, connection: &mut Connection, id: u32, is_open: bool) {
        if is_open {
            connection.cursors.insert(id);
        } else {
            connection.cursors.remove(&id);
        }
        let on_primary = self.worker.view().primary == Ok(connection.server);
        if on_primary {
            self.state.set_cursor(!connection.cursors.is_empty());
        }
    }

    /// Has a statement prepared on a connection, unless it is.
    async fn prepare_on(
        &mut self,
        connection: &mut Connection,
        id: u32,
        statement: &Statement,
    ) -> Result<Own, Unobtained> {
        self.forget_closed(connection, id).await?;
        if let Some(own) = connection.statements.get(&id) {
            return Ok(*own);
        }
        connection.send(Command::Prepare, &statement.sql).await?;
        connection.watch.begin(Expect::Prepared, 1);
        let (mut own, mut refused) = (None, None);
        swallow(
            &mut connection.peer,
            &mut connection.watch,
            MOST_ANSWER,
            |event| match event.packet {
                Packet::Prepared(prepared) => own = Some(prepared.statement),
                Packet::Refused(_) => refused = Some(event.raw[HEADER..].to_vec()),
                Packet::Done(_)
                | Packet::ColumnsEnd(_)
                | Packet::Progress
                | Packet::Columns(_)
                | Packet::File(_)
                | Packet::Text(_) => {}
            },
        )
        .await?;
        match (own, refused) {
            (Some(number), _) => {
                let own = Own {
                    id: number,
                    has_types: false,
                };
                connection.statements.insert(id, own);
                Ok(own)
            }
            (None, Some(payload)) => Err(Unobtained::Refused(payload)),
            (None, None) => Err(Unobtained::Trouble("it prepared nothing".to_owned())),
        }
    }

    /// Closes on a server what the client has closed meanwhile.
    /// The one that is being executed is not in the session's map.
    async fn forget_closed(
        &self,
        connection: &mut Connection,
        executed: u32,
    ) -> Result<(), Unobtained> {
        let mut out = Vec::new();
        let is_closed = |id: &u32| *id != executed && !self.prepared.contains_key(id);
        let gone = connection.statements.iter().filter(|(id, _)| is_closed(id));
        let gone: Vec<(u32, u32)> = gone.map(|(id, own)| (*id, own.id)).collect();
        for (id, own) in gone {
            connection.put(Command::Close, &own.to_le_bytes(), &mut out);
            connection.statements.remove(&id);
        }
        if !out.is_empty() {
            connection
                .peer
                .write_all(&out)
                .await
                .map_err(Broken::Server)?;
        }
        Ok(())
    }

    /// `COM_STMT_SEND_LONG_DATA`: it goes to where the execution will go.
    pub(super) async fn long_data(&mut self, payload: &[u8], id: u32) -> Result<Next, Lost> {
        let Some(mut statement) = self.prepared.remove(&id) else {
            return Ok(Next::Command);
        };
        let mut decision = self.decide(&statement.sql, &statement.known);
        if decision.target == Target::Proxy || statement.environment != self.state.environment() {
            decision = self.decide(b"", &classify(b"", self.state.dialect()));
        }
        let found = match statement.bound {
            Some(server) => self.bound(server).await,
            None => self.place(&decision, 1).await,
        };
        // There is no answer: whatever goes wrong is said by the execution.
        if let Ok((server, mut connection)) = found {
            if let Ok(own) = self.prepare_on(&mut connection, id, &statement).await {
                let mut sent = payload.to_vec();
                let _ = set_statement(&mut sent, own.id);
                let (command, _) = framed(&sent);
                if connection.peer.write_all(&command).await.is_ok() {
                    statement.bound = Some(server);
                    connection.cursors.insert(id);
                }
            }
            self.put_away(connection);
        }
        self.prepared.insert(id, statement);
        Ok(Next::Command)
    }

    /// `COM_STMT_FETCH`.
    pub(super) async fn fetch(&mut self, payload: &[u8], reply: u8, id: u32) -> Result<Next, Lost> {
        let server = self.prepared.get(&id).and_then(|statement| statement.bound);
        let Some(server) = server else {
            self.refuse(&unknown("fetch")).await?;
            return Ok(Next::Command);
        };
        let (_, mut connection) = match self.bound(server).await {
            Ok(found) => found,
            Err(refused) => return self.give_up(reply, &refused).await,
        };
        let own = connection.statements.get(&id).map_or(0, |own| own.id);
        let mut sent = payload.to_vec();
        let _ = set_statement(&mut sent, own);
        let (command, reply) = framed(&sent);
        match self
            .exchange(&mut connection, &command, reply, (Expect::Rows, false))
            .await
        {
            super::query::Sent::TurnedBack => Ok(Next::Command),
            super::query::Sent::Answered(told) => {
                let is_over = told.failed
                    || told
                        .status
                        .is_some_and(|status| status.has(Status::LAST_ROW_SENT));
                if is_over {
                    self.set_cursor(&mut connection, id, false);
                    if let Some(statement) = self.prepared.get_mut(&id) {
                        statement.bound = None;
                    }
                }
                self.put_away(connection);
                Ok(Next::Command)
            }
            super::query::Sent::Lost(Broken::Client(lost), _) => Err(lost),
            super::query::Sent::Lost(broken, has_forwarded) => {
                let decision = self.unknown_decision();
                self.lost(connection, reply, &broken, has_forwarded, &decision)
                    .await
            }
        }
    }

    fn unknown_decision(&self) -> Decision {
        self.decide(b"", &classify(b"", self.state.dialect()))
    }

    /// `COM_STMT_RESET`.
    pub(super) async fn reset_statement(
        &mut self,
        payload: &[u8],
        reply: u8,
        id: u32,
    ) -> Result<Next, Lost> {
        let Some(statement) = self.prepared.get_mut(&id) else {
            self.refuse(&unknown("reset")).await?;
            return Ok(Next::Command);
        };
        let Some(server) = statement.bound.take() else {
            // No server has anything of it.
            self.done(reply).await?;
            return Ok(Next::Command);
        };
        let (_, mut connection) = match self.bound(server).await {
            Ok(found) => found,
            Err(refused) => return self.give_up(reply, &refused).await,
        };
        let own = connection.statements.get(&id).map_or(0, |own| own.id);
        let mut sent = payload.to_vec();
        let _ = set_statement(&mut sent, own);
        let (command, reply) = framed(&sent);
        match self
            .exchange(&mut connection, &command, reply, (Expect::Done, false))
            .await
        {
            super::query::Sent::TurnedBack | super::query::Sent::Answered(_) => {
                self.set_cursor(&mut connection, id, false);
                self.put_away(connection);
                Ok(Next::Command)
            }
            super::query::Sent::Lost(Broken::Client(lost), _) => Err(lost),
            super::query::Sent::Lost(broken, has_forwarded) => {
                let decision = self.unknown_decision();
                self.lost(connection, reply, &broken, has_forwarded, &decision)
                    .await
            }
        }
    }

    /// `COM_STMT_CLOSE`, which has no answer. Servers are told when they are next talked to.
    pub(super) fn close_statement(&mut self, id: u32) {
        if self.prepared.remove(&id).is_some() {
            for held in &mut self.held {
                held.cursors.remove(&id);
            }
            let primary = self.worker.view().primary.clone();
            let on_primary = self.held.iter().find(|held| primary == Ok(held.server));
            let is_open = on_primary.is_some_and(|held| !held.cursors.is_empty());
            self.state.set_cursor(is_open);
        }
    }
}
