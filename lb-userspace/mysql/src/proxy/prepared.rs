//! Prepared statements of the binary protocol: classified once, routed at each execution, and
//! prepared on a server when they are first executed there.

use std::{cell::Cell, rc::Rc};

use super::{
    budget::{Budget, Share},
    connection::{Answer, Connection, Own},
    obtain::Unobtained,
    peer::Lost,
    query::framed,
    relay::{Broken, Relay, swallow},
    session::{Next, Session, Told, lost_words},
    trouble::Trouble,
};
use crate::{
    route::Target,
    sql::{self, classify, with_own_number},
    wire::{
        command::{Command, LAST_PREPARED, set_statement},
        error::Refusal,
        packet::HEADER,
        reply::{Event, Expect, Packet},
    },
};

/// Statements that a session may have prepared.
const MOST: usize = 16_382;
/// Bytes of texts that a session may have prepared.
const MOST_BYTES: usize = 64 << 20;
/// Bytes that a statement takes beside its text and the types of its parameters.
const OVERHEAD: usize = 300;
/// Bytes of types for attributes that come with its parameters.
const ATTRIBUTES: usize = 512;
/// Bytes of the type of a parameter, with an empty name.
const TYPE: usize = 3;
/// Bytes of an answer to our own preparation.
const MOST_ANSWER: usize = 1 << 20;

/// A prepared statement of a client.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) text: Rc<Text>,
    /// Of its parameters, as they were sent last.
    pub(super) types: Option<Rc<[u8]>>,
    /// The server that has parts of its parameters, or its cursor.
    pub(super) bound: Option<usize>,
}

/// What was prepared.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) sql: Box<[u8]>,
    pub(super) known: sql::Statement,
    pub(super) parameters: u16,
    /// What the session was like, so that it means the same elsewhere.
    pub(super) environment: u64,
    /// The default schema then, which its names are in.
    schema: Box<[u8]>,
    /// For as long as it is kept.
    _weight: Weight,
}

impl Text {
    /// Whether types of its parameters are no longer than they may be.
    pub(super) fn has_room_for(&self, types: &[u8]) -> bool {
        types.len() <= TYPE * usize::from(self.parameters) + ATTRIBUTES
    }
}

/// Bytes that are counted for a session, and taken from what all have.
#[derive(Debug)]
struct Weight {
    bytes: usize,
    of_session: Rc<Cell<usize>>,
    _share: Share,
}

impl Weight {
    /// Of a statement; nothing if it is too much.
    fn new(sql: &[u8], of_session: &Rc<Cell<usize>>, budget: &Budget) -> Option<Self> {
        let marks = sql.iter().filter(|byte| **byte == b'?').count();
        let bytes = sql.len() + TYPE * marks + ATTRIBUTES + OVERHEAD;
        if of_session.get() + bytes > MOST_BYTES {
            return None;
        }
        let share = budget.try_take(bytes)?;
        of_session.set(of_session.get() + bytes);
        Some(Self {
            bytes,
            of_session: Rc::clone(of_session),
            _share: share,
        })
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.of_session.set(self.of_session.get() - self.bytes);
    }
}

