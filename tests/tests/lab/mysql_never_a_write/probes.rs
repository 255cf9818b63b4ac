//! What a statement has changed, as the server tells it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use lb_mysql::wire::Status;
use lb_tests::database::{Client, Database, Family, Outcome, Value};

/// Kinds of statements, by the server's count, that change nothing. The probes are among them.
const HARMLESS: [&str; 10] = [
    "Com_empty_query",
    "Com_select",
    "Com_show_",
    "Com_explain_other",
    "Com_help",
    "Com_checksum",
    "Com_begin",
    "Com_commit",
    "Com_multi",
    "Com_change_db",
];

/// Variables that change by themselves.
const RESTLESS: [&str; 14] = [
    "timestamp",
    "rand_seed1",
    "rand_seed2",
    "pseudo_thread_id",
    "gtid_executed",
    "error_count",
    "warning_count",
    "last_gtid",
    "gtid_current_pos",
    "gtid_binlog_pos",
    "gtid_binlog_state",
    "gtid_slave_pos",
    "innodb_buffer_pool_load_incremental",
    "statement_id",
];

/// Words of statements whose answers may differ all the same.
const UNREPEATABLE: [&str; 18] = [
    "UUID",
    "RAND",
    "NOW",
    "SYSDATE",
    "SLEEP",
    "CONNECTION_ID",
    "LIMIT",
    "EXPLAIN",
    "DESC",
    "ANALYZE",
    "SHOW",
    "information_schema",
    "@",
    "FETCH",
    "CURDATE",
    "LOCK",
    "GROUPING",
    "VERSION",
];

/// Whether a statement gives the same anywhere and at any time.
pub(super) fn is_repeatable(sql: &str) -> bool {
    let upper = sql.to_uppercase();
    !UNREPEATABLE
        .iter()
        .any(|word| upper.contains(&word.to_uppercase()))
}

/// A primary, a session that does things there, and one that watches.
pub(super) struct Primary {
    family: Family,
    doer: Client,
    watcher: Client,
    data: PathBuf,
    variables: BTreeMap<String, Value>,
}

impl Primary {
    pub(super) fn new(database: &Database<'_>, doer: Client) -> Result<Self> {
        let mut watcher = Client::open_socket(&database.socket(), "root", "")?;
        watcher.rows("USE shop")?;
        let mut primary = Self {
            family: database.family(),
            doer,
            watcher,
            data: database.data("shop"),
            variables: BTreeMap::new(),
        };
        primary.variables = primary.variables()?;
        Ok(primary)
    }

    /// The session's variables, and what the tables hold.
    fn variables(&mut self) -> Result<BTreeMap<String, Value>> {
        let mut all = BTreeMap::new();
        let rows = self.doer.rows("SHOW SESSION VARIABLES")?;
        for row in rows
            .into_iter()
            .chain(self.doer.rows("CHECKSUM TABLE a, b, log")?)
        {
            let mut values = row.into_iter();
            let name = values.next().flatten().context("a name")?;
            if !RESTLESS.contains(&&*name) {
                all.insert(name, values.next().flatten());
            }
        }
        Ok(all)
    }

    /// What all of the statements together have changed.
    pub(super) fn changed(mut self) -> Result<Vec<String>> {
        let now = self.variables()?;
        let before = self
            .variables
            .iter()
            .filter(|(name, value)| now.get(*name) != Some(*value));
        let mut changed: Vec<String> = before
            .map(|(name, value)| format!("{name}: {value:?} and now {:?}", now.get(name)))
            .collect();
        for entry in fs::read_dir(&self.data)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("out") {
                changed.push(format!("the file {name}"));
            }
        }
        Ok(changed)
    }

    /// What the server as a whole and the session say, but for counts.
    fn state(&mut self) -> Result<Vec<Value>> {
        let gtids = match self.family {
            Family::MySql => "@@global.gtid_executed",
            Family::MariaDb => "@@global.gtid_binlog_pos",
        };
        let locks = "IS_USED_LOCK('l1'), IS_USED_LOCK('l2')";
        let mut state = self.watcher.row(&format!("SELECT {gtids}, {locks}"))?;
        // Without a table, so that it does not become part of a transaction.
        let own =
            "@u1, @u2, @u3, LAST_INSERT_ID(), @@insert_id, @@sql_mode, @@autocommit, DATABASE()";
        state.extend(self.doer.row(&format!("SELECT {own}"))?);
        Ok(state)
    }

    fn counts(&mut self) -> Result<BTreeMap<String, Value>> {
        let rows = self.doer.rows("SHOW SESSION STATUS LIKE 'Com\\_%'");
        // Where backslashes are nothing special.
        let rows = match rows {
            Ok(rows) if rows.is_empty() => self.doer.rows("SHOW SESSION STATUS LIKE 'Com_%'")?,
            other => other?,
        };
        let mut counts = BTreeMap::new();
        for row in rows {
            let mut values = row.into_iter();
            let name = values.next().flatten().context("a name")?;
            if !HARMLESS.iter().any(|harmless| name.starts_with(harmless)) {
                counts.insert(name, values.next().flatten());
            }
        }
        Ok(counts)
    }

    /// Executes a statement, by itself and in a transaction, and says what has changed.
    pub(super) fn run(&mut self, sql: &str) -> Result<(Outcome, Vec<String>)> {
        let (state, counts) = (self.state()?, self.counts()?);
        let outcome = self.doer.query(sql)?;
        let mut changes = Vec::new();
        let after = self.state()?;
        if state != after {
            changes.push(format!("{state:?} and now {after:?}"));
        }
        for (name, value) in self.counts()? {
            if counts.get(&name) != Some(&value) {
                changes.push(format!("{name} is {value:?}"));
            }
        }
        self.doer.rows("START TRANSACTION")?;
        let again = self.doer.query(sql)?;
        if let Ok(answers) = &again {
            let open = |status: Status| status.has(Status(1));
            if answers.last().is_none_or(|last| !open(last.status)) {
                changes.push("the transaction has ended".to_owned());
            }
        }
        for table in ["a", "b"] {
            let locked = self
                .watcher
                .query(format!("SELECT id FROM {table} FOR UPDATE NOWAIT"))?;
            if let Err(refused) = locked {
                changes.push(format!("{table} is locked: {}", refused.message));
            }
        }
        self.doer.rows("ROLLBACK")?;
        let last = self.state()?;
        if after != last {
            changes.push(format!("in a transaction {after:?} and now {last:?}"));
        }
        Ok((outcome, changes))
    }
}
