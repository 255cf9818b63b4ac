//! `[mysql]`: with `consistency = "session"` a session sees what it has written, and with `global`
//! another one does, whatever it was written by and however the answer ends, with a replica that is
//! ten minutes behind.

use anyhow::{Result, anyhow, ensure};
use lb_lab::Lab;
use lb_mysql::wire::Capabilities;
use lb_tests::database::Family;

use crate::mysql_bed::{Bed, PRIMARY, PROXY, log_in, one_host};
use crate::mysql_client::Client;

/// How a statement is sent.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Text,
    Prepared,
    /// Prepared, and executed with a cursor.
    Fetched,
}

const COUNT: &str = "SELECT COUNT(*) FROM test.rows_written";

const PREPARE: &[&str] = &[
    "CREATE DATABASE test",
    "CREATE TABLE test.rows_written (number INT NOT NULL AUTO_INCREMENT PRIMARY KEY)",
    "CREATE FUNCTION test.writes() RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO \
     test.rows_written VALUES (); RETURN 7; END",
    "CREATE FUNCTION test.pretends() RETURNS INT READS SQL DATA BEGIN INSERT INTO \
     test.rows_written VALUES (); RETURN 7; END",
    "CREATE PROCEDURE test.writes_first() BEGIN INSERT INTO test.rows_written VALUES (); SELECT 1; \
     END",
    "CREATE PROCEDURE test.writes_last() BEGIN SELECT 1; INSERT INTO test.rows_written VALUES (); \
     END",
    "CREATE PROCEDURE test.fails() BEGIN INSERT INTO test.rows_written VALUES (); SIGNAL SQLSTATE \
     '45000'; END",
    // On a replica it is refused: who defined it may not write there.
    "CREATE DEFINER = plain@'%' FUNCTION test.writes_as_another() RETURNS INT DETERMINISTIC BEGIN \
     INSERT INTO test.rows_written VALUES (); RETURN 7; END",
    "CREATE DEFINER = plain@'%' FUNCTION test.seems_to_read() RETURNS INT READS SQL DATA RETURN \
     test.writes_as_another()",
];

/// What adds a row, by both families.
const WAYS: &[(Sent, &[&str])] = &[
    (Sent::Text, &["INSERT INTO test.rows_written VALUES ()"]),
    (Sent::Prepared, &["INSERT INTO test.rows_written VALUES ()"]),
    (
        Sent::Text,
        &["INSERT INTO test.rows_written VALUES (); SELECT 1"],
    ),
    (
        Sent::Text,
        &["SELECT 1; INSERT INTO test.rows_written VALUES ()"],
    ),
    (
        Sent::Text,
        &["BEGIN", "INSERT INTO test.rows_written VALUES ()", "COMMIT"],
    ),
    (
        Sent::Text,
        &[
            "SET autocommit = 0",
            "INSERT INTO test.rows_written VALUES ()",
            "SET autocommit = 1",
        ],
    ),
    (Sent::Text, &["CALL test.writes_first()"]),
    (Sent::Text, &["CALL test.writes_last()"]),
    (Sent::Prepared, &["CALL test.writes_first()"]),
    (Sent::Text, &["CALL test.fails()"]),
    // A commit comes before what ends with rows or with an error.
    (
        Sent::Text,
        &[
            "BEGIN",
            "INSERT INTO test.rows_written VALUES ()",
            "ANALYZE TABLE test.rows_written",
        ],
    ),
    (
        Sent::Text,
        &[
            "BEGIN",
            "INSERT INTO test.rows_written VALUES ()",
            "CREATE DATABASE test",
        ],
    ),
    (Sent::Text, &["SELECT test.seems_to_read()"]),
    (Sent::Prepared, &["SELECT test.seems_to_read()"]),
    (Sent::Text, &["SELECT test.writes()"]),
    (Sent::Text, &["SELECT test.pretends()"]),
    (Sent::Text, &["DO test.writes()"]),
    (Sent::Prepared, &["SELECT test.writes()"]),
    (Sent::Fetched, &["SELECT test.writes()"]),
    (
        Sent::Text,
        &["BEGIN", "SELECT test.writes()", "SELECT 1", "COMMIT"],
    ),
    (Sent::Text, &["SELECT test.writes() FROM DUAL FOR UPDATE"]),
    (
        Sent::Text,
        &[
            "PREPARE it FROM 'SELECT test.writes()'",
            "EXECUTE it",
            "DEALLOCATE PREPARE it",
        ],
    ),
];

