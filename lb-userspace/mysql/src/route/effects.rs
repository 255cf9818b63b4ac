//! What a statement's text says about the session that no server tells.

use std::borrow::Cow;

use super::after::{Answer, pins_of};
use super::pins::Pins;
use super::session::{Next, Session, Transaction};
use crate::sql::{
    Class, Facts, Parts, SqlMode, Statement, Tables, classify, prepared_name, prepared_text,
    used_schema,
};

/// Statements of one text beyond these are not looked at.
pub(super) const MOST_PARTS: usize = 256;

impl Session {
    /// So much was done at once that nobody wants to follow.
    pub(super) fn lose_track(&mut self) {
        self.user_variables.add(None);
        self.session_variables.add(None);
        self.temporary.add(None);
        self.dialect.mode = SqlMode::UNKNOWN;
        self.environment += 1;
        self.pins = self
            .pins
            .with(Pins::UNKNOWN_STATE)
            .with(Pins::TEMPORARY_TABLE)
            .with(Pins::USER_LOCK);
        self.renew_variable_pins();
    }

    /// What the text says that no server tells.
    pub(super) fn effects(&mut self, sql: &[u8], statement: &Statement, answer: &Answer<'_>) {
        let facts = statement.facts;
        let done = answer.succeeded;
        let add = pins_of(sql, statement);
        if facts.has(Facts::TAKES_LOCK) {
            // Even if it failed afterwards.
            self.pins = self.pins.with(Pins::USER_LOCK);
        } else if facts.has(Facts::RELEASES_ALL) && done {
            self.pins = self.pins.without(Pins::USER_LOCK);
        }
        if facts.has(Facts::HIGH_BYTES) || is_guessed(statement) {
            self.opaque(answer);
        }
        match statement.class {
            Class::Set if done => self.assign(sql, statement, answer),
            Class::Ddl => self.after_ddl(sql, statement, done),
            Class::Begin if done && !self.read_lock => {
                self.pins = self.pins.without(Pins::TABLE_LOCK);
            }
            Class::LockTables | Class::Flush if done => {
                self.read_lock |= facts.has(Facts::READ_LOCK);
                self.pins = self.pins.with(add);
            }
            Class::UnlockTables if done && facts.has(Facts::ENDS) => {
                self.read_lock = false;
                self.pins = self.pins.without(Pins::TABLE_LOCK);
            }
            Class::Handler if done => self.after_handler(facts),
            Class::Xa if done && facts.has(Facts::BEGINS) => self.pins = self.pins.with(Pins::XA),
            Class::Xa if done && facts.has(Facts::ENDS) => {
                self.pins = self.pins.without(Pins::XA);
            }
            Class::Use if done => self.after_use(sql, statement, answer),
            Class::SetTransaction if done && self.transaction == Transaction::None => {
                self.next = Next::OnPrimary;
            }
            Class::Prepare if done => self.after_prepare(sql, statement),
            Class::Deallocate if done => {
                if let Some(name) = prepared_name(sql, statement.dialect) {
                    self.prepared.remove(name);
                    self.remembered.forget(&prepare_key(name));
                }
            }
            Class::Execute => self.after_execute(sql, statement, answer),
            Class::ExecuteImmediate => match prepared_text(sql, statement.dialect) {
                Some(text) if statement.has(Facts::LITERAL) => self.after_inner(&text, answer),
                Some(_) | None => self.opaque(answer),
            },
            Class::Multi => self.after_multi(sql, statement, answer),
            Class::Call | Class::Compound => {
                if facts.has(Facts::USER_VARIABLE) {
                    // What a procedure gives out.
                    self.user_variables.add(None);
                    self.renew_variable_pins();
                }
                self.opaque(answer);
            }
            // A syntax error, most likely.
            Class::Unknown if done => self.opaque(answer),
            Class::Read
            | Class::LockingRead
            | Class::SelectInto
            | Class::Write
            | Class::Begin
            | Class::Commit
            | Class::Rollback
            | Class::Savepoint
            | Class::SetTransaction
            | Class::Set
            | Class::SetGlobal
            | Class::SetStatement
            | Class::Use
            | Class::ShowServer
            | Class::Diagnostics
            | Class::Prepare
            | Class::Deallocate
            | Class::Do
            | Class::Handler
            | Class::LockTables
            | Class::UnlockTables
            | Class::Flush
            | Class::Xa
            | Class::Kill
            | Class::Administration
            | Class::Empty
            | Class::Unknown => {
                // A SET that failed has set nothing, but for what its expressions did.
                let failed_set = statement.class == Class::Set && !facts.has(Facts::ASSIGNS);
                if add.has(Pins::USER_VARIABLE) && !failed_set {
                    self.user_variables.add(None);
                    self.renew_variable_pins();
                }
                let quiet = matches!(
                    statement.class,
                    Class::Read | Class::LockingRead | Class::Write | Class::Do
                );
                let calls = statement.class == Class::Read && facts.has(Facts::CALLS);
                if calls && answer.calls_only_read {
                    return;
                }
                if quiet && add.is_empty() && (calls || answer.state_changed == Some(true)) {
                    // A trigger or a function did it, or may have.
                    self.opaque(answer);
                }
            }
        }
    }

    /// Something may have been done to the session that nobody told of.
    fn opaque(&mut self, answer: &Answer<'_>) {
        if answer.state_changed != Some(false) {
            self.pins = self.pins.with(Pins::UNKNOWN_STATE);
        }
    }

