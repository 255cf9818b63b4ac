//! The checklist of statements: each must be seen by the server where it belongs, by that server's
//! general log, and give through the proxy what it gives at the primary itself; as text and, where
//! that can be, prepared.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use lb_mysql::wire::Capabilities;
use lb_tests::database::{Database, Family};

use crate::mysql_bed::{Bed, PRIMARY, PROXY, log_in, one_host};
use crate::mysql_client::Client;

const COMMON: &str = include_str!("mysql_checklist/common.txt");
const MYSQL: &str = include_str!("mysql_checklist/mysql.txt");
const MARIADB: &str = include_str!("mysql_checklist/mariadb.txt");

/// Who must see a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Primary,
    Replica,
    Nobody,
    Whoever,
}

#[derive(Debug)]
struct Step {
    line: usize,
    /// As text, and prepared.
    seen: [Seen; 2],
    /// Whether the answer is that of the primary.
    is_same: bool,
    sql: String,
}

/// Sessions of a table, each with its statements.
fn sessions(table: &str) -> Result<Vec<Vec<Step>>> {
    let mut sessions: Vec<Vec<Step>> = Vec::new();
    for (index, line) in table.lines().enumerate() {
        if line.is_empty() || line.starts_with("# ") {
            continue;
        }
        let goes_on = line.starts_with(' ');
        let line = line.trim_start();
        let (head, sql) = line.split_once(' ').context("a line without a statement")?;
        let letters = head.trim_end_matches('~');
        let (text, prepared) = letters.split_once('/').unwrap_or((letters, letters));
        let seen = |letter| match letter {
            "P" => Ok(Seen::Primary),
            "R" => Ok(Seen::Replica),
            "L" => Ok(Seen::Nobody),
            "?" => Ok(Seen::Whoever),
            other => bail!("line {}: what is {other}?", index + 1),
        };
        let step = Step {
            line: index + 1,
            seen: [seen(text)?, seen(prepared)?],
            is_same: !head.ends_with('~'),
            sql: sql
                .replace("\\n", "\n")
                .replace("\\t", "\t")
                .replace("\\r", "\r"),
        };
        match sessions.last_mut() {
            Some(session) if goes_on => session.push(step),
            _ => sessions.push(vec![step]),
        }
    }
    Ok(sessions)
}

/// A server's general log.
struct Log {
    file: PathBuf,
    read: usize,
    /// The connections of the account `app`: what a replica applies is logged as well.
    connections: HashSet<String>,
}

impl Log {
    fn open(server: &Database<'_>) -> Result<Self> {
        let file = server.data("general");
        let raw = match server.family() {
            // Else what is no SQL is not logged.
            Family::MySql => "SET GLOBAL log_raw = ON; ",
            Family::MariaDb => "",
        };
        server.run(&format!(
            "{raw}SET GLOBAL general_log_file = '{}'; SET GLOBAL general_log = ON",
            file.display()
        ))?;
        // Those that are there already: the proxy gives them to whoever logs in next.
        let processes = server.run("SHOW PROCESSLIST")?;
        let connections = processes.lines().filter_map(|process| {
            let mut fields = process.split('\t');
            let number = fields.next()?;
            (fields.next()? == "app").then(|| number.to_owned())
        });
        Ok(Self {
            file,
            read: 0,
            connections: connections.collect(),
        })
    }

    /// The statements that it has got since, one after another.
    fn more(&mut self) -> Result<String> {
        let all = fs::read(&self.file)?;
        let more = String::from_utf8_lossy(all.get(self.read..).unwrap_or_default()).into_owned();
        self.read = all.len();
        let mut statements = String::new();
        let mut is_ours = false;
        for line in more.split_inclusive('\n') {
            let Some((connection, command, words)) = entry(line) else {
                if is_ours {
                    statements.push_str(line);
                }
                continue;
            };
            if ["Connect", "Change user"].contains(&command) && words.starts_with("app@") {
                self.connections.insert(connection.to_owned());
            }
            is_ours =
                self.connections.contains(connection) && ["Query", "Execute"].contains(&command);
            if is_ours {
                statements.push_str(words);
            }
        }
        Ok(statements)
    }
}

/// The connection, the command and its words, where an entry begins.
fn entry(line: &str) -> Option<(&str, &str, &str)> {
    let mut rest = line;
    loop {
        let (field, after) = rest.split_once('\t')?;
        if let Some((connection, command)) = field.trim_start().split_once(' ')
            && connection.bytes().all(|byte| byte.is_ascii_digit())
            && command.starts_with(|first: char| first.is_ascii_uppercase())
        {
            return Some((connection, command, after));
        }
        rest = after;
    }
}

/// How statements are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Text,
    Prepared,
}

/// MySQL's and MariaDB's error for what cannot be prepared.
const NOT_PREPARED: &str = "error 1295 ";

