//! A session gets a connection to a server, with its state on it.

use std::time::{Duration, Instant};

use super::{
    connect::Failure,
    connection::{Answer, Connection, Key},
    relay::Broken,
    session::Session,
};
use crate::wire::{Capabilities, command::Command, packet::HEADER, reply::Expect};

/// How long a read waits at a replica that is full.
const PATIENCE_FOR_READS: Duration = Duration::from_millis(500);

/// Why a statement cannot be sent.
#[derive(Debug)]
pub(super) enum Unobtained {
    /// The server refuses, with the payload of its error.
    Refused(Vec<u8>),
    /// The server is not there.
    Trouble(String),
    /// The session had something on a connection that is gone.
    Gone,
    /// All connections that the server may have are in use: the payload of an error.
    Full(Vec<u8>),
}

impl From<Failure> for Unobtained {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(payload) => Self::Refused(payload),
            Failure::Trouble(sentence) => Self::Trouble(sentence),
            Failure::Full(payload) => Self::Full(payload),
        }
    }
}

impl From<Broken> for Unobtained {
    fn from(broken: Broken) -> Self {
        Self::Trouble(broken.to_string())
    }
}

impl Session {
    /// A connection to a server that is as this session needs it.
    pub(super) async fn obtain(
        &mut self,
        server: usize,
        is_replica: bool,
        has_to_be_own: bool,
    ) -> Result<Connection, Unobtained> {
        let mut connection = self
            .any_connection(server, is_replica, has_to_be_own)
            .await?;
        self.bring_up_to_date(&mut connection, is_replica).await?;
        Ok(connection)
    }

    async fn any_connection(
        &mut self,
        server: usize,
        is_replica: bool,
        has_to_be_own: bool,
    ) -> Result<Connection, Unobtained> {
        if let Some(at) = self.held.iter().position(|held| held.server == server) {
            return Ok(self.held.swap_remove(at));
        }
        let turn = self.worker.turn(server).await?;
        let mut connection = self.idle_or_new(server, is_replica, has_to_be_own).await?;
        connection.room.turn = turn;
        Ok(connection)
    }

    async fn idle_or_new(
        &mut self,
        server: usize,
        is_replica: bool,
        has_to_be_own: bool,
    ) -> Result<Connection, Unobtained> {
        let view = self.worker.view();
        let owner = self.owner();
        if let Some(at) = self.places.iter().position(|(of, _)| *of == server) {
            let (_, place) = self.places.swap_remove(at);
            let own = self.worker.pool.borrow_mut().own(server, place, owner);
            if let Some(mut connection) = own
                && connection.epoch == view.epoch
                && connection.is_alive()
            {
                return Ok(connection);
            }
        }
        if has_to_be_own {
            return Err(Unobtained::Gone);
        }
        let key = Key {
            user: self.identity.user.clone(),
            capabilities: self.capabilities.shaping(),
            is_tls: self.identity.is_private,
        };
        loop {
            let now = Instant::now();
            let takes_warm = self.worker.takes_warm(server);
            let other = self
                .worker
                .pool
                .borrow_mut()
                .other(server, &key, now, takes_warm);
            let Some(mut connection) = other else { break };
            if connection.epoch != view.epoch || !connection.is_alive() {
                continue;
            }
            if self.make_new(&mut connection).await.is_ok() {
                return Ok(connection);
            }
        }
        let who = self.identity.who(self.capabilities);
        let most = self.worker.shared.settings.connection_wait;
        // The primary answers a read as well.
        let patience = if is_replica {
            most.min(PATIENCE_FOR_READS)
        } else {
            most
        };
        let logged_in = self.worker.log_in(server, &who, view.epoch, patience);
        let logged_in = logged_in.await?;
        let mut connection = logged_in.connection;
        connection.owner = owner;
        Ok(connection)
    }

    /// Makes somebody else's connection one that has just logged in.
    async fn make_new(&self, connection: &mut Connection) -> Result<(), Broken> {
        if connection.state.is_used {
            connection.reset().await?;
        }
        connection.owner = self.owner();
        Ok(())
    }

