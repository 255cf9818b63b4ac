//! What becomes of a session by a statement.

use super::assign::{Written, pins_of_set};
use super::decide::{Before, Decision};
use super::effects::MOST_PARTS;
use super::pins::Pins;
use super::reason::Target;
use super::session::{Next, Server, Session, Transaction};
use crate::sql::{Class, Facts, Family, Parts, Statement};

/// Bits of the servers' status that are asked for.
pub mod status {
    /// A transaction is open.
    pub const IN_TRANSACTION: u16 = 0x0001;
    /// `autocommit` is 1.
    pub const AUTOCOMMIT: u16 = 0x0002;
    /// The transaction that is open is READ ONLY.
    pub const IN_READ_ONLY_TRANSACTION: u16 = 0x2000;
}

/// How a server answered a statement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    /// No error came, of several results neither.
    pub succeeded: bool,
    /// The status of the last packet that had one. An error has none.
    pub status: Option<u16>,
    /// How many warnings there are.
    pub warnings: u16,
    /// The generated id, 0 for none.
    pub last_insert_id: u64,
    /// The new default schema, if the server told one.
    pub schema: Option<&'a [u8]>,
    /// System variables that the server told of, by name and value.
    pub variables: &'a [(&'a [u8], &'a [u8])],
    /// Whether the session's state was changed in any way: what the server told, if it is asked to
    /// tell (`session_track_state_change`). None for an error or when nobody asked.
    pub state_changed: Option<bool>,
    /// All stored functions that it calls are known to read at most. Servers tell of a change of
    /// the state whenever one is called, because its own sql_mode is in force meanwhile.
    pub calls_only_read: bool,
}

impl Answer<'_> {
    /// Whether the server told the value of a variable.
    pub(super) fn tells(&self, name: &[u8]) -> bool {
        let mut told = self.variables.iter();
        told.any(|(other, _)| other.eq_ignore_ascii_case(name))
    }
}

/// What a statement binds to the primary if it succeeds, as far as its text says.
pub(super) fn pins_of(sql: &[u8], statement: &Statement) -> Pins {
    let of = |pin, holds: bool| if holds { pin } else { Pins::NONE };
    let facts = statement.facts;
    let makes = facts.has(Facts::TEMPORARY) && !facts.has(Facts::MAY_DROP_TEMPORARY);
    let begins = facts.has(Facts::BEGINS);
    let common = of(Pins::USER_LOCK, facts.has(Facts::TAKES_LOCK));
    common.with(match statement.class {
        Class::Ddl => of(Pins::TEMPORARY_TABLE, makes),
        Class::LockTables => Pins::TABLE_LOCK,
        Class::Flush => of(Pins::TABLE_LOCK, facts.has(Facts::READ_LOCK)),
        Class::Handler => of(Pins::HANDLER, begins),
        Class::Xa => of(Pins::XA, begins),
        Class::Set => pins_of_set(sql, statement),
        Class::Diagnostics | Class::Call => {
            of(Pins::USER_VARIABLE, facts.has(Facts::USER_VARIABLE))
        }
        Class::Multi => Parts::new(sql, statement.dialect)
            .take(MOST_PARTS)
            .fold(Pins::NONE, |pins, part| {
                pins.with(pins_of(part.sql, &part.statement))
            }),
        Class::Read
        | Class::LockingRead
        | Class::SelectInto
        | Class::Write
        | Class::Do
        | Class::Compound
        | Class::SetStatement => of(Pins::USER_VARIABLE, facts.has(Facts::ASSIGNS)),
        Class::Begin
        | Class::Commit
        | Class::Rollback
        | Class::Savepoint
        | Class::SetTransaction
        | Class::SetGlobal
        | Class::Use
        | Class::ShowServer
        | Class::Prepare
        | Class::Execute
        | Class::ExecuteImmediate
        | Class::Deallocate
        | Class::UnlockTables
        | Class::Kill
        | Class::Administration
        | Class::Empty
        | Class::Unknown => Pins::NONE,
    })
}

impl Session {
    /// Brings the session up to date after a statement was answered, or after its connection was
    /// lost (an answer that did not succeed).
    pub fn after(
        &mut self,
        sql: &[u8],
        statement: &Statement,
        decision: &Decision,
        answer: &Answer<'_>,
    ) {
        if decision.before == Before::SetTransaction {
            self.next = if statement.class == Class::Begin {
                Next::Nothing
            } else {
                Next::OnPrimary
            };
        }
        if decision.before == Before::MoveTransaction {
            self.transaction = Transaction::Primary;
        }
        if let Some(server) = decision.server() {
            self.believe(server, statement, decision.same_connection, answer);
            self.remember_last(server, sql, statement, answer);
        }
        if decision.target == Target::Proxy {
            return self.after_proxy(sql, statement, answer);
        }
        if self.next == Next::OnPrimary && answer.succeeded && ends_waiting(statement) {
            self.next = Next::Nothing;
        }
        // What a procedure or function took by GET_LOCK no server tells of. It binds the session to
        // its connection alone: whatever asks for locks goes to the primary anyway.
        let may_lock = matches!(
            statement.class,
            Class::Call | Class::Compound | Class::Multi | Class::Execute | Class::ExecuteImmediate
        );
        let calls = matches!(statement.class, Class::Read | Class::Do)
            && statement.has(Facts::CALLS)
            && !answer.calls_only_read;
        self.holds |= may_lock || calls || statement.has(Facts::SEQUENCE);
        self.has_generated |= answer.last_insert_id != 0;
        self.effects(sql, statement, answer);
        self.told_by(sql, statement, answer);
    }

