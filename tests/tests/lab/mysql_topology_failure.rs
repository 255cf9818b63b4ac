//! `[mysql]` when the primary is another, two are, or none is, and when a server dies under a
//! statement.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::database::Family;
use lb_tests::scenario::await_until;

use crate::mysql_topology_rig::{PATIENCE, Rig, one_host, text, timed};

/// An interval of the monitor's, and what a client takes.
const SOON: Duration = Duration::from_millis(300 + 1500);

fn another_tools_promotion_is_followed(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let rig = Rig::start(&lab, family, 2, ("", ""))?;
    ensure!(rig.write(0, 1)? == 1, "the first primary");
    rig.promote_by_hand(0, 1)?;
    // At once: what the former primary refuses waits for the new one.
    let (server, took) = timed(|| rig.write(0, 2))?;
    ensure!(server == 2 && took < SOON, "server {server} after {took:?}");
    ensure!(rig.primary(0)? == "two", "{}", rig.status(0)?);
    rig.promote_by_hand(1, 0)?;
    let (server, took) = timed(|| rig.write(0, 3))?;
    ensure!(server == 1 && took < SOON, "server {server} after {took:?}");
    ensure!(rig.numbers(0)? == [1, 2, 3], "{:?}", rig.numbers(0)?);
    Ok(())
}

fn of_two_that_take_writes_the_known_one_gets_them(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let mut rig = Rig::start(&lab, family, 2, ("primary_wait_seconds = 1.0", ""))?;
    let (forget, off) = match family {
        Family::MySql => (
            "STOP REPLICA; RESET REPLICA ALL",
            "SET GLOBAL read_only = OFF",
        ),
        Family::MariaDb => ("STOP SLAVE; RESET SLAVE ALL", "SET GLOBAL read_only = OFF"),
    };
    rig.write(0, 1)?;
    rig.await_number(1, 1)?;
    rig.servers[1].run(&format!("{forget}; {off}"))?;
    let loud = "more than one server takes writes: one, which is the primary, and two";
    rig.agents[0].await_log(&[loud])?;
    for number in 2..6 {
        ensure!(rig.write(0, number)? == 1, "a write went to the other");
    }
    await_until(PATIENCE, "the monitor has seen both since", || {
        let status = rig.status(0)?;
        ensure!(status["servers"][1]["in_rotation"] == false, "{status}");
        Ok(())
    })?;
    // The known one goes: the other has not all of its transactions, and gets none.
    rig.servers[0].kill()?;
    let said = rig.try_sql(0, "INSERT INTO shop.items VALUES (9, 9)")?;
    ensure!(!said.status.success(), "a write went to the other");
    let said = text(&said.stderr);
    ensure!(said.contains("lb knows no primary to write to"), "{said}");
    ensure!(rig.numbers(1)? == [1], "{:?}", rig.numbers(1)?);
    // Somebody who does not know who was the primary writes to none of both.
    rig.servers[0].start_again()?;
    rig.await_primary(0, "one")?;
    rig.agents[0].stop()?;
    rig.agents[0].start_again(&lab)?;
    rig.agents[0].await_log(&["take writes and do not replicate from each other"])?;
    let said = rig.try_sql(0, "INSERT INTO shop.items VALUES (10, 10)")?;
    ensure!(!said.status.success(), "a write went to one of two");
    // It becomes clear.
    rig.servers[1].run("SET GLOBAL read_only = ON")?;
    rig.await_primary(0, "one")?;
    ensure!(rig.write(0, 11)? == 1, "a write went to the other");
    Ok(())
}

