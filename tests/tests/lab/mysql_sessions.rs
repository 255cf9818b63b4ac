//! Sessions of the proxy among each other: who may kill whom, and what is left of one that has gone.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_mysql::wire::Capabilities;
use lb_tests::database::Family;
use lb_tests::scenario::await_until;

use crate::mysql_bed::{Bed, PRIMARY, PROXY, log_in, one_host};
use crate::mysql_client::Client;

/// Soon: far less than the server's patience with locks.
const SOON: Duration = Duration::from_secs(5);

fn weak(port: u16) -> Result<Client> {
    let client = Client::connect(port, ("weak", "weak"), None, Capabilities::NONE)?;
    client.map_err(anyhow::Error::msg)
}

/// A server looks for a kill now and then, and may do a statement before it does.
fn await_end(killed: &mut Client) -> Result<()> {
    await_until(SOON, "the session is ended", || {
        let said = killed.query("SELECT 1");
        ensure!(
            said.as_ref().map_or(true, |said| said.starts_with("error")),
            "{said:?}"
        );
        Ok(())
    })
}

/// What KILL gives, without the numbers.
fn kills(port: u16) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut note = |number: u32, said: String| {
        words.push(said.replace(&format!(" {number}\n"), " N\n"));
    };
    let (mut app, mut weak_one) = (log_in(port, None, Capabilities::NONE)?, weak(port)?);
    // Somebody else's, which does nothing, and which runs something.
    for kill in ["KILL", "KILL CONNECTION", "KILL QUERY"] {
        note(
            app.number,
            weak_one.query(&format!("{kill} {}", app.number))?,
        );
    }
    let asleep = log_in(port, None, Capabilities::NONE)?;
    let number = asleep.number;
    let sleeper = thread::spawn(move || {
        let mut asleep = asleep;
        asleep.query("SELECT SLEEP(20) FROM mysql.user LIMIT 1")
    });
    note(number, weak_one.query(&format!("KILL QUERY {number}"))?);
    let kill = format!("KILL QUERY {number}");
    note(number, app.query(&kill)?);
    // The first one may have come before it slept.
    while !sleeper.is_finished() {
        app.query(&kill)?;
        thread::sleep(Duration::from_millis(20));
    }
    let interrupted = sleeper.join().ok().context("it panicked")?;
    // Servers say it in an error or in the row, as it comes.
    ensure!(interrupted.is_ok(), "{interrupted:?}");
    // One's own.
    let mut other = weak(port)?;
    note(
        other.number,
        weak_one.query(&format!("KILL {}", other.number))?,
    );
    await_end(&mut other)?;
    // Somebody else's, by one who may.
    let mut other = weak(port)?;
    note(other.number, app.query(&format!("KILL {}", other.number))?);
    await_end(&mut other)?;
    note(0, app.query("KILL 4294967290")?);
    note(0, app.query("SELECT 1")?);
    // Whom the primary's process list shows.
    let mut beside = weak(PRIMARY)?;
    note(
        beside.number,
        app.query(&format!("KILL {}", beside.number))?,
    );
    await_end(&mut beside)?;
    // As applications ask for their own.
    for ask in ["SELECT CONNECTION_ID()", "select connection_id() AS me;"] {
        let said = app.query(ask)?;
        let number = app.number.to_string();
        ensure!(said.contains(&number), "{ask}: {said}");
        note(0, said.replace(&number, "N"));
    }
    let number = app.number;
    note(number, app.query(&format!("KILL QUERY {number}"))?);
    note(number, app.query(&format!("KILL {number}"))?);
    ensure!(app.query("SELECT 1").is_err());
    Ok(words)
}

/// As drivers do that look before they send, in order to connect anew.
fn knows_it_when_the_kill_is_answered() -> Result<()> {
    let mut killer = log_in(PROXY, None, Capabilities::NONE)?;
    for turn in 0..200 {
        let idle = log_in(PROXY, None, Capabilities::NONE)?;
        let said = killer.query(&format!("KILL {}", idle.number))?;
        ensure!(said.starts_with("ok"), "{said}");
        let stream = idle.into_stream();
        stream.set_nonblocking(true)?;
        let peeked = stream.peek(&mut [0]);
        ensure!(peeked.is_ok(), "turn {turn}: {peeked:?}");
    }
    Ok(())
}

/// A client that goes leaves no lock and no transaction behind.
fn leaves_nothing() -> Result<()> {
    for open in [
        &[
            "BEGIN",
            "UPDATE pair.writes SET number = number WHERE number = 0",
        ][..],
        &["SET autocommit = 0", "SELECT * FROM pair.writes FOR UPDATE"],
        &["BEGIN", "SELECT * FROM pair.writes"],
        &["LOCK TABLES pair.writes WRITE"],
        &["SELECT GET_LOCK('left', 0)"],
    ] {
        let mut client = log_in(PROXY, None, Capabilities::NONE)?;
        for statement in open {
            let said = client.query(statement)?;
            ensure!(!said.starts_with("error"), "{statement}: {said}");
        }
        drop(client);
        let mut after = log_in(PRIMARY, None, Capabilities::NONE)?;
        let began = Instant::now();
        let said = after.query("ALTER TABLE pair.writes COMMENT 'changed'")?;
        ensure!(said.starts_with("ok"), "after {open:?}: {said}");
        let said = after.query("SELECT GET_LOCK('left', 3), RELEASE_LOCK('left')")?;
        ensure!(said.contains("1\t1"), "after {open:?}: {said}");
        ensure!(
            began.elapsed() < SOON,
            "after {open:?}: {:?}",
            began.elapsed()
        );
    }
    Ok(())
}

fn sessions_are_ended_as_at_the_primary(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let bed = Bed::start(&lab, family)?;
    bed.pair
        .primary
        .run("CREATE USER weak@'%' IDENTIFIED BY 'weak'")?;
    bed.pair.write(2)?;
    bed.pair.await_copy(2)?;
    lab.within("db", || {
        let (direct, routed) = (kills(PRIMARY)?, kills(PROXY)?);
        for (direct, routed) in direct.iter().zip(&routed) {
            ensure!(
                direct == routed,
                "directly {direct}\nrouted {routed}\nof {direct:?}"
            );
        }
        knows_it_when_the_kill_is_answered()?;
        leaves_nothing()
    })??;
    Ok(())
}

of_both_families!(sessions_are_ended_as_at_the_primary);
