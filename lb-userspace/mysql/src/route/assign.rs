//! What a SET does to a session.

use super::after::Answer;
use super::pins::Pins;
use super::remembered;
use super::session::{Next, Session};
use crate::sql::{
    Assignment, Assignments, Charset, Class, Facts, Hint, Literal, Scope, SqlMode, Statement,
    Variable,
};

/// Variables that matter to writes alone, or to what only the primary does. A replica does not get
/// them.
const OF_WRITES: [&str; 14] = [
    "binlog_format",
    "binlog_row_image",
    "foreign_key_checks",
    "gtid_domain_id",
    "gtid_seq_no",
    "identity",
    "insert_id",
    "last_insert_id",
    "pseudo_replica_mode",
    "pseudo_slave_mode",
    "pseudo_thread_id",
    "server_id",
    "sql_log_bin",
    "unique_checks",
];

fn is(name: &[u8], other: &str) -> bool {
    name.eq_ignore_ascii_case(other.as_bytes())
}

/// Whether the variable is about the next transaction when it is set without a scope.
pub(super) fn is_of_next(name: &[u8]) -> bool {
    let names = [
        "transaction_isolation",
        "transaction_read_only",
        "tx_isolation",
        "tx_read_only",
    ];
    names.iter().any(|other| is(name, other))
}

fn is_read_only(name: &[u8]) -> bool {
    is(name, "transaction_read_only") || is(name, "tx_read_only")
}

/// What `SET @lb_route = …` asks for: none within for `auto`, none at all for another value.
pub(super) fn asked(value: &[u8]) -> Option<Option<Hint>> {
    match text(value).to_ascii_lowercase().as_slice() {
        b"primary" => Some(Some(Hint::Primary)),
        b"replica" => Some(Some(Hint::Replica)),
        b"auto" => Some(None),
        _ => None,
    }
}

/// A value without its quotes.
fn text(value: &[u8]) -> &[u8] {
    match value {
        [open @ (b'\'' | b'"'), inner @ .., close] if open == close => inner,
        _ => value,
    }
}

/// Whether the value of a user variable may be written down to be set again.
fn is_user_literal(assignment: &Assignment<'_>) -> bool {
    match assignment.literal {
        Some(Literal::Number | Literal::Text) => true,
        Some(Literal::Word) => ["null", "true", "false"]
            .iter()
            .any(|word| is(assignment.value, word)),
        None => false,
    }
}

/// Whether its value goes with the session wherever that goes.
fn is_carried(assignment: &Assignment<'_>) -> bool {
    match assignment.variable {
        Variable::User(name) => name.is_some_and(<[u8]>::is_ascii) && is_user_literal(assignment),
        Variable::System(Scope::Global, _) => true,
        Variable::System(Scope::Session | Scope::Unsaid, Some(name)) => {
            let sets_gtid = is(name, "gtid_next") && !is(text(assignment.value), "automatic");
            let never_leaves = is(name, "autocommit");
            never_leaves || (assignment.literal.is_some() && !sets_gtid)
        }
        Variable::System(Scope::Session | Scope::Unsaid, None) => false,
        Variable::Names | Variable::CharacterSet | Variable::Role | Variable::Transaction(_) => {
            true
        }
    }
}

/// Whether what an assignment says holds for the session alone, and is replayed. That every
/// statement is a transaction of its own needs no replay: it is so on every connection.
fn is_replayed(assignment: &Assignment<'_>) -> bool {
    match assignment.variable {
        Variable::System(Scope::Global, _)
        | Variable::System(_, None)
        | Variable::Transaction(Scope::Global | Scope::Unsaid) => false,
        Variable::System(Scope::Unsaid, Some(name)) if is_of_next(name) => false,
        Variable::System(_, Some(name)) if is(name, "autocommit") => ["1", "on", "true"]
            .iter()
            .any(|on| is(text(assignment.value), on)),
        Variable::System(Scope::Session | Scope::Unsaid, Some(_))
        | Variable::User(_)
        | Variable::Names
        | Variable::CharacterSet
        | Variable::Role
        | Variable::Transaction(Scope::Session) => is_carried(assignment),
    }
}

