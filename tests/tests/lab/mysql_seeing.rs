//! `[mysql]`: what the proxy shows of sessions and statements, and what is done by it.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::database::Family;
use lb_tests::scenario::await_until;
use serde_json::Value;

use super::mysql_proxy::{Routed, one_host};

const PATIENCE: Duration = Duration::from_secs(20);

/// A client that says what it is told to, and stays.
struct Client(Child);

impl Client {
    fn start(routed: &Routed<'_>, user: &str) -> Result<Self> {
        let mut command = routed.client(user, user)?;
        let child = command
            .args(["-n", "--force"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self(child))
    }

    fn say(&mut self, sql: &str) -> Result<()> {
        let input = self.0.stdin.as_mut().context("it has no input")?;
        input.write_all(format!("{sql};\n").as_bytes())?;
        Ok(input.flush()?)
    }

    /// What it says of errors, when its input has ended.
    fn end(mut self) -> Result<String> {
        drop(self.0.stdin.take());
        let mut words = String::new();
        if let Some(mut errors) = self.0.stderr.take() {
            std::io::Read::read_to_string(&mut errors, &mut words)?;
        }
        self.0.wait()?;
        Ok(words)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn asked(routed: &Routed<'_>, words: &[&str]) -> Result<Value> {
    let outcome = routed.agent.asked(&[words, &["--json"]].concat())?;
    serde_json::from_str(&outcome.stdout).with_context(|| outcome.stderr)
}

/// The session that is so, as soon as there is one.
fn session(routed: &Routed<'_>, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    await_until(PATIENCE, what, || {
        let all = asked(routed, &["mysql", "sessions"])?;
        let list = all["sessions"].as_array().context("no sessions")?;
        let found = list.iter().find(|one| is_it(one)).cloned();
        found.with_context(|| all.to_string())
    })
}

fn kill(routed: &Routed<'_>, session: &Value) -> Result<()> {
    let id = &session["id"];
    let outcome = routed.agent.asked(&["mysql", "kill", &id.to_string()])?;
    ensure!(outcome.stdout.contains("killed"), "{}", outcome.stderr);
    await_until(PATIENCE, "the session is gone", || {
        let all = asked(routed, &["mysql", "sessions"])?;
        let list = all["sessions"].as_array().context("no sessions")?;
        ensure!(list.iter().all(|one| one["id"] != *id), "{all}");
        Ok(())
    })
}

fn sessions(routed: &Routed<'_>) -> Result<()> {
    let mut idle = Client::start(routed, "app")?;
    idle.say("USE shop")?;
    idle.say("SELECT GET_LOCK('seeing', 0)")?;
    let pinned = session(routed, "a session is pinned", |one| {
        one["pinned"] == "pinned_user_lock" && one["state"] == "idle"
    })?;
    for (key, expected) in [("user", "app"), ("schema", "shop"), ("server", "one")] {
        ensure!(pinned[key] == expected, "{key}: {pinned}");
    }
    ensure!(pinned["last"]["target"] == "primary", "{pinned}");
    ensure!(pinned["last"]["reason"] == "user_lock", "{pinned}");
    let client = pinned["client"].as_str().unwrap_or_default();
    ensure!(client.starts_with("127.0.0.1:"), "{pinned}");

    let mut reading = Client::start(routed, "app")?;
    reading.say("START TRANSACTION READ ONLY; SELECT 1")?;
    session(routed, "a transaction is open at the replica", |one| {
        one["state"] == "in_transaction" && one["server"] == "two"
    })?;
    reading.say("COMMIT; SELECT /* lb:primary */ SLEEP(300)")?;
    let running = session(routed, "a statement runs", |one| {
        one["state"] == "running" && one["server"] == "one" && one["last"]["reason"] == "hint"
    })?;
    let sleeps = || {
        routed.pair.primary.run(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(300)%' \
             AND info NOT LIKE '%processlist%'",
        )
    };
    ensure!(sleeps()?.trim() == "1", "it does not run: {}", sleeps()?);

    kill(routed, &running)?;
    await_until(PATIENCE, "the server was told", || {
        ensure!(sleeps()?.trim() == "0", "{}", sleeps()?);
        Ok(())
    })?;
    let said = reading.end()?;
    ensure!(said.contains("2013"), "{said}");
    kill(routed, &pinned)?;
    // What it held is free.
    let free = routed.sql("SELECT GET_LOCK('seeing', 5)")?;
    ensure!(free == ["1"], "{free:?}");
    let outcome = routed.agent.asked(&["mysql", "kill", "4000000000"])?;
    ensure!(
        outcome.stderr.contains("there is no session 4000000000"),
        "{}",
        outcome.stderr
    );
    Ok(())
}

fn digests(routed: &Routed<'_>) -> Result<()> {
    routed.sql(
        "SELECT number FROM shop.items WHERE number IN (1, 2, 3); SELECT number FROM shop.items \
         WHERE number IN (4) /* x */; BEGIN; SELECT number FROM shop.items WHERE number IN (5, 6); \
         COMMIT",
    )?;
    let refused = routed.try_sql("app", "app", "SELECT nothing FROM shop.items")?;
    ensure!(!refused.status.success(), "it was not refused");
    let all = asked(routed, &["mysql", "digests", "--limit", "1000"])?;
    let list = all["digests"].as_array().context("no digests")?;
    let find = |text: &str| {
        let found = list.iter().find(|one| one["text"] == text);
        found.with_context(|| format!("{text}: {all}"))
    };
    let one = find("SELECT number FROM shop.items WHERE number IN (?)")?;
    for (key, count) in [("count", 3), ("primary", 1), ("replica", 2), ("errors", 0)] {
        ensure!(one[key] == count, "{key}: {one}");
    }
    ensure!(one["primary_reasons"][0] == "in_transaction", "{one}");
    ensure!(one["replica_reasons"][0] == "read", "{one}");
    let bad = find("SELECT nothing FROM shop.items")?;
    ensure!(bad["errors"] == 1, "{bad}");
    Ok(())
}

fn slow_statements(routed: &Routed<'_>) -> Result<()> {
    routed.sql("SELECT /* lb:primary */ SLEEP(0.6), 'a secret'")?;
    await_until(PATIENCE, "it is logged", || {
        let log = routed.agent.log();
        let line = log.lines().find(|line| line.contains("slow statement: 0."));
        let line = line.with_context(|| log.clone())?;
        for part in [
            " s at one (primary/hint), user app, session ",
            "digest ",
            ": SELECT SLEEP(?)",
        ] {
            ensure!(line.contains(part), "{part}: {line}");
        }
        ensure!(!line.contains("secret"), "{line}");
        Ok(())
    })
}

/// Four connections to the primary, eight clients of the user.
fn limits(routed: &Routed<'_>) -> Result<()> {
    let mut holders = Vec::new();
    for number in 0..4 {
        let mut holder = Client::start(routed, "app")?;
        holder.say("BEGIN")?;
        holder.say(&format!("SELECT {number} FROM shop.items FOR UPDATE"))?;
        holders.push(holder);
    }
    await_until(PATIENCE, "four transactions", || {
        let status = routed.status()?;
        ensure!(status["servers"][0]["connections"] == 4, "{status}");
        let all = asked(routed, &["mysql", "sessions"])?;
        let list = all["sessions"].as_array().context("no sessions")?;
        let open = list.iter().filter(|one| one["state"] == "in_transaction");
        ensure!(open.count() == 4, "{all}");
        Ok(())
    })?;
    // Another one waits for its turn, and gets it.
    let mut next = Client::start(routed, "app")?;
    next.say("BEGIN")?;
    await_until(PATIENCE, "it waits", || {
        let status = routed.status()?;
        ensure!(status["servers"][0]["waiting"] == 1, "{status}");
        Ok(())
    })?;
    holders.swap_remove(0).end()?;
    session(routed, "its turn has come", |one| {
        one["state"] == "in_transaction" && one["last"]["reason"] == "begin"
    })?;
    // Whose turn does not come is told so.
    let output = routed.try_sql("app", "app", "SELECT 1")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("1040"), "{said}");
    drop((holders, next));