fn run(client: &mut Client, way: Way, sql: &str) -> Result<String> {
    if way == Way::Text {
        return client.query(sql);
    }
    match client.prepare(sql)? {
        Ok(id) => {
            let said = client.execute(id, (0, true), &[])?;
            client.say(&[&[0x19], &id.to_le_bytes()[..]].concat())?;
            Ok(said)
        }
        Err(refused) if refused.starts_with(NOT_PREPARED) => client.query(sql),
        // Several statements: MySQL and MariaDB prepare one alone.
        Err(_) if sql.contains(';') => client.query(sql),
        // Said as if by the execution: a server may refuse as early, or as late.
        Err(refused) => Ok(refused + "\n"),
    }
}

/// How a statement stands in a log.
fn logged(sql: &str) -> &str {
    let mut parts = sql.split(';').map(str::trim);
    parts.find(|part| !part.is_empty()).unwrap_or(sql)
}

fn check(
    table: &str,
    (way, more): (Way, Capabilities),
    logs: &mut [Log; 2],
    wrong: &mut Vec<String>,
) -> Result<()> {
    for session in sessions(table)? {
        let mut direct = log_in(PRIMARY, Some("direct"), more)?;
        let mut expected = Vec::new();
        for step in &session {
            expected.push(run(&mut direct, way, &step.sql).context(step.sql.clone())?);
        }
        drop(direct);
        let mut client = log_in(PROXY, Some("routed"), more)?;
        for (step, expected) in session.iter().zip(&expected) {
            logs[0].more()?;
            logs[1].more()?;
            let said = run(&mut client, way, &step.sql).context(step.sql.clone())?;
            let at = format!("{way:?}, line {}: {}", step.line, step.sql);
            // The name of the schema is not to make a difference.
            let said = said.replace("routed", "direct");
            if step.is_same && said != *expected {
                wrong.push(format!("{at}\n  directly {expected}  routed  {said}"));
            }
            let was_refused = way == Way::Prepared && said.starts_with("error ");
            let [primary, replica] = [logs[0].more()?, logs[1].more()?];
            let text = logged(&step.sql);
            let on = [primary.contains(text), replica.contains(text)];
            let seen = step.seen[usize::from(way == Way::Prepared)];
            let is_right = match seen {
                Seen::Primary => on == [true, false],
                Seen::Replica => on == [false, true],
                Seen::Nobody => on == [false, false],
                Seen::Whoever => true,
            };
            // Of what cannot be prepared there is nothing in a log.
            if !is_right && !was_refused {
                wrong.push(format!(
                    "{at}\n  seen by {}, not by {:?}",
                    match on {
                        [true, true] => "both",
                        [true, false] => "the primary",
                        [false, true] => "the replica",
                        [false, false] => "nobody",
                    },
                    seen
                ));
            }
        }
    }
    Ok(())
}

fn prepare(family: Family) -> Result<()> {
    let mut root = log_in(PRIMARY, None, Capabilities::NONE)?;
    let mut statements = Vec::new();
    for schema in ["direct", "routed"] {
        statements.extend([
            format!("CREATE DATABASE {schema}"),
            format!("USE {schema}"),
            "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))".to_owned(),
            "INSERT INTO t VALUES (1, 'a'), (2, 'b')".to_owned(),
            "CREATE TABLE n (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(20))".to_owned(),
            "CREATE VIEW w AS SELECT * FROM t".to_owned(),
            "CREATE FUNCTION f() RETURNS INT NOT DETERMINISTIC MODIFIES SQL DATA BEGIN INSERT INTO \
             n (v) VALUES ('f'); RETURN 7; END"
                .to_owned(),
            "CREATE PROCEDURE p() SELECT COUNT(*) FROM t".to_owned(),
        ]);
        if family == Family::MariaDb {
            statements.push("CREATE SEQUENCE s".to_owned());
        }
    }
    for statement in statements {
        let said = root.query(&statement)?;
        ensure!(said.starts_with("ok"), "{statement}: {said}");
    }
    Ok(())
}

fn each_statement_is_seen_where_it_belongs(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let bed = Bed::start(&lab, family)?;
    lab.within("db", || prepare(family))??;
    bed.pair.write(2)?;
    bed.pair.await_copy(2)?;
    let mut logs = [Log::open(&bed.pair.primary)?, Log::open(&bed.pair.replica)?];
    let own = match family {
        Family::MySql => MYSQL,
        Family::MariaDb => MARIADB,
    };
    let mut wrong = Vec::new();
    lab.within("db", || {
        let new = Capabilities::DEPRECATE_EOF.with(Capabilities::QUERY_ATTRIBUTES);
        for way in [(Way::Text, Capabilities::NONE), (Way::Prepared, new)] {
            for table in [COMMON, own] {
                check(table, way, &mut logs, &mut wrong)?;
            }
        }
        anyhow::Ok(())
    })??;
    ensure!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

of_both_families!(each_statement_is_seen_where_it_belongs);