    /// The transaction is the server's word.
    fn believe(
        &mut self,
        server: Server,
        statement: &Statement,
        same_connection: bool,
        answer: &Answer<'_>,
    ) {
        let Some(bits) = answer.status else {
            return;
        };
        let open = bits & status::IN_TRANSACTION != 0;
        match server {
            Server::Primary => {
                self.autocommit = bits & status::AUTOCOMMIT != 0;
                let elsewhere = self.transaction == Transaction::Replica;
                // SET and USE run on the primary while a transaction is open on a replica.
                let beside = same_connection
                    || matches!(
                        statement.class,
                        Class::Set | Class::Use | Class::Prepare | Class::Deallocate
                    );
                if open {
                    self.transaction = Transaction::Primary;
                } else if !(elsewhere && beside) {
                    self.transaction = Transaction::None;
                }
            }
            Server::Replica if open => self.transaction = Transaction::Replica,
            Server::Replica => {
                if self.transaction == Transaction::Replica {
                    self.transaction = Transaction::None;
                }
            }
        }
    }

    /// Where it is known what the statement leaves to be asked for. Found out by asking servers of
    /// both families after statements of all kinds.
    fn remember_last(
        &mut self,
        server: Server,
        sql: &[u8],
        statement: &Statement,
        answer: &Answer<'_>,
    ) {
        let is = |word: &str| {
            statement
                .first_word(sql)
                .eq_ignore_ascii_case(word.as_bytes())
        };
        let mysql = statement.dialect.family == Family::MySql;
        self.last.statement = server;
        let queries = match statement.class {
            Class::Read => !is("checksum") && !is("help"),
            Class::Write => mysql && is("update"),
            Class::LockingRead
            | Class::SelectInto
            | Class::ShowServer
            | Class::Execute
            | Class::ExecuteImmediate
            | Class::Call
            | Class::Compound
            | Class::Multi
            | Class::SetStatement => true,
            Class::Do => mysql,
            Class::Ddl
            | Class::Begin
            | Class::Commit
            | Class::Rollback
            | Class::Savepoint
            | Class::SetTransaction
            | Class::Set
            | Class::SetGlobal
            | Class::Use
            | Class::Diagnostics
            | Class::Prepare
            | Class::Deallocate
            | Class::Handler
            | Class::LockTables
            | Class::UnlockTables
            | Class::Flush
            | Class::Xa
            | Class::Kill
            | Class::Administration
            | Class::Empty
            | Class::Unknown => false,
        };
        if queries && answer.succeeded {
            self.last.query = server;
            self.last.query_counts = statement.has(Facts::CALC_FOUND_ROWS);
        }
        let warned = !answer.succeeded || answer.warnings > 0;
        // MariaDB forgets former warnings only when a statement reads a table or has its own.
        let touches_nothing = match statement.class {
            Class::Read => !statement.has(Facts::HAS_FROM) && is("select"),
            Class::Begin
            | Class::Commit
            | Class::Rollback
            | Class::Savepoint
            | Class::SetTransaction
            | Class::Set
            | Class::SetGlobal
            | Class::Use
            | Class::Do
            | Class::Prepare
            | Class::Flush
            | Class::UnlockTables => true,
            Class::LockingRead
            | Class::SelectInto
            | Class::Write
            | Class::Ddl
            | Class::SetStatement
            | Class::ShowServer
            | Class::Diagnostics
            | Class::Execute
            | Class::ExecuteImmediate
            | Class::Deallocate
            | Class::Call
            | Class::Handler
            | Class::LockTables
            | Class::Xa
            | Class::Kill
            | Class::Administration
            | Class::Compound
            | Class::Multi
            | Class::Empty
            | Class::Unknown => false,
        };
        let keeps = statement.class == Class::Diagnostics || (!mysql && touches_nothing);
        if warned || !keeps {
            self.last.warnings = server;
            self.last.warned = warned;
        }
    }

    /// After the proxy's own answer.
    fn after_proxy(&mut self, sql: &[u8], statement: &Statement, answer: &Answer<'_>) {
        if statement.class == Class::SetTransaction {
            self.next = Next::Kept {
                statement: sql.to_vec(),
                read_only: statement.has(Facts::READ_ONLY),
            };
        } else if statement.class == Class::Set {
            self.assign(sql, statement, answer);
        }
    }

    /// What the server told.
    fn told_by(&mut self, sql: &[u8], statement: &Statement, answer: &Answer<'_>) {
        if let Some(schema) = answer.schema {
            self.set_schema(schema);
        }
        if answer.variables.is_empty() {
            return;
        }
        let written = Written::new(sql, statement);
        for (name, value) in answer.variables {
            self.told(name, value, written.has(name));
        }
        self.renew_variable_pins();
    }
}

/// Whether a statement surely uses up what SET TRANSACTION said; that a query without a table or one
/// that locks does not was found out by trying.
fn ends_waiting(statement: &Statement) -> bool {
    match statement.class {
        Class::Read => statement.has(Facts::HAS_FROM) && !statement.has(Facts::SERVER_STATE),
        Class::Write | Class::Begin | Class::Commit | Class::Rollback => true,
        Class::Ddl => statement.has(Facts::IMPLICIT_COMMIT),
        Class::LockingRead
        | Class::SelectInto
        | Class::Savepoint
        | Class::SetTransaction
        | Class::Set
        | Class::SetGlobal
        | Class::SetStatement
        | Class::Use
        | Class::ShowServer
        | Class::Diagnostics
        | Class::Prepare
        | Class::Execute
        | Class::ExecuteImmediate
        | Class::Deallocate
        | Class::Call
        | Class::Do
        | Class::Handler
        | Class::LockTables
        | Class::UnlockTables
        | Class::Flush
        | Class::Xa
        | Class::Kill
        | Class::Administration
        | Class::Compound
        | Class::Multi
        | Class::Empty
        | Class::Unknown => false,
    }
}