    let mut idle = Vec::new();
    await_until(PATIENCE, "all are gone", || {
        let status = routed.status()?;
        ensure!(status["sessions"] == 0, "{status}");
        Ok(())
    })?;
    for _ in 0..8 {
        let mut client = Client::start(routed, "app")?;
        client.say("SELECT 1")?;
        idle.push(client);
    }
    let status = await_until(PATIENCE, "eight clients", || {
        let status = routed.status()?;
        ensure!(status["users"][0]["sessions"] == 8, "{status}");
        Ok(status)
    })?;
    let most = status["servers"][0]["connections"].as_u64();
    ensure!(most <= Some(4), "{status}");
    let output = routed.try_sql("app", "app", "SELECT 1")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        said.contains("1226") && said.contains("User 'app'"),
        "{said}"
    );
    let status = routed.status()?;
    for kind in ["server_full", "user_limit"] {
        ensure!(
            status["errors"][kind].as_u64() > Some(0),
            "{kind}: {status}"
        );
    }
    Ok(())
}

#[test]
fn what_the_proxy_shows() -> Result<()> {
    if !Family::MySql.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let more = "slow_statement_seconds = 0.5\nconnection_wait_seconds = 3";
    let keys = (more, "max_connections = 4", "max_connections = 8");
    let routed = Routed::start_limited(&lab, Family::MySql, keys)?;
    sessions(&routed)?;
    digests(&routed)?;
    slow_statements(&routed)?;
    limits(&routed)
}