/// What the SET will bind to the primary, as far as its text says.
pub(super) fn pins_of_set(sql: &[u8], statement: &Statement) -> Pins {
    let inside = if assigns_inside(sql, statement) {
        Pins::USER_VARIABLE
    } else {
        Pins::NONE
    };
    Assignments::new(sql, statement.dialect)
        .filter(|assignment| !is_carried(assignment))
        .fold(inside, |pins, assignment| {
            pins.with(match assignment.variable {
                Variable::User(_) => Pins::USER_VARIABLE,
                Variable::System(..)
                | Variable::Names
                | Variable::CharacterSet
                | Variable::Role
                | Variable::Transaction(_) => Pins::SESSION_VARIABLE,
            })
        })
}

/// Whether an expression in the SET assigns to a user variable.
fn assigns_inside(sql: &[u8], statement: &Statement) -> bool {
    statement.has(Facts::ASSIGNS)
        && Assignments::new(sql, statement.dialect)
            .any(|assignment| assignment.value.windows(2).any(|pair| pair == b":="))
}

/// Assignments of one SET beyond these are not looked at.
const MOST_ASSIGNMENTS: usize = 256;

/// The variables whose new values stand in the text of a SET, so that the text can be kept.
pub(super) struct Written<'a> {
    names: Vec<&'a [u8]>,
    charset: bool,
    transaction: bool,
}

impl<'a> Written<'a> {
    pub(super) fn new(sql: &'a [u8], statement: &Statement) -> Self {
        let mut written = Self {
            names: Vec::new(),
            charset: false,
            transaction: false,
        };
        if statement.class != Class::Set {
            return written;
        }
        for assignment in Assignments::new(sql, statement.dialect).take(MOST_ASSIGNMENTS) {
            match assignment.variable {
                Variable::System(_, Some(name)) if is_carried(&assignment) => {
                    written.names.push(name);
                }
                Variable::Names | Variable::CharacterSet => written.charset = true,
                Variable::Transaction(_) => written.transaction = true,
                Variable::User(_) | Variable::System(..) | Variable::Role => {}
            }
        }
        written
    }

    pub(super) fn has(&self, name: &[u8]) -> bool {
        (self.charset && is_about_charset(name))
            || (self.transaction && is_of_next(name))
            || self
                .names
                .iter()
                .any(|other| other.eq_ignore_ascii_case(name))
    }
}

/// Whether a SET has nothing to do with a transaction that is open: it reads no tables and leaves
/// `autocommit` alone.
pub(super) fn is_beside_transactions(sql: &[u8], statement: &Statement) -> bool {
    Assignments::new(sql, statement.dialect).all(|assignment| {
        let is_autocommit = matches!(
            assignment.variable,
            Variable::System(_, Some(name)) if is(name, "autocommit")
        );
        is_carried(&assignment) && !is_autocommit
    })
}

/// Whether a SET says something about the session's transactions.
pub(super) fn sets_transactions(sql: &[u8], statement: &Statement) -> bool {
    statement.class == Class::Set
        && Assignments::new(sql, statement.dialect).any(|assignment| match assignment.variable {
            Variable::System(_, Some(name)) => is_of_next(name),
            Variable::Transaction(_) => true,
            Variable::User(_)
            | Variable::System(_, None)
            | Variable::Names
            | Variable::CharacterSet
            | Variable::Role => false,
        })
}

/// Bytes of a SET that is as simple as those of drivers.
const SIMPLE: usize = 1024;
/// Settings that a session may have for another one to be sure to fit in.
const FEW: usize = 64;

