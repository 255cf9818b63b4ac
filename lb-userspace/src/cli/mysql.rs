//! `lb mysql`

use std::{
    ffi::OsString,
    io::{IsTerminal as _, stdout},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use clap::{Args, Subcommand, ValueEnum};
use lb_mysql::{
    explain::{self, Row},
    sql::{Dialect, SqlMode},
};

use super::{
    Failure, live, mysql_change, mysql_digests, mysql_page, mysql_sessions, mysql_top,
    output::print,
};
use crate::admin::client;

/// What to do about MySQL.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the servers: roles, lag, who gets what and why; and what became of statements
    Status(Asked),
    /// Have a replica take over from the primary, and lose no transaction
    ///
    /// All that speaks against it is said at once, and then nothing is done. New transactions are
    /// held back until those that are open have ended; the primary is made read-only, the replica
    /// catches up and takes over, and the others, the former primary as well, become its replicas.
    /// If a step fails, all that was done is taken back. Needs [mysql.failover].
    Switchover(mysql_change::Switchover),
    /// Have a replica take the place of a primary that is lost
    ///
    /// It applies all that it has fetched first. What the former primary confirmed and no replica
    /// had fetched is lost. Should that one return, it gets no writes and is made read-only.
    Failover(mysql_change::Failover),
    /// Have a former primary that has come back replicate from the primary
    ///
    /// It is made read-only, and copies from where its own log ends; it has rejoined when it has all
    /// that the primary has. Should it have transactions that the primary lacks, nothing is done, or all
    /// is taken back: it has to be made anew from a backup then. Needs [mysql.failover].
    Rejoin(mysql_change::Rejoin),
    /// List clients' sessions: who, from where, what they do and since when, where, and why
    ///
    /// States: login; idle; in transaction: the client says nothing while one is open; running at
    /// a server; waiting for a server, for a connection to one, or for a replica that is behind.
    /// "pinned" is why a session stays with the primary beside transactions, "last" where its last
    /// statement went and why, in the words of `lb mysql explain`.
    Sessions(Asked),
    /// Show statements by their kinds: how often, where they went and why, errors, how long they took
    ///
    /// Kinds differ in more than values: values are written as ?, lists of them as one ?, and
    /// comments are left out. Those come first that took longest together. Each thread of the proxy
    /// tells `statement_digests` of the config apart; what comes seldom is counted as "other".
    Digests {
        /// So many at most
        #[arg(long, value_name = "NUMBER", default_value_t = 20)]
        limit: usize,
        /// What comes first
        #[arg(long, value_name = "WORD", default_value = "time")]
        sort: mysql_digests::Order,
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show servers, statements and sessions on the terminal, live; a key kills a session
    Top(live::Arguments),
    /// End a session, whatever it does; what runs for it at a server is killed there
    Kill {
        /// Its number in `lb mysql sessions`, which is also what the client takes for its own
        #[arg(value_name = "ID")]
        id: u32,
    },
    /// Say where statements would go, and why; needs no agent
    ///
    /// Statements are taken in order as one fresh session, with autocommit on and replicas that may
    /// get reads; every one is taken to succeed, and procedures to change nothing of the session.
    /// One line each: where it goes (primary, replica, both, proxy), the reason, what the statement
    /// is, and the reason in words. "pins" marks those after which the session stays with the
    /// primary. With --json an object with "class", "target", "pins", "reason" and "explanation";
    /// of several statements an array.
    Explain {
        /// The statements, each one argument
        #[arg(required = true, value_name = "SQL")]
        statements: Vec<String>,
        /// Whose servers
        #[arg(long, value_name = "FAMILY", default_value = "mysql")]
        family: Family,
        /// The servers' version, which decides what is built in and which comments are executed
        /// [default: 9.7.4, or 11.8.9 of MariaDB]
        #[arg(long, value_name = "VERSION")]
        server_version: Option<String>,
        /// The session's sql_mode, as far as it matters: ANSI_QUOTES, NO_BACKSLASH_ESCAPES
        #[arg(long, value_name = "MODES", default_value = "")]
        sql_mode: String,
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// What to ask a running proxy.
#[derive(Debug, Args)]
pub(super) struct Asked {
    /// As one JSON document
    #[arg(long)]
    json: bool,
}

/// Whose servers.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Family {
    /// Oracle's MySQL
    Mysql,
    /// MariaDB
    Mariadb,
}

pub(super) fn mysql(socket: &Path, command: Command) -> Result<(), Failure> {
    let (statements, family, server_version, sql_mode, json) = match command {
        Command::Status(Asked { json }) => return status(socket, json),
        Command::Switchover(asked) => return mysql_change::switchover(socket, asked),
        Command::Failover(asked) => return mysql_change::failover(socket, asked),
        Command::Rejoin(asked) => return mysql_change::rejoin(socket, asked),
        Command::Sessions(Asked { json }) => return mysql_sessions::sessions(socket, json),
        Command::Digests { limit, sort, json } => {
            return mysql_digests::digests(socket, (sort, limit), json);
        }
        Command::Top(arguments) => return mysql_top::top(socket, &arguments),
        Command::Kill { id } => return mysql_sessions::kill(socket, id),
        Command::Explain {
            statements,
            family,
            server_version,
            sql_mode,
            json,
        } => (statements, family, server_version, sql_mode, json),
    };
    let mut dialect = dialect(family, server_version.as_deref())?;
    dialect.mode = SqlMode::from_value(sql_mode.as_bytes());
    let rows = explain::explain(&statements, dialect);
    let mut text = if json { document(&rows)? } else { lines(&rows) };
    if json {
        text.push('\n');
    }
    print(text.as_bytes())
}

fn status(socket: &Path, json: bool) -> Result<(), Failure> {
    let status = client::status(socket).map_err(Failure::failed)?;
    let Some(mysql) = status.mysql else {
        return Err(Failure::failed(anyhow::anyhow!(
            "the agent routes no MySQL sessions: its config has no [mysql]"
        )));
    };
    let mut text = if json {
        serde_json::to_string_pretty(&mysql).map_err(Failure::failed)?
    } else {
        mysql_page::render(&mysql, stdout().is_terminal())
    };
    text.truncate(text.trim_end().len());
    text.push('\n');
    print(text.as_bytes())
}

/// An argument that begins with two dashes and a space is a comment of SQL and no option: a space in
/// front keeps it from being taken for one.
pub(super) fn shield(argument: OsString) -> OsString {
    let bytes = argument.as_bytes();
    let is_comment = bytes.starts_with(b"--") && bytes.get(2).is_some_and(u8::is_ascii_whitespace);
    if is_comment {
        let mut shielded = OsString::from(" ");
        shielded.push(argument);
        shielded
    } else {
        argument
    }
}

fn dialect(family: Family, version: Option<&str>) -> Result<Dialect, Failure> {
    let (version, suffix) = match family {
        Family::Mysql => (version.unwrap_or("9.7.4"), ""),
        Family::Mariadb => (version.unwrap_or("11.8.9"), "-MariaDB"),
    };
    Dialect::from_greeting(format!("{version}{suffix}").as_bytes()).ok_or_else(|| {
        Failure::Wrong(anyhow::anyhow!(
            "--server-version {version}: a version has two or three numbers, as 9.7.4"
        ))
    })
}

fn object(row: &Row) -> serde_json::Value {
    serde_json::json!({
        "class": row.class.label(),
        "target": row.target.label(),
        "pins": row.pins,
        "reason": row.reason.label(),
        "explanation": row.sentence(),
    })
}

fn document(rows: &[Row]) -> Result<String, Failure> {
    match rows {
        [row] => serde_json::to_string_pretty(&object(row)),
        _ => serde_json::to_string_pretty(&rows.iter().map(object).collect::<Vec<_>>()),
    }
    .map_err(Failure::failed)
}

fn lines(rows: &[Row]) -> String {
    let of = |row: &Row| {
        let pins = if row.pins { "pins" } else { "" };
        [
            row.target.label(),
            row.reason.label(),
            row.class.label(),
            pins,
        ]
    };
    let width = |column: usize| rows.iter().map(|row| of(row)[column].len()).max();
    let widths = [0, 1, 2, 3].map(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        for (word, width) in of(row).iter().zip(widths).filter(|(_, width)| *width > 0) {
            text.push_str(&format!("{word:width$}  "));
        }
        text.push_str(&row.sentence());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn rows(statements: &[&str]) -> Vec<Row> {
        let Ok(dialect) = dialect(Family::Mysql, None) else {
            panic!("the default version is one");
        };
        explain::explain(statements, dialect)
    }

    #[test]
    fn one_line_for_each_statement() {
        let text = lines(&rows(&[
            "BEGIN",
            "SELECT 1",
            "CREATE TEMPORARY TABLE x (a INT)",
        ]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(
            lines[0].starts_with("primary  begin           begin        It "),
            "{text}"
        );
        assert!(
            lines[2].starts_with("primary  ddl             ddl    pins  It "),
            "{text}"
        );
        assert!(
            text.ends_with("The session stays with the primary until that ends.\n"),
            "{text}"
        );
    }

    #[test]
    fn json_is_an_object_or_an_array() {
        let Ok(one) = document(&rows(&["SELECT 1"])) else {
            panic!("no document");
        };
        let one: serde_json::Value = serde_json::from_str(&one).unwrap();
        assert_eq!(one["class"], "read");
        assert_eq!(one["target"], "replica");
        assert_eq!(one["pins"], false);
        assert_eq!(one["reason"], "read");
        let Ok(two) = document(&rows(&["SELECT @a := 1", "SELECT 1"])) else {
            panic!("no document");
        };
        let two: serde_json::Value = serde_json::from_str(&two).unwrap();
        assert_eq!(two[0]["pins"], true);
        assert_eq!(two[1]["reason"], "pinned_user_variable");
    }

    #[test]
    fn a_comment_is_no_option() {
        let line = ["lb", "mysql", "explain", "-- x\nSELECT 1", "--json"];
        let shielded = line.map(|word| shield(word.into()));
        let arguments = super::super::Arguments::try_parse_from(shielded).unwrap();
        let super::super::Command::Mysql(Command::Explain {
            statements, json, ..
        }) = arguments.command
        else {
            panic!("another command");
        };
        assert_eq!(statements, [" -- x\nSELECT 1"]);
        assert!(json);
    }

    #[test]
    fn a_version_is_checked() {
        assert!(dialect(Family::Mariadb, Some("10.11")).is_ok());
        let Err(Failure::Wrong(error)) = dialect(Family::Mysql, Some("new")) else {
            panic!("a wrong version was taken");
        };
        assert!(error.to_string().contains("--server-version new"));
    }
}