    /// Puts the session's state on it, as far as it is not there yet.
    async fn bring_up_to_date(
        &mut self,
        connection: &mut Connection,
        is_replica: bool,
    ) -> Result<(), Unobtained> {
        let mut out = Vec::new();
        let mut answers = Vec::new();
        if !connection.state.is_used {
            connection.put(Command::Query, self.face.track.as_bytes(), &mut out);
            answers.push(Expect::Results);
            if let Some(names) = self.names_after_reset(connection) {
                connection.put(Command::Query, names.as_bytes(), &mut out);
                answers.push(Expect::Results);
            }
            connection.state.is_used = true;
        }
        let schema = self.state.schema().unwrap_or_default();
        if *connection.state.schema != *schema && !schema.is_empty() {
            connection.put(Command::InitDatabase, schema, &mut out);
            answers.push(Expect::Done);
            connection.state.schema = schema.into();
        }
        let by_login =
            |capabilities: Capabilities| capabilities.has(Capabilities::MULTI_STATEMENTS);
        let asked = self.multi_statements;
        let on = asked.unwrap_or_else(|| by_login(self.capabilities));
        let has = connection.state.multi_statements;
        // Also what somebody else has left so.
        if (asked.is_some() || has.is_some())
            && on != has.unwrap_or_else(|| by_login(connection.capabilities))
        {
            connection.put(Command::SetOption, &u16::from(!on).to_le_bytes(), &mut out);
            answers.push(Expect::Done);
            connection.state.multi_statements = Some(on);
        }
        let remembered = self.state.remembered();
        if connection.state.variables < remembered.number() {
            for setting in remembered.settings() {
                let is_new = setting.number > connection.state.variables;
                if is_new && (!is_replica || setting.for_replicas) {
                    connection.put(Command::Query, &setting.statement, &mut out);
                    answers.push(Expect::Results);
                }
            }
            connection.state.variables = remembered.number();
        }
        if answers.is_empty() {
            return Ok(());
        }
        connection
            .peer
            .write_all(&out)
            .await
            .map_err(Broken::Server)?;
        let mut refused = None;
        for expect in answers {
            if let Answer::Refused(payload) = connection.answer(expect).await? {
                refused.get_or_insert(payload);
            }
        }
        match refused {
            Some(payload) => Err(Unobtained::Refused(payload)),
            None => Ok(()),
        }
    }

    /// `SET NAMES` for the client's collation, which a reset has made the server's default.
    fn names_after_reset(&self, connection: &Connection) -> Option<String> {
        // A login names it.
        let was_reset = connection.was_reset;
        let collations = &self.face.collations;
        let name = collations
            .get(&self.identity.collation)
            .filter(|_| was_reset)?;
        let (charset, collation) = name;
        Some(format!("SET NAMES '{charset}' COLLATE '{collation}'"))
    }

    /// Puts a connection where it belongs between two statements.
    pub(super) fn put_away(&mut self, mut connection: Connection) {
        if !connection.watch.is_ended() || !connection.peer.inbox().is_empty() {
            // It is out of step.
            return;
        }
        connection.owner = self.owner();
        connection.used = Instant::now();
        let server = connection.server;
        let on_replica = self.replica == Some(server) && self.state.holds_replica();
        let is_home = !on_replica
            && self.state.holds_primary()
            && self.home.unwrap_or(server) == server
            && (self.home.is_some() || self.as_primary == Some(server));
        if is_home {
            self.home = Some(server);
        } else if self.home == Some(server) {
            self.home = None;
        }
        let is_bound = on_replica || is_home;
        if is_bound || connection.has_open() || !self.worker.shared.settings.pool {
            self.held.push(connection);
            return;
        }
        let place = self.worker.pool.borrow_mut().put(connection);
        self.places.retain(|(of, _)| *of != server);
        self.places.push((server, place));
    }
}

/// The first value of the first row, behind so many columns; none for NULL.
pub(super) fn first_value(columns: u64, rows: &[u8]) -> Option<&[u8]> {
    *row_values(columns, rows)?.first()?
}

/// The values of the first row, behind so many columns.
pub(super) fn row_values(columns: u64, rows: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let mut rest = rows;
    for _ in 0..columns {
        let header = crate::wire::packet::Header::read(rest)?;
        rest = rest.get(HEADER + header.length..)?;
    }
    let mut row = crate::wire::Reader(rest.get(HEADER..)?);
    (0..columns).map(|_| row.nullable()).collect()
}