impl Session {
    /// Whether all that a statement changes is known from its text, and replayed wherever the
    /// session goes next, so that any server may run it.
    #[must_use]
    pub fn replays(&self, sql: &[u8], statement: &Statement) -> bool {
        let dialect = statement.dialect;
        let is_simple = sql.len() <= SIMPLE
            && !statement.has(Facts::ODD)
            && !dialect.mode.foreign
            && dialect.charset != Charset::Unsafe
            && !assigns_inside(sql, statement)
            && self.remembered.settings().len() < FEW;
        let is_replayed = statement.class == Class::Use
            || (statement.class == Class::Set
                && Assignments::new(sql, dialect).all(|one| is_replayed(&one)));
        is_simple && is_replayed
    }

    /// After a SET that succeeded, on the primary or in the proxy.
    pub(super) fn assign(&mut self, sql: &[u8], statement: &Statement, answer: &Answer<'_>) {
        let dialect = statement.dialect;
        let trusted = !dialect.mode.foreign && dialect.charset != Charset::Unsafe;
        if statement.has(Facts::ODD) && trusted {
            self.pins = self.pins.with(Pins::UNKNOWN_STATE);
        }
        if assigns_inside(sql, statement) {
            self.user_variables.add(None);
        }
        for (index, assignment) in Assignments::new(sql, statement.dialect).enumerate() {
            if index >= MOST_ASSIGNMENTS {
                return self.lose_track();
            }
            self.assign_one(&assignment, statement, answer);
        }
        self.renew_variable_pins();
    }

    fn assign_one(
        &mut self,
        assignment: &Assignment<'_>,
        statement: &Statement,
        answer: &Answer<'_>,
    ) {
        let value = assignment.value;
        match assignment.variable {
            Variable::User(name) => self.assign_user(name, assignment),
            Variable::System(Scope::Global, _) => {}
            Variable::System(_, None) => self.session_variables.add(None),
            Variable::System(scope, Some(name)) => {
                self.assign_system(scope, name, assignment, answer);
            }
            Variable::Names | Variable::CharacterSet => {
                let words = match assignment.variable {
                    Variable::Names => "NAMES",
                    Variable::CharacterSet
                    | Variable::User(_)
                    | Variable::System(..)
                    | Variable::Role
                    | Variable::Transaction(_) => "CHARACTER SET",
                };
                let first = value.split(u8::is_ascii_whitespace).next();
                let charset = Charset::from_name(text(first.unwrap_or_default()));
                let statement = [b"SET ", words.as_bytes(), b" ", value].concat();
                if !self.remembered.ends_with(&statement) {
                    self.change_charset(charset);
                    self.keep(words.as_bytes(), statement, true);
                }
            }
            Variable::Role => {
                let statement = [b"SET ROLE ", value].concat();
                self.keep(b"role", statement, true);
            }
            Variable::Transaction(Scope::Global) => {}
            Variable::Transaction(Scope::Session | Scope::Unsaid) => {
                if statement.has(Facts::READ_ONLY) {
                    self.read_only = true;
                } else if statement.has(Facts::READ_WRITE) {
                    self.read_only = false;
                }
                let key = [b"transaction ", value].concat();
                let statement = [b"SET SESSION TRANSACTION ", value].concat();
                self.keep(&key, statement, true);
            }
        }
    }

    fn assign_user(&mut self, name: Option<&[u8]>, assignment: &Assignment<'_>) {
        let lower = name
            .filter(|name| name.is_ascii())
            .map(<[u8]>::to_ascii_lowercase);
        let Some(name) = lower else {
            return self.user_variables.add(None);
        };
        if name == b"lb_route"
            && let Some(asks) = asked(assignment.value)
        {
            self.asks = asks;
        }
        let key = [b"@", &name[..]].concat();
        if is_user_literal(assignment) {
            let statement = remembered::set_user(&name, assignment.value);
            if self.remembered.keep(&key, statement, true) {
                return self.user_variables.remove(&name);
            }
        }
        self.remembered.forget(&key);
        self.user_variables.add(Some(name));
    }

