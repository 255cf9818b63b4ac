//! A connection to a server that has logged in.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Instant,
};

use super::{
    limits::Room,
    peer::{Lost, Peer},
    relay::{Broken, swallow},
    shared::Shared,
};
use crate::wire::{
    Capabilities, Status,
    command::Command,
    packet,
    reply::{Event, Expect, Packet, Watch},
};

/// Bytes of an answer to a question of our own, at most.
const MOST_ANSWER: usize = 64 << 10;

/// What sessions must have alike to use the same connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Who has logged in.
    pub(super) user: Box<[u8]>,
    /// What shapes commands and replies.
    pub(super) capabilities: Capabilities,
    /// Whether the server was reached by TLS.
    pub(super) is_tls: bool,
}

/// Counts a connection for as long as it is there.
#[derive(Debug)]
pub(super) struct Counted {
    shared: Arc<Shared>,
    server: usize,
}

impl Counted {
    pub(super) fn new(shared: &Arc<Shared>, server: usize) -> Self {
        let counters = &shared.servers[server];
        counters.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(shared),
            server,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counters = &self.shared.servers[self.server];
        counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) watch: Watch,
    /// Agreed on with the server.
    pub(super) capabilities: Capabilities,
    pub(super) key: Rc<Key>,
    /// Index of the server.
    pub(super) server: usize,
    /// The server's number of it, for KILL.
    pub(super) number: u32,
    /// Of the primary when it was opened.
    pub(super) epoch: u64,
    /// The session that used it last; 0 for none.
    pub(super) owner: u64,
    /// How much of the session's state it has.
    pub(super) state: Applied,
    /// Ids of its prepared statements by the client's.
    pub(super) statements: HashMap<u32, Own>,
    /// Of the client's prepared statements those that have something open here: a cursor, or parts
    /// of parameters.
    pub(super) open: HashSet<u32>,
    /// How many closes of the session's it has been told of.
    pub(super) closes: u64,
    /// Whether a reset has taken away what the login said of character sets.
    pub(super) was_reset: bool,
    /// What the server said last.
    pub(super) status: Status,
    /// When it was last used.
    pub(super) used: Instant,
    pub(super) _counted: Counted,
    /// What it has of its server's limit.
    pub(super) room: Room,
}

/// A prepared statement on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    /// The server's number of it.
    pub(super) id: u32,
    /// Whether the server knows the types of its parameters.
    pub(super) has_types: bool,
}

/// How much of a session's state a connection has.
#[derive(Clone, Debug, Default)]
pub(super) struct Applied {
    /// The default database, empty for none.
    pub(super) schema: Box<[u8]>,
    /// How many of the session's changes of variables.
    pub(super) variables: u64,
    /// What `COM_SET_OPTION` has said of multi-statements.
    pub(super) multi_statements: Option<bool>,
    /// Whether it has to be reset before anybody else uses it.
    pub(super) is_used: bool,
}

/// What came of a question of our own.
#[derive(Debug)]
pub(super) enum Answer {
    /// The rows as they came, behind their columns, and the number of those.
    Rows(u64, Vec<u8>),
    /// Done, without rows.
    Done,
    /// The server refuses: its packet's payload.
    Refused(Vec<u8>),
}

impl Connection {
    /// Whether it can be used: nothing has come that nobody asked for, not even its end.
    pub(super) fn is_alive(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.peer.inbox().is_empty()
            && self.watch.is_ended()
            && matches!(self.peer.poll_more(&mut context), Poll::Pending)
    }

    /// Whether something is open on it that belongs to its session alone.
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Sends a command of our own.
    pub(super) async fn send(&mut self, command: Command, body: &[u8]) -> Result<(), Broken> {
        let mut framed = Vec::with_capacity(body.len() + 8);
        self.put(command, body, &mut framed);
        self.peer.write_all(&framed).await.map_err(Broken::Server)
    }

    /// Appends a command of our own.
    pub(super) fn put(&self, command: Command, body: &[u8], out: &mut Vec<u8>) {
        packet::put_with(out, &mut 0, |out| {
            out.push(command as u8);
            if command == Command::Query && self.capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
                // No attributes, in one set.
                out.extend_from_slice(&[0, 1]);
            }
            out.extend_from_slice(body);
        });
    }

    /// Reads the answer to a command of our own.
    pub(super) async fn answer(&mut self, expect: Expect) -> Result<Answer, Broken> {
        self.watch.begin(expect, 1);
        let mut status = self.status;
        let (mut columns, mut refused) = (None, None);
        let see = |event: &Event<'_>| match event.packet {
            Packet::Done(done) | Packet::ColumnsEnd(done) => status = done.status,
            Packet::Refused(_) => refused = event.raw.get(packet::HEADER..).map(<[u8]>::to_vec),
            Packet::Columns(count) => columns = Some(count),
            Packet::Progress | Packet::Prepared(_) | Packet::File(_) | Packet::Text(_) => {}
        };
        let rows = swallow(&mut self.peer, &mut self.watch, MOST_ANSWER, see).await?;
        self.status = status;
        Ok(match (refused, columns) {
            (Some(refused), _) => Answer::Refused(refused),
            (None, Some(columns)) => Answer::Rows(columns, rows),
            (None, None) => Answer::Done,
        })
    }

    /// Asks something of our own.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Answer, Broken> {
        self.send(Command::Query, sql.as_bytes()).await?;
        self.answer(Expect::Results).await
    }

    /// Ends all that is open on it: it is as after a login, but for the default schema.
    pub(super) async fn reset(&mut self) -> Result<(), Broken> {
        self.send(Command::ResetConnection, &[]).await?;
        if let Answer::Refused(_) = self.answer(Expect::Done).await? {
            return Err(Broken::Server(Lost::Closed));
        }
        let schema = std::mem::take(&mut self.state.schema);
        self.state = Applied {
            schema,
            // No reset takes COM_SET_OPTION back.
            multi_statements: self.state.multi_statements,
            ..Applied::default()
        };
        self.statements.clear();
        self.open.clear();
        self.was_reset = true;
        Ok(())
    }

    /// Says goodbye, as far as that takes no time.
    pub(super) fn quit(mut self) {
        let mut framed = Vec::new();
        self.put(Command::Quit, &[], &mut framed);
        let mut context = Context::from_waker(Waker::noop());
        // A server that does not listen finds out by the end of the connection.
        let _ = self.peer.poll_push(&mut context, &framed);
    }
}