/// And by MariaDB alone.
const WAYS_OF_MARIADB: &[(Sent, &[&str])] = &[
    (
        Sent::Text,
        &["INSERT INTO test.rows_written VALUES () RETURNING number"],
    ),
    (
        Sent::Prepared,
        &["INSERT INTO test.rows_written VALUES () RETURNING number"],
    ),
    (
        Sent::Text,
        &["EXECUTE IMMEDIATE 'INSERT INTO test.rows_written VALUES () RETURNING number'"],
    ),
    (
        Sent::Text,
        &["BEGIN NOT ATOMIC INSERT INTO test.rows_written VALUES (); SELECT 1; END"],
    ),
    (
        Sent::Text,
        &[
            "SET STATEMENT sort_buffer_size = 100000 FOR INSERT INTO test.rows_written VALUES () \
           RETURNING number",
        ],
    ),
];

fn send(client: &mut Client, sent: Sent, sql: &str) -> Result<String> {
    if let Sent::Text = sent {
        return client.query(sql);
    }
    let id = client.prepare(sql)?.map_err(|refused| anyhow!(refused))?;
    if let Sent::Prepared = sent {
        return client.execute(id, (0, false), &[]);
    }
    let opened = client.execute(id, (1, false), &[])?;
    Ok(opened + &client.fetch(id, 10)?)
}

/// Servers with what is called, of which the replica gets no more from now on.
fn behind<'l>(lab: &'l Lab, family: Family, consistency: &str) -> Result<Bed<'l>> {
    let more = format!(
        "max_lag_seconds = 86400\nconsistency_timeout_seconds = 0.05\nconsistency = \
         \"{consistency}\""
    );
    // Before the proxy looks: for a moment nothing is applied at all.
    Bed::start_with(lab, family, &more, |pair| {
        pair.primary.run(
            "CREATE USER plain@'%' IDENTIFIED BY 'plain'; GRANT SELECT, INSERT, EXECUTE ON *.* TO \
             plain@'%'",
        )?;
        lab.within("db", || {
            let mut primary = log_in(PRIMARY, None, Capabilities::NONE)?;
            for sql in PREPARE {
                let said = primary.query(sql)?;
                ensure!(!said.contains("error"), "{sql}: {said}");
            }
            anyhow::Ok(())
        })??;
        pair.write(2)?;
        pair.await_copy(2)?;
        pair.apply_after(600)
    })
}

/// Has rows written in all ways; who reads is made from the one who writes and the capabilities.
fn are_seen<R>(family: Family, reader: impl Fn(Client, Capabilities) -> Result<R>) -> Result<()>
where
    R: FnMut(&str) -> Result<String>,
{
    let ways = match family {
        Family::MySql => WAYS.to_vec(),
        Family::MariaDb => [WAYS, WAYS_OF_MARIADB].concat(),
    };
    let mut primary = log_in(PRIMARY, None, Capabilities::NONE)?;
    let mut wrong = Vec::new();
    for more in [Capabilities::NONE, Capabilities::DEPRECATE_EOF] {
        for (sent, statements) in &ways {
            let case = format!("{sent:?} {statements:?} {more:?}");
            let mut client = log_in(PROXY, None, more)?;
            let before = primary.query(COUNT)?;
            let mut said = String::new();
            for sql in *statements {
                said += &send(&mut client, *sent, sql)?;
            }
            let written = primary.query(COUNT)?;
            ensure!(written != before, "{case}: nothing is written: {said}");
            let seen = reader(client, more)?(COUNT)?;
            if seen != written {
                wrong.push(format!("{case}: {seen}, not {written}: {said}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn by_the_session_that_wrote(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let _bed = behind(&lab, family, "session")?;
    lab.within("db", || {
        let old = log_in(PRIMARY, None, Capabilities::NONE)?.query(COUNT)?;
        are_seen(family, |mut writer, _| {
            Ok(move |sql: &str| writer.query(sql))
        })?;
        let stale = log_in(PROXY, None, Capabilities::NONE)?.query(COUNT)?;
        ensure!(
            stale == old,
            "who has written nothing reads at a replica: {stale}"
        );
        Ok(())
    })?
}

fn by_all_others(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let bed = behind(&lab, family, "global")?;
    lab.within("db", || {
        let mut stale = log_in(PROXY, None, Capabilities::NONE)?;
        let old = log_in(PRIMARY, None, Capabilities::NONE)?.query(COUNT)?;
        let said = stale.query(COUNT)?;
        ensure!(said == old, "{said}");
        are_seen(family, |writer, more| {
            let mut other = log_in(PROXY, None, more)?;
            Ok(move |sql: &str| {
                let said = other.query(sql)?;
                let _ = &writer;
                Ok(said)
            })
        })
    })??;
    // Or all of them would have been the primary's anyway.
    bed.expect_in_rotation()
}

of_both_families!(by_the_session_that_wrote, by_all_others);