fn writes_wait_for_a_primary_and_reads_go_on(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let mut rig = Rig::start(&lab, family, 2, ("primary_wait_seconds = 3.0", ""))?;
    rig.write(0, 1)?;
    rig.await_number(1, 1)?;
    // A session that was there before, and ones that come now.
    let before = rig
        .client(
            0,
            "SELECT 1; SELECT SLEEP(2); SELECT number FROM shop.items",
        )?
        .stdout(Stdio::piped())
        .spawn()?;
    rig.servers[0].kill()?;
    // As most drivers begin.
    let begins = "SET NAMES utf8mb4; SET SESSION sort_buffer_size = 65536; SELECT \
                  @@sort_buffer_size; SELECT number FROM shop.items";
    for _ in 0..5 {
        let (said, took) = timed(|| rig.sql(0, begins))?;
        ensure!(
            said == ["65536", "1"] && took < SOON,
            "{said:?} after {took:?}"
        );
    }
    let insert = "INSERT INTO shop.items VALUES (2, 2)";
    let (said, took) = timed(|| rig.try_sql(0, insert))?;
    let words = text(&said.stderr);
    ensure!(
        words.contains("ERROR 1290 (HY000)") && words.contains("the primary one is not reached"),
        "{words}"
    );
    let wait = Duration::from_secs(3);
    ensure!(took >= wait && took < wait + SOON, "{took:?}");
    let said = before.wait_with_output()?;
    ensure!(text(&said.stdout) == "1\n0\n1\n", "{}", text(&said.stdout));
    // One that waits when it comes back is done, and what its session has set before holds there.
    let sets = format!(
        "SET NAMES utf8; SET autocommit = 1; SET SESSION sort_buffer_size = 65536; {insert}; SELECT \
         @@sort_buffer_size, @@server_id = (SELECT @@server_id)"
    );
    let spawn = |sql: &str| -> Result<_> {
        let mut client = rig.client(0, sql)?;
        let client = client.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(client.spawn()?)
    };
    let waiting = spawn(&sets)?;
    let in_transactions =
        spawn("SET autocommit = 0; INSERT INTO shop.items VALUES (3, 3); ROLLBACK")?;
    thread::sleep(Duration::from_millis(200));
    rig.servers[0].start_again()?;
    let said = waiting.wait_with_output()?;
    ensure!(said.status.success(), "{}", text(&said.stderr));
    ensure!(text(&said.stdout) == "65536\t1\n", "{}", text(&said.stdout));
    let said = in_transactions.wait_with_output()?;
    ensure!(said.status.success(), "{}", text(&said.stderr));
    ensure!(rig.numbers(0)? == [1, 2], "{:?}", rig.numbers(0)?);
    Ok(())
}

fn a_read_without_an_answer_is_asked_elsewhere(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let mut rig = Rig::start(&lab, family, 2, ("", ""))?;
    // In autocommit: the other answers. In a transaction, and of a write: it is told.
    let ask = |sql: &str| -> Result<_> {
        let mut client = rig.client(0, sql)?;
        Ok(client
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?)
    };
    rig.write(0, 1)?;
    rig.await_number(1, 1)?;
    let sleep = "SELECT SLEEP(2), number FROM shop.items";
    let read = ask(sleep)?;
    let within = ask(&format!("START TRANSACTION READ ONLY; {sleep}"))?;
    let sleeping = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE \
                    'SELECT SLEEP(2)%' AND user = 'app'";
    await_until(PATIENCE, "both run on the replica", || {
        let count = rig.servers[1].run(sleeping)?;
        ensure!(count.trim() == "2", "{count}");
        Ok(())
    })?;
    rig.servers[1].kill()?;
    let read = read.wait_with_output()?;
    ensure!(
        text(&read.stdout) == "0\t1\n" && read.status.success(),
        "{}{}",
        text(&read.stdout),
        text(&read.stderr)
    );
    let within = within.wait_with_output()?;
    let said = text(&within.stderr);
    ensure!(said.contains("ERROR 1158 (08S01)"), "{said}");
    let status = rig.status(0)?;
    ensure!(status["errors"]["retried"] == 1, "{status}");
    Ok(())
}

of_both_families!(
    another_tools_promotion_is_followed,
    of_two_that_take_writes_the_known_one_gets_them,
    writes_wait_for_a_primary_and_reads_go_on,
    a_read_without_an_answer_is_asked_elsewhere,
);
