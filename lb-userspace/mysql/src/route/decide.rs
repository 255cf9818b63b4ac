//! The decision.

use super::assign::{is_beside_transactions, sets_transactions};
use super::pins::Pins;
use super::question::Question;
use super::reason::{Reason, Target};
use super::session::{Next, Server, Session, Transaction};
use crate::sql::{Class, Statement};

/// What is known of stored functions.
pub trait Routines {
    /// Whether a function is known to read at most: READS SQL DATA, NO SQL or DETERMINISTIC.
    /// Without a schema it is the session's default one.
    fn reads(&self, schema: Option<&[u8]>, name: &[u8]) -> bool;
}

/// Nothing is known.
impl Routines for () {
    fn reads(&self, _schema: Option<&[u8]>, _name: &[u8]) -> bool {
        false
    }
}

/// What has to be done before the statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// COMMIT on the replica, where a transaction that reads is open: the statement ends it.
    EndReplicaTransaction,
    /// COMMIT on the replica and START TRANSACTION READ ONLY on the primary: the statement is none
    /// for a replica, and its transaction goes on there.
    MoveTransaction,
    /// [`Session::next_transaction`] to the statement's server.
    SetTransaction,
}

/// Where a statement goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// The server.
    pub target: Target,
    /// Why.
    pub reason: Reason,
    /// What will bind the session to the primary afterwards, if the statement succeeds.
    pub pins: Pins,
    /// It has to be the very connection on which the last statement ran.
    pub same_connection: bool,
    /// What has to be done first.
    pub before: Before,
}

impl Decision {
    pub(super) fn new(target: Target, reason: Reason) -> Self {
        Self {
            target,
            reason,
            pins: Pins::NONE,
            same_connection: false,
            before: Before::Nothing,
        }
    }

    pub(super) fn primary(reason: Reason) -> Self {
        Self::new(Target::Primary, reason)
    }

    fn first(mut self, before: Before) -> Self {
        self.before = before;
        self
    }

    /// The server that it runs on; none if the proxy answers.
    #[must_use]
    pub fn server(&self) -> Option<Server> {
        match self.target {
            Target::Primary | Target::Both => Some(Server::Primary),
            Target::Replica => Some(Server::Replica),
            Target::Proxy => None,
        }
    }
}

/// Decides where a statement goes. `replicas` is how many may get reads now.
pub fn route(
    session: &Session,
    sql: &[u8],
    statement: &Statement,
    replicas: usize,
    routines: &dyn Routines,
) -> Decision {
    let mut decision = if session.transaction == Transaction::Replica {
        in_replica_transaction(session, sql, statement, routines)
    } else {
        let asked = Question {
            session,
            sql,
            statement,
            routines,
        };
        with_next_transaction(session, sql, statement, asked.decide(replicas > 0))
    };
    decision.pins = super::after::pins_of(sql, statement);
    decision
}

/// A SET TRANSACTION that waits goes in front of what begins a transaction, or may.
fn with_next_transaction(
    session: &Session,
    sql: &[u8],
    statement: &Statement,
    decision: Decision,
) -> Decision {
    // Who wins of it and a SET SESSION TRANSACTION is for the server to say.
    let goes_first = sets_transactions(sql, statement)
        || !matches!(
            statement.class,
            Class::Set | Class::Use | Class::Diagnostics | Class::Kill
        );
    if !goes_first || decision.target == Target::Proxy || decision.same_connection {
        return decision;
    }
    let moved = match decision.target {
        Target::Replica if statement.class != Class::Begin => {
            Decision::primary(Reason::NextTransaction)
        }
        Target::Replica | Target::Primary | Target::Both | Target::Proxy => decision,
    };
    match session.next {
        Next::Nothing => decision,
        Next::OnPrimary => moved,
        Next::Kept { .. } => moved.first(Before::SetTransaction),
    }
}

/// While a transaction that is READ ONLY is open on a replica.
fn in_replica_transaction(
    session: &Session,
    sql: &[u8],
    statement: &Statement,
    routines: &dyn Routines,
) -> Decision {
    let asked = Question {
        session,
        sql,
        statement,
        routines,
    };
    let decision = asked.decide_alone(true);
    let replica = Decision::new(Target::Replica, Reason::ReadOnlyTransaction);
    match statement.class {
        Class::Commit | Class::Rollback | Class::Savepoint => {
            Decision::new(Target::Replica, Reason::InTransaction)
        }
        // It fails while a transaction is open, wherever that is.
        Class::SetTransaction => Decision::new(Target::Replica, Reason::InTransaction),
        Class::Begin if decision.target == Target::Replica => {
            replica.first(Before::EndReplicaTransaction)
        }
        Class::Begin | Class::LockTables => decision.first(Before::EndReplicaTransaction),
        Class::Diagnostics | Class::Kill => decision,
        Class::Set if is_beside_transactions(sql, statement) => decision,
        Class::Use | Class::Deallocate => decision,
        // To prepare a write fails while a transaction reads alone.
        Class::Prepare if asked.prepares_read() => decision,
        Class::Read
        | Class::LockingRead
        | Class::SelectInto
        | Class::Write
        | Class::Ddl
        | Class::Set
        | Class::SetGlobal
        | Class::SetStatement
        | Class::ShowServer
        | Class::Prepare
        | Class::Execute
        | Class::ExecuteImmediate
        | Class::Call
        | Class::Do
        | Class::Handler
        | Class::UnlockTables
        | Class::Flush
        | Class::Xa
        | Class::Administration
        | Class::Compound
        | Class::Multi
        | Class::Empty
        | Class::Unknown => match decision.target {
            _ if decision.same_connection => decision,
            Target::Replica => replica,
            Target::Primary | Target::Both | Target::Proxy => {
                decision.first(Before::MoveTransaction)
            }
        },
    }
}