impl Session {
    /// `COM_STMT_PREPARE`.
    pub(super) async fn prepare(
        &mut self,
        framed: &[u8],
        reply: u8,
        sql: &[u8],
    ) -> Result<Next, Lost> {
        let shared = &self.worker.shared;
        let weight = (self.prepared.len() < MOST)
            .then(|| Weight::new(sql, &self.prepared_bytes, &shared.prepared));
        let Some(weight) = weight.flatten() else {
            shared.count_trouble(Trouble::PreparedFull);
            let many = format!(
                "Can't create more than max_prepared_stmt_count statements (current value: {MOST})"
            );
            self.refuse(&Refusal::new(1461, b"42000", &many)).await?;
            return Ok(Next::Command);
        };
        let known = classify(sql, self.state.dialect());
        let own = with_own_number(sql, &known, self.number);
        let again = own.as_ref().map(|own| framed_prepare(own));
        let (framed, sql) = match (&again, &own) {
            (Some(again), Some(own)) => (&again[..], &own[..]),
            _ => (framed, sql),
        };
        let mut decision = self.decide(sql, &known);
        if decision.target != Target::Replica {
            decision = self.unknown_decision();
        }
        let id = self.next_id();
        let (_, mut connection) = match self.place(&mut decision, None, 1).await {
            Ok(found) => found,
            Err(payload) => {
                self.give_up(reply, &payload).await?;
                return Ok(self.after_refusal(&decision));
            }
        };
        if self.forget_closed(&mut connection).await.is_err() {
            let gone = Broken::Server(Lost::Closed);
            return self.prepare_lost(connection, reply, &gone).await;
        }
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
                    let text = Text {
                        sql: sql.into(),
                        known,
                        parameters: own.parameters,
                        environment: self.state.environment(),
                        schema: self.state.schema().unwrap_or_default().into(),
                        _weight: weight,
                    };
                    let statement = Statement {
                        text: Rc::new(text),
                        types: None,
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

    pub(super) async fn give_up(&mut self, reply: u8, payload: &[u8]) -> Result<Next, Lost> {
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

    /// Has a statement prepared on a connection, unless it is.
    pub(super) async fn prepare_on(
        &mut self,
        connection: &mut Connection,
        id: u32,
        text: &Text,
    ) -> Result<Own, Unobtained> {
        self.forget_closed(connection).await?;
        if let Some(own) = connection.statements.get(&id) {
            return Ok(*own);
        }
        let now = connection.state.schema.clone();
        let is_elsewhere = *now != *text.schema && !now.is_empty() && !text.schema.is_empty();
        if is_elsewhere {
            use_schema(connection, &text.schema).await?;
        }
        connection.send(Command::Prepare, &text.sql).await?;
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
        if is_elsewhere {
            use_schema(connection, &now).await?;
        }
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
    async fn forget_closed(&self, connection: &mut Connection) -> Result<(), Unobtained> {
        if connection.closes == self.closes {
            return Ok(());
        }
        connection.closes = self.closes;
        let mut closed = Vec::new();
        connection.statements.retain(|id, own| {
            let is_open = self.prepared.contains_key(id);
            if !is_open {
                closed.push(own.id);
            }
            is_open
        });
        let mut out = Vec::new();
        for id in closed {
            connection.put(Command::Close, &id.to_le_bytes(), &mut out);
        }
        let written = connection.peer.write_all(&out).await;
        Ok(written.map_err(Broken::Server)?)
    }

    /// `COM_STMT_CLOSE`, which has no answer. Servers are told when they are next talked to.
    pub(super) fn close_statement(&mut self, id: u32) {
        if self.prepared.remove(&id).is_some() {
            self.closes += 1;
            for held in &mut self.held {
                held.open.remove(&id);
            }
            let primary = self.worker.view().primary.clone();
            let on_primary = self.held.iter().find(|held| primary == Ok(held.server));
            let is_open = on_primary.is_some_and(|held| !held.open.is_empty());
            self.state.set_cursor(is_open);
        }
    }
}

/// Another default schema on a connection, for a moment.
async fn use_schema(connection: &mut Connection, schema: &[u8]) -> Result<(), Unobtained> {
    connection.send(Command::InitDatabase, schema).await?;
    match connection.answer(Expect::Done).await? {
        Answer::Refused(payload) => Err(Unobtained::Refused(payload)),
        Answer::Done | Answer::Rows(..) => Ok(()),
    }
}

/// A text to be prepared, with its header.
fn framed_prepare(sql: &[u8]) -> Vec<u8> {
    framed(&[&[Command::Prepare as u8], sql].concat()).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_weighed_for_their_session_and_for_all() {
        let (one, other) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let budget = Budget::new(100 << 20);
        let long = vec![b'x'; 30 << 20];
        let first = Weight::new(&long, &one, &budget).unwrap();
        let second = Weight::new(&long, &one, &budget).unwrap();
        assert!(
            Weight::new(&long, &one, &budget).is_none(),
            "of the session"
        );
        let _third = Weight::new(&long, &other, &budget).unwrap();
        assert!(Weight::new(&long, &other, &budget).is_none(), "of all");
        drop(first);
        assert!(Weight::new(&long, &other, &budget).is_some());
        drop(second);
        assert_eq!(one.get(), 0);
        // Each may have types.
        let marks = vec![b'?'; 30 << 20];
        assert!(Weight::new(&marks, &one, &budget).is_none());
    }
}
