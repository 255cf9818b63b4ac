//! The SQL of each step, for each family.

use std::fmt;

use super::check::ReplicationAccount;
use crate::{
    gtid::{self, Family, GtidSet},
    topology::{ServerSettings, Version},
};

/// A statement to run.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    sql: String,
    /// What to show in its place, where it has a secret.
    shown: Option<String>,
}

impl Statement {
    pub(super) fn plain(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            shown: None,
        }
    }

    /// The statement itself. It may have a password: use `Display` for logs.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown.as_ref().unwrap_or(&self.sql))
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

fn all<const N: usize>(statements: [String; N]) -> Vec<Statement> {
    statements.into_iter().map(Statement::plain).collect()
}

/// A text in quotes. Neither family takes a backslash for itself under every `sql_mode`, so that
/// one cannot be written safely.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Whether a text can stand in a statement whatever the `sql_mode`.
pub(super) fn can_be_quoted(text: &str) -> bool {
    !text.contains(['\\', '\0'])
}

/// The words of a family: the statement's noun, and its end that names a channel.
fn replica(version: &Version, verb: &str, channel: &str, end: &str) -> String {
    let channel = quoted(channel);
    match version.family {
        Family::MySql if version.number >= (8, 0, 22) => {
            format!("{verb} REPLICA{end} FOR CHANNEL {channel}")
        }
        Family::MySql => format!("{verb} SLAVE{end} FOR CHANNEL {channel}"),
        Family::MariaDb => format!("{verb} SLAVE {channel}{end}"),
    }
}

/// No writes any more; waits for commits that are under way, and gives up when a table is locked.
/// MariaDB has nothing that stops accounts with `READ_ONLY ADMIN` or `SUPER`: what they write to
/// the former primary from then on is not on the next one.
#[must_use]
pub fn fence(version: &Version) -> Vec<Statement> {
    let patience = "SET SESSION lock_wait_timeout = 5".to_owned();
    let variable = match version.family {
        Family::MySql => "super_read_only",
        Family::MariaDb => "read_only",
    };
    all([patience, format!("SET GLOBAL {variable} = ON")])
}

/// Writes again.
pub(super) fn unfence(version: &Version) -> Vec<Statement> {
    match version.family {
        Family::MySql => all([
            "SET GLOBAL super_read_only = OFF".to_owned(),
            "SET GLOBAL read_only = OFF".to_owned(),
        ]),
        Family::MariaDb => all(["SET GLOBAL read_only = OFF".to_owned()]),
    }
}

/// All that a server has, as a primary.
pub(super) fn position(version: &Version) -> Statement {
    Statement::plain(gtid::position_statement(version.family))
}

/// From there on a MariaDB server copies from its next source.
pub(super) fn set_position(position: &GtidSet) -> Statement {
    Statement::plain(format!("SET GLOBAL gtid_slave_pos = '{position}'"))
}

pub(super) fn stop(version: &Version, channel: &str) -> Vec<Statement> {
    all([replica(version, "STOP", channel, "")])
}

pub(super) fn start(version: &Version, channel: &str) -> Vec<Statement> {
    all([replica(version, "START", channel, "")])
}

/// Fetches nothing more, and goes on to apply what it has.
pub(super) fn stop_fetching(version: &Version, channel: &str) -> Vec<Statement> {
    match version.family {
        Family::MySql => all([replica(version, "STOP", channel, " IO_THREAD")]),
        Family::MariaDb => {
            let channel = quoted(channel);
            all([format!("STOP SLAVE {channel} IO_THREAD")])
        }
    }
}

/// Forgets its source.
pub(super) fn forget(version: &Version, channel: &str) -> Vec<Statement> {
    all([replica(version, "RESET", channel, " ALL")])
}

/// Copies from another source from now on, which has all that the former one had.
pub(super) fn follow(
    version: &Version,
    channel: &str,
    source: &ServerSettings,
    account: Option<&ReplicationAccount>,
) -> Vec<Statement> {
    let (host, port) = (quoted(&source.host), source.port);
    let word = match version.family {
        Family::MySql if version.number >= (8, 0, 23) => "SOURCE",
        Family::MySql | Family::MariaDb => "MASTER",
    };
    let login = |password: &str| match account {
        // A source that restarts is found again soon, and MySQL 9 does not give up after ten times.
        Some(account) => format!(
            ", {word}_USER = {}, {word}_PASSWORD = {password}, {word}_CONNECT_RETRY = 10{}{}",
            quoted(&account.user),
            // Which authority a replica trusts, only its own config can say.
            if source.tls {
                format!(", {word}_SSL = 1")
            } else {
                String::new()
            },
            match version.family {
                Family::MySql => format!(", {word}_RETRY_COUNT = 86400"),
                Family::MariaDb => String::new(),
            }
        ),
        None => String::new(),
    };
    let statement = |password: &str| {
        let login = login(password);
        let name = quoted(channel);
        match version.family {
            Family::MySql => {
                let verb = if word == "SOURCE" {
                    "CHANGE REPLICATION SOURCE"
                } else {
                    "CHANGE MASTER"
                };
                // Without TLS, caching_sha2_password needs the source's key.
                let key = match account {
                    Some(_) if word == "SOURCE" => ", GET_SOURCE_PUBLIC_KEY = 1",
                    Some(_) if version.number >= (8, 0, 4) => ", GET_MASTER_PUBLIC_KEY = 1",
                    Some(_) | None => "",
                };
                format!(
                    "{verb} TO {word}_HOST = {host}, {word}_PORT = {port}{login}, \
                     {word}_AUTO_POSITION = 1{key} FOR CHANNEL {name}"
                )
            }
            Family::MariaDb => format!(
                "CHANGE MASTER {name} TO MASTER_HOST = {host}, MASTER_PORT = {port}{login}, \
                 MASTER_USE_GTID = slave_pos"
            ),
        }
    };
    let change = Statement {
        sql: statement(&quoted(account.map_or("", |account| account.password()))),
        shown: account.map(|_| statement("'…'")),
    };
    let mut statements = vec![change];
    statements.extend(start(version, channel));
    statements
}
