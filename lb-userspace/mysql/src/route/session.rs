//! What a session has done that decides where its next statement goes.

use super::names::Names;
use super::pins::Pins;
use super::prepared::PreparedTexts;
use super::remembered::Remembered;
use crate::sql::{Dialect, Hint};

/// One of the two kinds of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The primary.
    Primary,
    /// A replica.
    Replica,
}

/// A transaction that the server says is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transaction {
    None,
    Primary,
    Replica,
}

/// What SET TRANSACTION said about the next transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// The proxy has the statement and sends it in front of the transaction.
    Kept {
        statement: Vec<u8>,
        read_only: bool,
    },
    /// The primary has it.
    OnPrimary,
}

/// Where what is asked about former statements is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    /// Where the last statement ran: ROW_COUNT().
    pub(super) statement: Server,
    /// Where the last query ran: FOUND_ROWS().
    pub(super) query: Server,
    /// The query said that it will be asked for.
    pub(super) query_counts: bool,
    /// Where the last statement ran that left or cleared warnings.
    pub(super) warnings: Server,
    /// It left some.
    pub(super) warned: bool,
}

/// Everything about a session that [`super::route()`] asks for. Changed by
/// [`Session::after`](Self::after) alone, and by [`Session::reset`](Self::reset).
#[derive(Clone, Debug)]
pub struct Session {
    /// As it is now, and as it was at the login.
    pub(super) dialect: Dialect,
    pub(super) dialect_at_login: Dialect,
    /// Counts changes of what gives a prepared text its meaning.
    pub(super) environment: u64,
    pub(super) transaction: Transaction,
    pub(super) autocommit: bool,
    /// SET SESSION TRANSACTION READ ONLY.
    pub(super) read_only: bool,
    pub(super) next: Next,
    pub(super) pins: Pins,
    /// The primary's connection has something that another one would not have.
    pub(super) holds: bool,
    /// The same, but that is no more than the last generated id.
    pub(super) has_generated: bool,
    pub(super) schema: Option<Vec<u8>>,
    /// Temporary tables, as `schema.name`.
    pub(super) temporary: Names,
    /// User variables whose values only the primary knows.
    pub(super) user_variables: Names,
    /// System variables whose values only the primary knows.
    pub(super) session_variables: Names,
    pub(super) handlers: u32,
    /// FLUSH TABLES WITH READ LOCK, which BEGIN does not end.
    pub(super) read_lock: bool,
    pub(super) prepared: PreparedTexts,
    pub(super) remembered: Remembered,
    /// SET @lb_route.
    pub(super) asks: Option<Hint>,
    pub(super) last: Last,
}

impl Session {
    /// A session right after its login. The dialect has the server's default mode, and the
    /// character set that the client named.
    #[must_use]
    pub fn new(dialect: Dialect, schema: Option<&[u8]>) -> Self {
        Self {
            dialect,
            dialect_at_login: dialect,
            environment: 0,
            transaction: Transaction::None,
            autocommit: true,
            read_only: false,
            next: Next::Nothing,
            pins: Pins::NONE,
            holds: false,
            has_generated: false,
            schema: schema.map(<[u8]>::to_vec),
            temporary: Names::default(),
            user_variables: Names::default(),
            session_variables: Names::default(),
            handlers: 0,
            read_lock: false,
            prepared: PreparedTexts::default(),
            remembered: Remembered::default(),
            asks: None,
            last: Last {
                statement: Server::Primary,
                query: Server::Primary,
                query_counts: false,
                warnings: Server::Primary,
                warned: false,
            },
        }
    }

    /// COM_RESET_CONNECTION: everything is as after the login, but for the default schema.
    pub fn reset(&mut self) {
        let schema = self.schema.take();
        *self = Self::new(self.dialect_at_login, schema.as_deref());
    }

    /// How to read the next statement.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The default schema.
    #[must_use]
    pub fn schema(&self) -> Option<&[u8]> {
        self.schema.as_deref()
    }

    /// What binds it to the primary.
    #[must_use]
    pub fn pins(&self) -> Pins {
        self.pins
    }

    /// Whether a transaction is open, and where.
    #[must_use]
    pub fn transaction(&self) -> Option<Server> {
        match self.transaction {
            Transaction::None => None,
            Transaction::Primary => Some(Server::Primary),
            Transaction::Replica => Some(Server::Replica),
        }
    }

    /// Whether its connection to the primary may not be given to another session, nor exchanged
    /// for another connection.
    #[must_use]
    pub fn holds_primary(&self) -> bool {
        self.holds
            || self.has_generated
            || !self.pins.is_empty()
            || !self.autocommit
            || self.transaction == Transaction::Primary
            || self.next == Next::OnPrimary
            || !self.prepared.is_empty()
            || self.is_asked(Server::Primary)
    }

    /// Whether it may leave its connection to the primary for one to another primary that has the
    /// same `autocommit` and last generated id.
    #[must_use]
    pub fn may_move(&self) -> bool {
        !self.holds
            && self.pins.is_empty()
            && self.transaction == Transaction::None
            && self.next != Next::OnPrimary
            && self.prepared.is_empty()
    }

    /// Whether its connection to a replica may not be exchanged: a transaction is open there, or
    /// the next statement is likely to ask for what that connection knows.
    #[must_use]
    pub fn holds_replica(&self) -> bool {
        self.transaction == Transaction::Replica || self.is_asked(Server::Replica)
    }

    /// Whether warnings wait there, or a number of rows that somebody counted to ask for it.
    fn is_asked(&self, server: Server) -> bool {
        let last = &self.last;
        (last.warned && last.warnings == server) || (last.query_counts && last.query == server)
    }

    /// What has to be done again on a connection that has not seen it.
    #[must_use]
    pub fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    /// The SET TRANSACTION that waits for the next transaction. To be sent in front of a statement
    /// whose decision says so.
    #[must_use]
    pub fn next_transaction(&self) -> Option<&[u8]> {
        match &self.next {
            Next::Kept { statement, .. } => Some(statement),
            Next::Nothing | Next::OnPrimary => None,
        }
    }

    /// Changes with the default schema, `sql_mode` and the character sets. What was prepared, by
    /// text or by the binary protocol, while it was another number is to be executed where it was
    /// prepared: elsewhere its text would mean something else.
    #[must_use]
    pub fn environment(&self) -> u64 {
        self.environment
    }

    /// A cursor was opened on the primary's connection, or the last one was closed.
    pub fn set_cursor(&mut self, open: bool) {
        self.pins = if open {
            self.pins.with(Pins::CURSOR)
        } else {
            self.pins.without(Pins::CURSOR)
        };
    }

    /// The default schema was changed by COM_INIT_DB.
    pub fn set_schema(&mut self, schema: &[u8]) {
        if self.schema.as_deref() != Some(schema) {
            self.schema = Some(schema.to_vec());
            self.environment += 1;
        }
    }
}
