//! `lb mysql switchover`, `lb mysql failover` and `lb mysql rejoin`, under load.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::database::Family;
use lb_tests::scenario::await_until;

use crate::mysql_topology_rig::{PATIENCE, Rig, one_host, text, timed};

/// A session that goes on for as long as there is no error.
struct Session {
    client: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Session {
    fn open(rig: &Rig<'_>, proxy: usize) -> Result<Self> {
        let mut command = rig.any_client(proxy)?;
        let mut client = command
            .args(["-n", "shop"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let asks = client.stdin.take().context("no stdin")?;
        let answers = BufReader::new(client.stdout.take().context("no stdout")?);
        Ok(Self {
            client,
            asks,
            answers,
        })
    }

    /// Runs statements, and waits until they are done.
    fn run(&mut self, sql: &str) -> Result<()> {
        // It ends at the first error.
        let asked = writeln!(self.asks, "{sql};\nSELECT 'done' /* lb:primary */;");
        let mut line = String::new();
        while asked.is_ok() && line != "done\n" {
            line.clear();
            if self.answers.read_line(&mut line)? == 0 {
                break;
            }
        }
        if line == "done\n" {
            return Ok(());
        }
        let mut said = String::new();
        let errors = self.client.stderr.take().context("no stderr")?;
        BufReader::new(errors).read_to_string(&mut said)?;
        anyhow::bail!("{sql}: {said}")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended itself.
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// What a session of the load does, again and again: with `{n}` for a number that no other has.
const LOADS: [(&str, &str); 4] = [
    ("SELECT 1", "INSERT INTO items VALUES ({n}, @@server_id)"),
    (
        "SELECT 1",
        "BEGIN; INSERT INTO items VALUES (-{n}, 0); SELECT SLEEP(0.02); INSERT INTO items VALUES ({n}, \
         @@server_id); COMMIT",
    ),
    (
        "SET autocommit = 0",
        "INSERT INTO items VALUES ({n}, @@server_id); SELECT COUNT(*) FROM items; COMMIT",
    ),
    (
        "SET @@time_zone = '+01:00'",
        "INSERT INTO counted (other) VALUES ({n}); INSERT INTO items VALUES ({n}, @@server_id)",
    ),
];

/// Runs the load beside something; the numbers that were confirmed.
fn beside<'l, T>(rig: &Rig<'l>, what: impl FnOnce(&Rig<'l>) -> Result<T>) -> Result<(T, Vec<i64>)> {
    rig.servers[0].run(
        "CREATE TABLE IF NOT EXISTS shop.counted (id INT AUTO_INCREMENT PRIMARY KEY, other INT)",
    )?;
    let goes_on = AtomicBool::new(true);
    thread::scope(|scope| {
        let loads = LOADS.iter().enumerate().map(|(index, (first, sql))| {
            let mut session = Session::open(rig, 0)?;
            session.run(first)?;
            let goes_on = &goes_on;
            Ok(scope.spawn(move || -> Result<Vec<i64>> {
                let mut numbers = Vec::new();
                let mut number = 1_000_000 * (index as i64 + 1);
                while goes_on.load(Ordering::Relaxed) {
                    number += 1;
                    let sql = sql.replace("{n}", &number.to_string());
                    session.run(&sql)?;
                    numbers.push(number);
                    thread::sleep(Duration::from_millis(2));
                }
                Ok(numbers)
            }))
        });
        let loads = loads.collect::<Result<Vec<_>>>();
        let done = loads.and_then(|loads| {
            let done = what(rig);
            goes_on.store(false, Ordering::Relaxed);
            let mut all = Vec::new();
            for load in loads {
                let numbers = load.join().map_err(|_| anyhow::anyhow!("a panic"))??;
                ensure!(numbers.len() > 10, "only {} writes", numbers.len());
                all.extend(numbers);
            }
            Ok((done?, all))
        });
        goes_on.store(false, Ordering::Relaxed);
        done
    })
}

/// Whether a server has all of these.
fn expect_numbers(rig: &Rig<'_>, server: usize, numbers: &[i64]) -> Result<()> {
    let rows = rig.servers[server].run("SELECT number FROM shop.items")?;
    let there: std::collections::HashSet<&str> = rows.lines().collect();
    let is_lost = |number: &&i64| !there.contains(&*number.to_string());
    let lost: Vec<_> = numbers.iter().filter(is_lost).collect();
    ensure!(lost.is_empty(), "server {server} lacks {lost:?}");
    Ok(())
}

fn a_planned_change_loses_nothing_and_no_error_is_seen(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let rig = Rig::start(&lab, family, 3, ("", ""))?;
    let ((), numbers) = beside(&rig, |rig| {
        for to in ["two", "one", "three"] {
            thread::sleep(Duration::from_millis(300));
            let (changed, took) = timed(|| rig.lb(0, &["switchover", "--to", to]))?;
            let said = changed.expect_success()?;
            eprintln!("{took:?}\n{said}");
            ensure!(
                !said.contains("by hand") && said.ends_with("done\n"),
                "{said}"
            );
            ensure!(rig.primary(0)? == to, "{}", rig.status(0)?);
            await_until(PATIENCE, "the others are replicas", || {
                let status = rig.status(0)?;
                let servers = status["servers"].as_array().context("no servers")?;
                let fine = servers.iter().all(|one| one["in_rotation"] == true);
                ensure!(fine, "{status}");
                Ok(())
            })?;
        }
        thread::sleep(Duration::from_millis(300));
        Ok(())
    })?;
    eprintln!("{} confirmed writes", numbers.len());
    expect_numbers(&rig, 2, &numbers)?;
    let last = numbers.last().copied().unwrap_or_default();
    for server in 0..2 {
        await_until(PATIENCE, "the replica has the last one", || {
            expect_numbers(&rig, server, &[last])
        })?;
        expect_numbers(&rig, server, &numbers)?;
    }
    Ok(())
}

fn what_speaks_against_it_is_said_at_once(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let rig = Rig::start(&lab, family, 2, ("", "hold_seconds = 0.5"))?;
    rig.lb(0, &["switchover", "--to", "four"])?
        .expect_sentence(2, &["there is no server \"four\"", "(there are: one, two)"])?;
    rig.lb(0, &["switchover", "--to", "one"])?
        .expect_sentence(2, &["one is the primary already"])?;
    rig.lb(0, &["failover"])?
        .expect_sentence(2, &["the primary one is there: use a switch-over"])?;
    let checked = rig.lb(0, &["switchover", "--to", "two", "--check"])?;
    let checked = checked.expect_success()?;
    ensure!(checked.contains("set one read-only"), "{checked}");
    // A transaction that does not end: it is given up, and the transaction goes on.
    let mut session = Session::open(&rig, 0)?;
    session.run("BEGIN; INSERT INTO items VALUES (1, 1)")?;
    let refused = rig.lb(0, &["switchover", "--to", "two"])?;
    ensure!(refused.code == Some(1), "{refused:?}");
    let said = &refused.stdout;
    ensure!(
        said.contains("after 0.5 s 1 transactions or statements have not ended"),
        "{refused:?}"
    );
    session.run("INSERT INTO items VALUES (2, 2); COMMIT")?;
    // Of several steps a later one fails: what was done is taken back.
    let (stop, start) = match family {
        Family::MySql => ("STOP REPLICA SQL_THREAD", "START REPLICA"),
        Family::MariaDb => ("STOP SLAVE SQL_THREAD", "START SLAVE"),
    };
    rig.servers[1].run(stop)?;
    let refused = rig.lb(0, &["switchover", "--to", "two"])?;
    refused.expect_sentence(2, &["the SQL thread of two is stopped"])?;
    rig.servers[1].run(start)?;
    rig.servers[1].run("LOCK TABLES shop.items READ; SELECT 1")?;
    ensure!(rig.numbers(0)? == [1, 2], "{:?}", rig.numbers(0)?);
    ensure!(rig.write(0, 3)? == 1, "another primary");
    Ok(())
}

fn a_primary_that_was_killed_is_replaced(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let mut rig = Rig::start(&lab, family, 3, ("primary_wait_seconds = 20.0", ""))?;
    for number in 1..20 {
        rig.write(0, number)?;
    }
    rig.await_number(1, 19)?;
    rig.await_number(2, 19)?;
    // The last ones are only on one of the replicas, and not applied there yet.
    let (io, sql, start) = match family {
        Family::MySql => (
            "STOP REPLICA IO_THREAD",
            "STOP REPLICA SQL_THREAD",
            "START REPLICA SQL_THREAD",
        ),
        Family::MariaDb => (
            "STOP SLAVE IO_THREAD",
            "STOP SLAVE SQL_THREAD",
            "START SLAVE SQL_THREAD",
        ),
    };
    rig.servers[1].run(io)?;
    rig.servers[2].run(sql)?;
    for number in 20..30 {
        rig.write(0, number)?;
    }
    await_until(PATIENCE, "three has fetched them", || {
        let (show, column) = match family {
            Family::MySql => ("SHOW REPLICA STATUS", "Retrieved_Gtid_Set"),
            Family::MariaDb => ("SHOW SLAVE STATUS", "Gtid_IO_Pos"),
        };
        let wanted = match family {
            Family::MySql => "SELECT @@GLOBAL.gtid_executed",
            Family::MariaDb => "SELECT @@GLOBAL.gtid_binlog_pos",
        };
        let rows = rig.servers[2].table(show)?;
        let mut lines = rows.lines();
        let place = lines
            .next()
            .unwrap_or_default()
            .split('\t')
            .position(|one| one == column);
        let value = lines
            .next()
            .unwrap_or_default()
            .split('\t')
            .nth(place.context(column)?);
        let end = |text: &str| text.trim().rsplit(['-', ':']).next().map(str::to_owned);
        let has = end(value.unwrap_or_default());
        ensure!(has == end(&rig.servers[0].run(wanted)?), "{value:?}");
        Ok(())
    })?;
    let waiting = {
        rig.servers[0].kill()?;
        rig.client(0, "INSERT INTO shop.items VALUES (30, @@server_id)")?
            .stderr(Stdio::piped())
            .spawn()?
    };
    let refused = rig.lb(0, &["failover", "--to", "two"])?;
    ensure!(refused.code == Some(2), "{refused:?}");
    ensure!(
        refused
            .stderr
            .contains("three has transactions that two lacks"),
        "{refused:?}"
    );
    rig.servers[2].run(start)?;
    let (changed, took) = timed(|| rig.lb(0, &["failover"]))?;
    let said = changed.expect_success()?;
    eprintln!("{took:?}\n{said}");
    let waited = waiting.wait_with_output()?;
    ensure!(waited.status.success(), "{}", text(&waited.stderr));
    let all: Vec<u32> = (1..=30).collect();
    ensure!(rig.numbers(2)? == all, "{:?}", rig.numbers(2)?);
    rig.await_number(1, 30)?;
    ensure!(rig.numbers(1)? == all, "{:?}", rig.numbers(1)?);
    // It returns and takes writes: it gets none, and is made read-only.
    rig.servers[0].start_again()?;
    rig.agents[0].await_log(&["one is back, which was the primary, and was set read-only"])?;
    ensure!(rig.write(0, 31)? == 3, "another primary");
    let read_only = rig.servers[0].run("SELECT @@GLOBAL.read_only")?;
    ensure!(read_only.trim() == "1", "{read_only}");
    // An operator makes it a replica.
    rig.lb(0, &["rejoin", "three"])?
        .expect_sentence(2, &["three is the primary"])?;
    let said = rig.lb(0, &["rejoin", "one"])?.expect_success()?;
    ensure!(
        said.contains("done: let one replicate from three"),
        "{said}"
    );
    rig.await_number(0, 31)?;
    ensure!(rig.write(0, 32)? == 3, "another primary");
    rig.await_number(0, 32)?;
    rig.lb(0, &["rejoin", "one"])?
        .expect_sentence(2, &["one replicates already"])
}

of_both_families!(
    a_planned_change_loses_nothing_and_no_error_is_seen,
    what_speaks_against_it_is_said_at_once,
    a_primary_that_was_killed_is_replaced,
);