    fn after_ddl(&mut self, sql: &[u8], statement: &Statement, done: bool) {
        let facts = statement.facts;
        let drops = facts.has(Facts::MAY_DROP_TEMPORARY);
        let makes = facts.has(Facts::TEMPORARY) && !drops;
        if makes && done {
            for table in Tables::new(sql, statement.dialect) {
                let name = table.and_then(|table| self.table_name(table));
                self.temporary.add(name);
            }
        } else if drops && done && !facts.has(Facts::ODD) {
            for table in Tables::new(sql, statement.dialect) {
                if let Some(name) = table.and_then(|table| self.table_name(table)) {
                    self.temporary.remove(&name);
                }
            }
        } else if facts.has(Facts::RENAMES) && !self.temporary.is_empty() {
            self.temporary.add(None);
        }
        self.pins = if self.temporary.is_empty() {
            self.pins.without(Pins::TEMPORARY_TABLE)
        } else {
            self.pins.with(Pins::TEMPORARY_TABLE)
        };
    }

    /// A table's name with its schema; none while that is not known.
    fn table_name(&self, (schema, name): (Option<&[u8]>, &[u8])) -> Option<Vec<u8>> {
        let schema = schema.or(self.schema.as_deref())?;
        Some([schema, b"\0", name].concat())
    }

    fn after_handler(&mut self, facts: Facts) {
        if facts.has(Facts::BEGINS) {
            self.handlers += 1;
        } else if facts.has(Facts::ENDS) {
            self.handlers = self.handlers.saturating_sub(1);
        }
        self.pins = if self.handlers == 0 {
            self.pins.without(Pins::HANDLER)
        } else {
            self.pins.with(Pins::HANDLER)
        };
    }

    fn after_use(&mut self, sql: &[u8], statement: &Statement, answer: &Answer<'_>) {
        if answer.schema.is_some() {
            return;
        }
        match used_schema(sql, statement.dialect) {
            Some(name) if !statement.has(Facts::ODD) => self.set_schema(name),
            Some(_) | None => self.pins = self.pins.with(Pins::UNKNOWN_STATE),
        }
    }

    fn after_prepare(&mut self, sql: &[u8], statement: &Statement) {
        let dialect = statement.dialect;
        let Some(name) = prepared_name(sql, dialect) else {
            return;
        };
        let literal = statement.has(Facts::LITERAL) && !statement.has(Facts::ODD);
        let text = prepared_text(sql, dialect).filter(|_| literal);
        let text = text.map(Cow::into_owned);
        let is_read = text.as_deref().is_some_and(|text| {
            matches!(
                classify(text, dialect).class,
                Class::Read | Class::ShowServer
            )
        });
        self.remembered.forget(&prepare_key(name));
        let kept = is_read && self.remembered.keep(&prepare_key(name), sql.to_vec(), true);
        self.prepared
            .keep(name, text.filter(|_| kept || !is_read), self.environment);
    }

    fn after_execute(&mut self, sql: &[u8], statement: &Statement, answer: &Answer<'_>) {
        let known = prepared_name(sql, statement.dialect)
            .and_then(|name| self.prepared.find(name))
            .and_then(|prepared| prepared.text.clone());
        match known {
            Some(text) => {
                if statement.has(Facts::USER_VARIABLE) && is_call(&text, self) {
                    self.user_variables.add(None);
                    self.renew_variable_pins();
                }
                self.after_inner(&text, answer);
            }
            None if answer.succeeded => self.opaque(answer),
            None => {}
        }
    }

    /// After a text that was executed by another one.
    fn after_inner(&mut self, text: &[u8], answer: &Answer<'_>) {
        let inner = classify(text, self.dialect);
        let nested = matches!(
            inner.class,
            Class::Execute | Class::ExecuteImmediate | Class::Prepare | Class::Multi
        );
        if nested {
            self.opaque(answer);
        } else {
            self.effects(text, &inner, answer);
        }
    }

    /// After several statements in one text, of which some may have been done before an error.
    fn after_multi(&mut self, sql: &[u8], statement: &Statement, answer: &Answer<'_>) {
        for (index, part) in Parts::new(sql, statement.dialect).enumerate() {
            if index >= MOST_PARTS {
                return self.lose_track();
            }
            let quiet = Answer {
                state_changed: answer.state_changed.filter(|_| answer.succeeded),
                ..*answer
            };
            if part.statement.class == Class::Execute {
                // Reading what was prepared again and again would let a short text take long.
                self.opaque(&quiet);
            } else if answer.succeeded {
                self.effects(part.sql, &part.statement, &quiet);
            } else {
                let may = pins_of(part.sql, &part.statement);
                let is_setting = matches!(
                    part.statement.class,
                    Class::Set | Class::Use | Class::Prepare | Class::Call | Class::Compound
                );
                if !may.is_empty() || is_setting {
                    self.pins = self.pins.with(Pins::UNKNOWN_STATE);
                }
            }
        }
    }
}

fn prepare_key(name: &[u8]) -> Vec<u8> {
    [b"prepare ", &name.to_ascii_lowercase()[..]].concat()
}

/// Whether the text was read by rules that may not be the server's, and may have done anything.
fn is_guessed(statement: &Statement) -> bool {
    let harmless = matches!(
        statement.class,
        Class::Read
            | Class::Write
            | Class::Set
            | Class::Use
            | Class::Begin
            | Class::Commit
            | Class::Rollback
            | Class::Empty
    );
    statement.dialect.mode.foreign && !harmless
}

fn is_call(text: &[u8], session: &Session) -> bool {
    classify(text, session.dialect).class == Class::Call
}
