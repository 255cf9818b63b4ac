//! What is known of stored functions: whether calling one is a read. The primary is asked when one
//! is first called, by the connection of whoever calls it, who sees it when he may execute it.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt::Write,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    connection::{Answer, Connection},
    obtain::row_values,
    relay::Broken,
    session::Session,
};
use crate::{
    route::{Reason, Routines},
    sql::{Class, Dialect, Facts, Statement, only_reads},
};

/// What was asked so long ago is asked again: functions are changed beside the proxy as well.
const FRESH: Duration = Duration::from_secs(10);
/// Functions that are remembered at most.
const MOST: usize = 10_000;

/// A function's schema and name, the name in lower case.
type Key = (Box<[u8]>, Box<[u8]>);

/// Of one worker.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    known: RefCell<HashMap<Key, Entry>>,
    /// What `Shared::definitions` was.
    definitions: std::cell::Cell<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    reads: bool,
    asked: Instant,
}

impl Catalogue {
    fn get(&self, key: &Key) -> Option<Entry> {
        let known = self.known.borrow();
        known
            .get(key)
            .copied()
            .filter(|entry| entry.asked.elapsed() < FRESH)
    }

    fn put(&self, key: Key, reads: bool) {
        let mut known = self.known.borrow_mut();
        if known.len() >= MOST {
            known.clear();
        }
        let asked = Instant::now();
        known.insert(key, Entry { reads, asked });
    }

    /// Forgets everything if something was defined since.
    fn follow(&self, definitions: u64) {
        if self.definitions.replace(definitions) != definitions {
            self.known.borrow_mut().clear();
        }
    }
}

/// The catalogue as a session sees it.
pub(super) struct Seen<'s> {
    catalogue: &'s Catalogue,
    schema: Option<&'s [u8]>,
}

impl Routines for Seen<'_> {
    fn reads(&self, schema: Option<&[u8]>, name: &[u8]) -> bool {
        key(schema.or(self.schema), name)
            .and_then(|key| self.catalogue.get(&key))
            .is_some_and(|entry| entry.reads)
    }
}

/// None where it cannot be asked for: what is not ASCII depends on the client's character set.
fn key(schema: Option<&[u8]>, name: &[u8]) -> Option<Key> {
    let schema = schema?;
    let is_plain = schema.is_ascii() && name.is_ascii() && !name.is_empty();
    is_plain.then(|| (schema.into(), name.to_ascii_lowercase().into()))
}

impl Session {
    /// What is known of the functions that it may call.
    pub(super) fn routines(&self) -> Seen<'_> {
        let worker = &self.worker;
        let definitions = worker.shared.definitions.load(Ordering::Acquire);
        worker.routines.follow(definitions);
        Seen {
            catalogue: &worker.routines,
            schema: self.state.schema(),
        }
    }

    /// Asks the primary about functions that a statement calls, before it runs there.
    pub(super) async fn learn_routines(
        &self,
        connection: &mut Connection,
        sql: &[u8],
        statement: &Statement,
        reason: Reason,
    ) -> Result<(), Broken> {
        if reason != Reason::UnknownFunction || statement.has(Facts::TOO_MANY_CALLS) {
            return Ok(());
        }
        let view = self.worker.view();
        let mut readers = view.readers.iter();
        let refuse_all = readers.all(|server| view.servers[*server].refuses_all);
        let dialect = self.state.dialect();
        for call in statement.calls() {
            let Some((schema, name)) = call.names(sql) else {
                continue;
            };
            let Some(key) = key(schema.or(self.state.schema()), name) else {
                continue;
            };
            if self.worker.routines.get(&key).is_none() {
                let reads = ask(connection, &key, (dialect, refuse_all)).await?;
                self.worker.routines.put(key, reads);
            }
        }
        Ok(())
    }

    /// Whether all functions that a statement calls are known to read at most.
    pub(super) fn calls_only_read(&self, sql: &[u8], statement: &Statement) -> bool {
        if !statement.has(Facts::CALLS) || statement.has(Facts::TOO_MANY_CALLS) {
            return false;
        }
        let routines = self.routines();
        let reads = |(schema, name)| routines.reads(schema, name);
        let mut calls = statement.calls().iter();
        calls.all(|call| call.names(sql).is_some_and(reads))
    }

    /// A statement has run: what it defines may be a function.
    pub(super) fn note_definition(&self, class: Class) {
        let defines = matches!(
            class,
            Class::Ddl | Class::Multi | Class::Call | Class::Execute | Class::ExecuteImmediate
        );
        if defines {
            let definitions = &self.worker.shared.definitions;
            definitions.fetch_add(1, Ordering::Release);
        }
    }
}

/// Characters of a function's text that are looked at.
const MOST_TEXT: usize = 8192;

/// Whether the server says of a function that it reads at most. One that says no more than that
/// its result depends on its arguments alone reads as well; MODIFIES SQL DATA does not.
///
/// Servers do not check what is said. So the text is looked at; and where it may not be seen, what
/// is said counts only if replicas refuse everybody's writes: those of a function are its
/// definer's, who may be allowed to write to a replica.
async fn ask(
    connection: &mut Connection,
    (schema, name): &Key,
    (dialect, refuse_all): (Dialect, bool),
) -> Result<bool, Broken> {
    let question = format!(
        "SELECT SQL_DATA_ACCESS, IS_DETERMINISTIC, LEFT(ROUTINE_DEFINITION, {}) FROM \
         information_schema.ROUTINES WHERE ROUTINE_TYPE = 'FUNCTION' AND ROUTINE_SCHEMA = \
         _utf8mb4 X'{}' AND ROUTINE_NAME = _utf8mb4 X'{}'",
        MOST_TEXT + 1,
        hex(schema),
        hex(name)
    );
    let answer = connection.query(&question).await?;
    let Answer::Rows(columns, rows) = answer else {
        return Ok(false);
    };
    let values = row_values(columns, &rows).unwrap_or_default();
    let [access, deterministic, text] = values.as_slice() else {
        return Ok(false);
    };
    let says = match access.unwrap_or_default() {
        b"READS SQL DATA" | b"NO SQL" => true,
        b"CONTAINS SQL" => *deterministic == Some(b"YES"),
        _ => false,
    };
    let does = match text {
        Some(text) => text.len() <= MOST_TEXT && only_reads(text, dialect),
        None => refuse_all,
    };
    Ok(says && does)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // A string takes everything.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
