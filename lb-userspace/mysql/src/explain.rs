//! What would become of statements: `lb mysql explain`.
//!
//! The statements are taken in order as one fresh session, with replicas that may get reads. What
//! a server would answer is made up: every statement succeeds.

use crate::route::{Answer, Before, Decision, Reason, Server, Session, Target, route, status};
use crate::sql::{Assignments, Class, Dialect, Facts, Parts, Scope, Statement, Variable, classify};

/// The default schema of the session that is made up.
const SCHEMA: &[u8] = b"test";

/// What would become of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub class: Class,
    /// Where it goes.
    pub target: Target,
    /// Whether it binds the session to the primary until something ends that.
    pub pins: bool,
    /// Why it goes there.
    pub reason: Reason,
}

impl Row {
    /// All of it in words.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut sentence = self.reason.explanation().to_owned();
        if self.pins {
            sentence.push_str(" The session stays with the primary until that ends.");
        }
        sentence
    }
}

/// Takes statements in order as one session.
#[must_use]
pub fn explain<T: AsRef<[u8]>>(statements: &[T], dialect: Dialect) -> Vec<Row> {
    let mut session = Session::new(dialect, Some(SCHEMA));
    let mut server = MadeUp {
        autocommit: true,
        transaction: false,
        read_only: false,
    };
    let mut row = |sql: &[u8]| {
        let statement = classify(sql, session.dialect());
        let decision = route(&session, sql, &statement, 1, &());
        server.execute(sql, &statement);
        let answer = Answer {
            succeeded: true,
            status: server.status(&session, &decision),
            state_changed: Some(false),
            ..Answer::default()
        };
        session.after(sql, &statement, &decision, &answer);
        Row {
            class: statement.class,
            target: decision.target,
            pins: !decision.pins.is_empty(),
            reason: decision.reason,
        }
    };
    statements.iter().map(|sql| row(sql.as_ref())).collect()
}

/// As much of a server as there has to be.
struct MadeUp {
    autocommit: bool,
    transaction: bool,
    read_only: bool,
}

impl MadeUp {
    fn status(&self, session: &Session, decision: &Decision) -> Option<u16> {
        // The primary knows nothing of a transaction on a replica.
        let beside = session.transaction() == Some(Server::Replica)
            && decision.server()? == Server::Primary
            && decision.before == Before::Nothing;
        let transaction = self.transaction && !beside;
        let bit = |bit, holds: bool| if holds { bit } else { 0 };
        Some(
            bit(status::AUTOCOMMIT, self.autocommit)
                | bit(status::IN_TRANSACTION, transaction)
                | bit(
                    status::IN_READ_ONLY_TRANSACTION,
                    transaction && self.read_only,
                ),
        )
    }

    fn execute(&mut self, sql: &[u8], statement: &Statement) {
        let touches_tables = matches!(
            statement.class,
            Class::Read
                | Class::LockingRead
                | Class::SelectInto
                | Class::Write
                | Class::Call
                | Class::Execute
        );
        if statement.has(Facts::IMPLICIT_COMMIT) {
            self.transaction = false;
        }
        if statement.class == Class::Begin {
            self.transaction = true;
            self.read_only = statement.has(Facts::READ_ONLY);
        } else if matches!(statement.class, Class::Commit | Class::Rollback) {
            self.transaction = self.transaction && statement.has(Facts::CHAIN);
        } else if statement.class == Class::Set {
            self.set(sql, statement.dialect);
        } else if statement.class == Class::Multi {
            for part in Parts::new(sql, statement.dialect) {
                self.execute(part.sql, &part.statement);
            }
        } else if touches_tables && !self.autocommit {
            self.transaction = true;
        }
    }

    fn set(&mut self, sql: &[u8], dialect: Dialect) {
        for assignment in Assignments::new(sql, dialect) {
            let Variable::System(Scope::Session | Scope::Unsaid, Some(name)) = assignment.variable
            else {
                continue;
            };
            if name.eq_ignore_ascii_case(b"autocommit") {
                let off = [&b"0"[..], b"off", b"false", b"'off'", b"\"off\""];
                let is_off = off
                    .iter()
                    .any(|value| assignment.value.eq_ignore_ascii_case(value));
                self.transaction &= is_off;
                self.autocommit = !is_off;
            }
        }
    }
}