    fn assign_system(
        &mut self,
        scope: Scope,
        name: &[u8],
        assignment: &Assignment<'_>,
        answer: &Answer<'_>,
    ) {
        if is(name, "autocommit") || starts_track(name) {
            return;
        }
        if scope == Scope::Unsaid && is_of_next(name) {
            self.next = Next::OnPrimary;
            return;
        }
        if is_carried(assignment) {
            let for_replicas = !OF_WRITES.iter().any(|other| is(name, other));
            let statement = remembered::set_session(name, assignment.value);
            self.keep(name, statement, for_replicas);
            self.session_variables.remove(&name.to_ascii_lowercase());
            self.understand(name, text(assignment.value));
        } else if !answer.tells(name) {
            self.remembered.forget(name);
            self.session_variables.add(Some(name.to_ascii_lowercase()));
            self.understand(name, b"default");
        }
    }

    /// Brings up to date what depends on a system variable's value.
    fn understand(&mut self, name: &[u8], value: &[u8]) {
        if is(name, "sql_mode") {
            let mode = SqlMode::from_value(value);
            if mode != self.dialect.mode {
                self.dialect.mode = mode;
                self.change_meaning();
            }
        } else if is(name, "character_set_client") {
            self.change_charset(Charset::from_name(value));
        } else if is_about_charset(name) {
            self.change_meaning();
        } else if is_read_only(name) {
            self.read_only = ["1", "on", "true"].iter().any(|on| is(value, on));
        }
    }

    /// A server told the value of a variable.
    pub(super) fn told(&mut self, name: &[u8], value: &[u8], by_literal: bool) {
        // The second is told with every statement of MySQL's, and nobody can set it.
        if is(name, "autocommit") || is(name, "statement_id") || starts_track(name) {
            return;
        }
        self.understand(name, value);
        if is(name, "gtid_next") && is(value, "automatic") {
            return self.session_variables.remove(b"gtid_next");
        }
        if by_literal {
            // The text of the statement is kept, which has the value as its author wrote it.
            return;
        }
        let for_replicas = !OF_WRITES.iter().any(|other| is(name, other));
        let statement = remembered::told_value(value)
            .map(|value| remembered::set_session(name, &value))
            .filter(|_| !is(name, "gtid_next"));
        match statement {
            Some(statement) => {
                self.keep(name, statement, for_replicas);
                self.session_variables.remove(&name.to_ascii_lowercase());
            }
            None => self.session_variables.add(Some(name.to_ascii_lowercase())),
        }
    }

    fn change_charset(&mut self, charset: Charset) {
        self.dialect.charset = charset;
        self.change_meaning();
    }

    /// Strings mean something else from now on, as do prepared texts.
    fn change_meaning(&mut self) {
        self.environment += 1;
        for name in self.remembered.forget_user_texts() {
            self.user_variables.add(Some(name));
        }
        self.renew_variable_pins();
    }

    pub(super) fn keep(&mut self, key: &[u8], statement: Vec<u8>, for_replicas: bool) {
        if !self.remembered.keep(key, statement, for_replicas) {
            self.session_variables.add(None);
        }
    }

    /// The pins that follow from variables.
    pub(super) fn renew_variable_pins(&mut self) {
        let of = |pin, holds: bool| if holds { pin } else { Pins::NONE };
        self.pins = self
            .pins
            .without(Pins::USER_VARIABLE.with(Pins::SESSION_VARIABLE))
            .with(of(Pins::USER_VARIABLE, !self.user_variables.is_empty()))
            .with(of(
                Pins::SESSION_VARIABLE,
                !self.session_variables.is_empty(),
            ));
    }
}

fn starts_track(name: &[u8]) -> bool {
    name.get(..14)
        .is_some_and(|start| is(start, "session_track_"))
}

fn is_about_charset(name: &[u8]) -> bool {
    let begins = |prefix: &str| {
        name.get(..prefix.len())
            .is_some_and(|start| is(start, prefix))
    };
    begins("character_set_") || begins("collation_")
}
