//! Nothing that writes is ever classed a read.
//!
//! Statements that a generator makes are classed as in a fresh session. Those that would go to a
//! replica are executed on a primary, twice: by themselves, and in a transaction. Nothing may have
//! changed by that, as the server tells it itself: its transactions, its counts of what kinds of
//! statements it executed, the session's variables, user locks, locked rows, files. Then they are
//! executed on a replica that takes no writes, and have to give the same there.
//!
//! `LB_MYSQL_STATEMENTS` says how many statements to make for each family, `LB_MYSQL_SEED` of what.

mod clothes;
mod grammar;
mod probes;
mod words;

use std::collections::BTreeMap;
use std::env;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use lb_lab::Lab;
use lb_mysql::route::{Session, Target, route};
use lb_mysql::sql::{Dialect, SqlMode, classify};
use lb_tests::database::{Client, Database, Family, Outcome, Pair};

use grammar::Author;
use probes::{Primary, is_repeatable};

/// Statements that are made for each family, unless more are asked for.
const STATEMENTS: u64 = 4000;
/// Statements between two looks at all that a session has.
const BLOCK: u64 = 200;

/// Modes that change how a text is read.
const MODES: [&str; 6] = [
    "",
    "ANSI_QUOTES",
    "NO_BACKSLASH_ESCAPES",
    "ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
    "IGNORE_SPACE",
    "PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE",
];

fn number(name: &str, default: u64) -> Result<u64> {
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is {text:?}")),
        Err(_) => Ok(default),
    }
}

fn prepare(pair: &Pair<'_>, family: Family) -> Result<()> {
    let mut sql = String::from(
        "CREATE DATABASE shop; USE shop; \
         CREATE TABLE a (id INT PRIMARY KEY, name VARCHAR(20)); INSERT INTO a VALUES (1, 'a'), \
         (2, 'b'); CREATE TABLE b LIKE a; INSERT INTO b VALUES (1, 'x'), (3, 'y'); CREATE TABLE \
         log (id INT AUTO_INCREMENT PRIMARY KEY); CREATE VIEW v AS SELECT id, name FROM a; CREATE \
         PROCEDURE p() INSERT INTO log VALUES (NULL); CREATE USER plain@localhost IDENTIFIED BY \
         'plain'; GRANT ALL ON shop.* TO plain@localhost; GRANT FILE, PROCESS ON *.* TO \
         plain@localhost;",
    );
    if family == Family::MariaDb {
        sql += "CREATE SEQUENCE s NOCACHE;";
    }
    for name in words::WRITING_FUNCTIONS {
        sql += &format!(
            "CREATE FUNCTION `{name}`(x TEXT) RETURNS INT BEGIN INSERT INTO log VALUES (NULL); \
             RETURN 1; END;"
        );
    }
    for server in [&pair.replica, &pair.primary] {
        server.run("SET GLOBAL log_bin_trust_function_creators = 1")?;
    }
    let mut root = Client::open_socket(&pair.primary.socket(), "root", "")?;
    root.rows(&sql)?;
    pair.write(1)?;
    pair.await_copy(1)
}

/// A session of an account that may do everything in its schema.
fn session(database: &Database<'_>, family: Family, mode: &str) -> Result<Client> {
    let mut client = Client::open_socket(&database.socket(), "plain", "plain")?;
    let limit = match family {
        Family::MySql => "max_execution_time = 2000",
        Family::MariaDb => "max_statement_time = 2",
    };
    client.rows(&format!(
        "USE shop; SET NAMES utf8mb4; SET sql_mode = '{mode}'; SET {limit}; SET @u1 = 1, @u2 = 2, \
         @u3 = 3"
    ))?;
    Ok(client)
}

/// What came of the statements.
#[derive(Debug, Default)]
struct Count {
    made: u64,
    reads: u64,
    executed: u64,
    deaths: u64,
    reasons: BTreeMap<&'static str, u64>,
}

/// The same answer, or the same error.
fn is_same(sql: &str, one: &Outcome, other: &Outcome) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) if is_repeatable(sql) => {
            let rows = |answers: &[lb_tests::database::Answer]| {
                let mut rows: Vec<_> = answers.iter().filter_map(|one| one.rows.clone()).collect();
                rows.iter_mut().for_each(|rows| rows.sort());
                rows
            };
            rows(one) == rows(other)
        }
        (Ok(_), Ok(_)) => true,
        (Err(one), Err(other)) => one.code == other.code,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

fn no_write_is_a_read(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let mut lab = Lab::new()?;
    lab.add("db")?.ip("link set lo up")?;
    let place = |port: u16| ("db", ([127, 0, 0, 1], port).into());
    let mut pair = Pair::start(&lab, family, place(3301), place(3302))?;
    prepare(&pair, family)?;
    let seed = number("LB_MYSQL_SEED", 1)?;
    let statements = number("LB_MYSQL_STATEMENTS", STATEMENTS)?;
    let mut rng = Rng::with_seed(seed);
    let mut count = Count::default();
    let mut found = Vec::new();
    while count.made < statements && found.len() < 20 {
        let mode = MODES[(count.made / BLOCK) as usize % MODES.len()];
        let doer = session(&pair.primary, family, mode)?;
        let mut replica = session(&pair.replica, family, mode)?;
        let version = doer.version().to_owned();
        let dialect = Dialect {
            mode: SqlMode::from_value(mode.as_bytes()),
            ..Dialect::from_greeting(version.as_bytes()).context("a version")?
        };
        let fresh = Session::new(dialect, Some(b"shop"));
        let mut primary = Primary::new(&pair.primary, doer)?;
        let mut block = Vec::new();
        let mut died = false;
        for _ in 0..BLOCK {
            count.made += 1;
            let words = Author::statement(&mut rng, family);
            let sql = clothes::dress(&mut rng, &words);
            let statement = classify(sql.as_bytes(), dialect);
            let decision = route(&fresh, sql.as_bytes(), &statement, 1, &());
            *count.reasons.entry(decision.reason.label()).or_default() += 1;
            if decision.target != Target::Replica {
                continue;
            }
            count.reads += 1;
            // Some statements are too much for a server.
            let Ok((outcome, changes)) = primary.run(&sql) else {
                eprintln!("the server dies of [{mode}] {sql:?}");
                died = true;
                break;
            };
            count.executed += u64::from(outcome.is_ok());
            let there = replica.query(&sql)?;
            let mut wrong = changes;
            if !is_same(&sql, &outcome, &there) {
                wrong.push(format!("primary {outcome:?}\n replica {there:?}"));
            }
            if !wrong.is_empty() {
                found.push(format!("[{mode}] {sql:?}\n {}", wrong.join("\n ")));
                break;
            }
            block.push(sql);
        }
        if died {
            count.deaths += 1;
            ensure!(count.deaths < 20, "the server dies again and again");
            pair.primary.start_again()?;
            continue;
        }
        let changed = primary.changed()?;
        if !changed.is_empty() {
            found.push(format!("[{mode}] {}\n {block:#?}", changed.join(", ")));
        }
    }
    eprintln!("{family:?}, seed {seed}: {count:?}");
    ensure!(found.is_empty(), "seed {seed}:\n{}", found.join("\n"));
    ensure!(
        count.executed * 20 > count.made,
        "few are executed: {count:?}"
    );
    Ok(())
}

#[test]
fn no_write_of_mysql_is_a_read() -> Result<()> {
    no_write_is_a_read(Family::MySql)
}

#[test]
fn no_write_of_mariadb_is_a_read() -> Result<()> {
    no_write_is_a_read(Family::MariaDb)
}
