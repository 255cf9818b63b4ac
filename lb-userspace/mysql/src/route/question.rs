//! The decision about a statement, before anything that is due first.

use super::assign;
use super::decide::{Decision, Routines};
use super::reason::{Reason, Target};
use super::session::{Next, Server, Session, Transaction};
use crate::sql::{
    Assignments, Charset, Class, Facts, Hint, Scope, Statement, Variable, classify,
    is_plain_transaction, prepared_name, prepared_text,
};

/// All that a decision depends on.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) session: &'a Session,
    pub(super) sql: &'a [u8],
    pub(super) statement: &'a Statement,
    pub(super) routines: &'a dyn Routines,
}

impl Question<'_> {
    /// Outside of a transaction on a replica.
    pub(super) fn decide(&self, replicas: bool) -> Decision {
        let decision = self.decide_alone(replicas);
        let session = self.session;
        let bound = if session.transaction == Transaction::Primary {
            Reason::InTransaction
        } else if session.autocommit {
            return decision;
        } else {
            Reason::AutocommitOff
        };
        // Of SET TRANSACTION the server says whether this is the time for it.
        let is_about_it = matches!(
            self.statement.class,
            Class::Commit | Class::Rollback | Class::Savepoint | Class::SetTransaction
        );
        let would_leave = decision.target == Target::Replica && !decision.same_connection;
        if is_about_it || would_leave || decision.reason == Reason::NoReplica {
            Decision::primary(bound)
        } else {
            decision
        }
    }

    /// As if no transaction were open.
    pub(super) fn decide_alone(&self, replicas: bool) -> Decision {
        let primary = |reason| Decision::primary(reason);
        match self.statement.class {
            Class::Read => self.read(replicas),
            Class::Begin => self.begin(replicas),
            Class::Diagnostics => self.last(),
            Class::Set => self.set(),
            Class::Use => Decision::new(Target::Both, Reason::SessionState),
            Class::Execute => self.execute(replicas),
            Class::Prepare | Class::Deallocate => Decision::new(Target::Both, Reason::PreparedText),
            Class::SetTransaction => self.set_transaction(),
            Class::Kill => Decision::new(Target::Proxy, Reason::Kill),
            Class::ShowServer if self.hint() == Some(Hint::Replica) && self.only_shows() => {
                self.read(replicas)
            }
            Class::ShowServer => primary(Reason::ServerState),
            Class::LockingRead => primary(Reason::LockingRead),
            Class::SelectInto => primary(Reason::Into),
            Class::Write => primary(Reason::Write),
            Class::Ddl => primary(Reason::Ddl),
            Class::Commit | Class::Rollback | Class::Savepoint => {
                primary(Reason::TransactionControl)
            }
            Class::SetGlobal => primary(Reason::SetGlobal),
            Class::SetStatement => primary(Reason::SetStatement),
            Class::ExecuteImmediate => primary(Reason::UnknownPrepared),
            Class::Call => primary(Reason::Call),
            Class::Do => primary(Reason::Do),
            Class::Handler => primary(Reason::Handler),
            Class::LockTables | Class::UnlockTables => primary(Reason::LockTables),
            Class::Flush | Class::Administration => primary(Reason::Administration),
            Class::Xa => primary(Reason::Xa),
            Class::Compound => primary(Reason::Compound),
            Class::Multi => primary(Reason::MultiStatement),
            Class::Empty => primary(Reason::Empty),
            Class::Unknown => primary(Reason::UnknownStatement),
        }
    }

    /// EXPLAIN ANALYZE FOR SCHEMA executes what it is about.
    fn only_shows(&self) -> bool {
        let does = Facts::WRITE_WORD | Facts::INTO | Facts::LOCKING;
        !self.statement.facts.has_any(does)
    }

    /// What a comment or the session asks for; the comment wins.
    fn hint(&self) -> Option<Hint> {
        self.statement.hint.or(self.session.asks)
    }

    /// To where the last statement ran, for what is about that.
    fn last(&self) -> Decision {
        let last = &self.session.last;
        let server = if self.statement.has(Facts::ROW_COUNT) {
            last.statement
        } else if self.statement.has(Facts::FOUND_ROWS) {
            last.query
        } else {
            last.warnings
        };
        let target = match server {
            Server::Primary => Target::Primary,
            Server::Replica => Target::Replica,
        };
        let mut decision = Decision::new(target, Reason::LastStatement);
        decision.same_connection = true;
        decision
    }

    fn read(&self, replicas: bool) -> Decision {
        let facts = self.statement.facts;
        if let Some(reason) = self.not_a_read() {
            return Decision::primary(reason);
        }
        if facts.has_any(Facts::ROW_COUNT | Facts::FOUND_ROWS | Facts::WARNINGS) {
            return self.last();
        }
        if let Some(reason) = self.session.pins.reason() {
            return Decision::primary(reason);
        }
        match self.hint() {
            Some(Hint::Primary) => Decision::primary(Reason::Hint),
            Some(Hint::Replica) if replicas => Decision::new(Target::Replica, Reason::Hint),
            None if facts.has(Facts::SYSTEM_VARIABLE) => Decision::primary(Reason::SystemVariable),
            None if facts.has(Facts::SERVER_STATE) || self.is_in_servers_schema() => {
                Decision::primary(Reason::ServerState)
            }
            Some(Hint::Replica) | None if !replicas => Decision::primary(Reason::NoReplica),
            Some(Hint::Replica) | None => Decision::new(Target::Replica, Reason::Read),
        }
    }

    /// Why something that reads by its words must not go to a replica, whoever asks for it.
    fn not_a_read(&self) -> Option<Reason> {
        let facts = self.statement.facts;
        let dialect = self.statement.dialect;
        let rows = [
            (dialect.charset == Charset::Unsafe, Reason::CharacterSet),
            (dialect.mode.foreign, Reason::SqlMode),
            (facts.has(Facts::ODD), Reason::NotUnderstood),
            (facts.has(Facts::ASSIGNS), Reason::AssignsVariable),
            (
                facts.has_any(Facts::TAKES_LOCK | Facts::ASKS_LOCK),
                Reason::UserLock,
            ),
            (facts.has(Facts::SEQUENCE), Reason::Sequence),
            (facts.has(Facts::LAST_INSERT_ID), Reason::LastInsertId),
            (facts.has(Facts::WAITS), Reason::WaitsForReplication),
            (self.calls_unknown(), Reason::UnknownFunction),
        ];
        rows.iter().find(|(holds, _)| *holds).map(|&(_, why)| why)
    }

    fn calls_unknown(&self) -> bool {
        if !self.statement.has(Facts::CALLS) {
            return false;
        }
        let reads = |(schema, name)| self.routines.reads(schema, name);
        self.statement.has(Facts::TOO_MANY_CALLS)
            || self
                .statement
                .calls()
                .iter()
                .any(|call| !call.names(self.sql).is_some_and(reads))
    }

    /// Whether names without a schema are those of a server's own tables.
    fn is_in_servers_schema(&self) -> bool {
        const SCHEMAS: [&str; 4] = ["information_schema", "performance_schema", "sys", "mysql"];
        self.session.schema.as_deref().is_some_and(|schema| {
            SCHEMAS
                .iter()
                .any(|own| schema.eq_ignore_ascii_case(own.as_bytes()))
        })
    }

    fn begin(&self, replicas: bool) -> Decision {
        let session = self.session;
        let facts = self.statement.facts;
        let kept = matches!(
            session.next,
            Next::Kept {
                read_only: true,
                ..
            }
        );
        let reads_by_default = match session.next {
            Next::Nothing => session.read_only,
            Next::Kept { .. } => kept,
            Next::OnPrimary => false,
        };
        let reads =
            facts.has(Facts::READ_ONLY) || (reads_by_default && !facts.has(Facts::READ_WRITE));
        let free = session.pins.is_empty()
            && !facts.has(Facts::ODD)
            && !(facts.has(Facts::READ_ONLY) && facts.has(Facts::READ_WRITE))
            && session.next != Next::OnPrimary;
        if !reads || !free {
            return Decision::primary(Reason::Begin);
        }
        if self.hint() == Some(Hint::Primary) {
            return Decision::primary(Reason::Hint);
        }
        if !replicas {
            return Decision::primary(Reason::NoReplica);
        }
        Decision::new(Target::Replica, Reason::ReadOnlyTransaction)
    }

    fn set(&self) -> Decision {
        let mut assignments = Assignments::new(self.sql, self.statement.dialect);
        let (first, second) = (assignments.next(), assignments.next());
        let alone = first.filter(|_| second.is_none() && !self.statement.has(Facts::ODD));
        if let Some(assignment) = alone {
            match assignment.variable {
                Variable::User(Some(name))
                    if name.eq_ignore_ascii_case(b"lb_route")
                        && assign::asked(assignment.value).is_some() =>
                {
                    return Decision::new(Target::Proxy, Reason::RouteVariable);
                }
                Variable::System(Scope::Session | Scope::Unsaid, Some(name))
                    if starts_with(name, b"session_track_") && assignment.literal.is_some() =>
                {
                    return Decision::new(Target::Proxy, Reason::Tracker);
                }
                Variable::System(Scope::Unsaid, Some(name)) if assign::is_of_next(name) => {
                    return Decision::primary(Reason::NextTransaction);
                }
                Variable::User(_)
                | Variable::System(..)
                | Variable::Names
                | Variable::CharacterSet
                | Variable::Role
                | Variable::Transaction(_) => {}
            }
        }
        Decision::new(Target::Both, Reason::SessionState)
    }

    fn set_transaction(&self) -> Decision {
        // It is kept, so it may not be long.
        let plain =
            self.sql.len() <= 1024 && is_plain_transaction(self.sql, self.statement.dialect);
        // A second one adds to the first, and who wins is for the server to say.
        if plain && self.session.next == Next::Nothing && self.session.pins.is_empty() {
            Decision::new(Target::Proxy, Reason::NextTransaction)
        } else {
            Decision::primary(Reason::NextTransaction)
        }
    }

    /// Whether a PREPARE is of a text that is known to read.
    pub(super) fn prepares_read(&self) -> bool {
        let text = prepared_text(self.sql, self.statement.dialect);
        let text = text.filter(|_| self.statement.has(Facts::LITERAL));
        text.is_some_and(|text| {
            matches!(
                classify(&text, self.statement.dialect).class,
                Class::Read | Class::ShowServer
            )
        })
    }

    /// By what was prepared.
    fn execute(&self, replicas: bool) -> Decision {
        let session = self.session;
        let known = prepared_name(self.sql, self.statement.dialect)
            .and_then(|name| session.prepared.find(name));
        let Some((known, text)) = known.and_then(|known| Some((known, known.text.as_deref()?)))
        else {
            return Decision::primary(Reason::UnknownPrepared);
        };
        let inner = classify(text, session.dialect);
        if matches!(inner.class, Class::Execute | Class::Multi | Class::Prepare) {
            return Decision::primary(Reason::UnknownPrepared);
        }
        let mut decision = Question {
            sql: text,
            statement: &inner,
            ..*self
        }
        .decide_alone(replicas);
        if decision.target != Target::Primary && known.environment != session.environment {
            decision = Decision::primary(Reason::PreparedElsewhere);
        }
        if self.statement.has(Facts::ODD) {
            decision = Decision::primary(Reason::NotUnderstood);
        }
        match decision.target {
            Target::Replica => decision,
            // What is kept of the session is kept from plain statements alone.
            Target::Primary | Target::Both | Target::Proxy => Decision::primary(decision.reason),
        }
    }
}

fn starts_with(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
