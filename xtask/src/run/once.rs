//! `cargo xtask run --once`: the demonstration for scripts. Every step says what it saw, and the
//! first that does not hold ends it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::console;
use crate::interrupt;
use crate::stage::{SERVERS, SERVICE, Service, Stage, vip};

const CONNECTIONS: usize = 30;
const TIMEOUT: Duration = Duration::from_secs(5);
/// The server that dies, counted from 0.
const VICTIM: usize = 1;
/// wrk opens one connection more than it is told, to see whether the server is there; and
/// counters are read while connections still close.
const UNEVENNESS: u64 = 2;

pub(super) fn demonstrate(stage: &mut Stage) -> Result<()> {
    console::heading("The demonstration");
    let all: Vec<_> = (1..=SERVERS).map(|number| format!("web{number}")).collect();

    let began = Instant::now();
    let seen = connect(stage)?;
    expect_order(&seen, &all)?;
    ensure!(
        seen.first() == all.first(),
        "the first connection went to {:?}",
        seen.first()
    );
    println!("    {}", seen.join(" "));
    console::done(
        format!("{CONNECTIONS} connections, each a new one, in exact order"),
        began,
    );

    let began = Instant::now();
    let victim = all
        .get(VICTIM)
        .context("the lab has too few servers")?
        .clone();
    stage.server(VICTIM)?.1.stop()?;
    stage.wait_for(&format!("{victim} down"), |service| {
        is_out(service, &victim)
    })?;
    console::done(format!("{victim} was stopped, and lb found it down"), began);

    let began = Instant::now();
    let seen = connect(stage)?;
    let others: Vec<_> = all
        .iter()
        .filter(|name| **name != victim)
        .cloned()
        .collect();
    expect_order(&seen, &others)?;
    println!("    {}", seen.join(" "));
    console::done(
        format!("{CONNECTIONS} connections over the other two, none failed"),
        began,
    );

    let began = Instant::now();
    let (lab, server) = stage.server(VICTIM)?;
    server.start_again(lab)?;
    stage.wait_for(&format!("{victim} up"), |service| is_up(service, &victim))?;
    console::done(
        format!("{victim} was started again, and lb found it up"),
        began,
    );

    let began = Instant::now();
    let seen = connect(stage)?;
    expect_order(&seen, &all)?;
    println!("    {}", seen.join(" "));
    console::done(
        format!("{CONNECTIONS} connections, over all three again, in exact order"),
        began,
    );

    let began = Instant::now();
    let load = load(stage)?;
    console::done(format!("wrk with 64 connections for 2 s: {load}"), began);
    Ok(())
}

/// Opens connections one after the other and returns who answered.
fn connect(stage: &Stage) -> Result<Vec<String>> {
    let request = || lb_lab::get(vip(), "/", TIMEOUT);
    (1..=CONNECTIONS)
        .map(|number| {
            interrupt::check()?;
            let answer = stage.lab().within("client", request)?;
            let answer = answer.with_context(|| format!("connection {number} failed"))?;
            ensure!(
                answer.status == 200,
                "connection {number} was answered {}",
                answer.status
            );
            answer
                .backend
                .with_context(|| format!("connection {number}: who answered is not said"))
        })
        .collect()
}

/// Checks that the names come round and round in this order, wherever they begin.
fn expect_order(seen: &[String], order: &[String]) -> Result<()> {
    let first = seen
        .first()
        .and_then(|name| order.iter().position(|other| other == name));
    let Some(first) = first else {
        bail!("answers came from {seen:?}")
    };
    let expected = order.iter().cycle().skip(first);
    ensure!(
        seen.iter().zip(expected).all(|(one, other)| one == other),
        "the order was {seen:?}"
    );
    Ok(())
}

fn is_up(service: &Service, name: &str) -> bool {
    let backend = service.backends.iter().find(|backend| backend.name == name);
    backend.is_some_and(|backend| backend.health == "up" && backend.in_rotation)
}

/// A check says so a moment before the tables do.
fn is_out(service: &Service, name: &str) -> bool {
    let backend = service.backends.iter().find(|backend| backend.name == name);
    backend.is_some_and(|backend| backend.health == "down" && !backend.in_rotation)
}

/// Runs wrk, checks that nothing failed and that the spread was even, and says how fast it was.
fn load(stage: &Stage) -> Result<String> {
    let before = connections(stage)?;
    let url = format!("http://{}/", vip().ip());
    let report = stage
        .lab()
        .run("client", "wrk", &["-t2", "-c64", "-d2s", &url])?;
    for trouble in ["Socket errors", "Non-2xx"] {
        ensure!(!report.contains(trouble), "wrk met trouble:\n{report}");
    }
    let spread: BTreeMap<String, u64> = connections(stage)?
        .into_iter()
        .map(|(name, count)| {
            let earlier = before.get(&name).copied().unwrap_or_default();
            (name, count.saturating_sub(earlier))
        })
        .collect();
    let (least, most) = (spread.values().min(), spread.values().max());
    let (Some(least), Some(most)) = (least, most) else {
        bail!("lb has no backends")
    };
    ensure!(
        *least > 0 && most - least <= UNEVENNESS,
        "the spread was uneven: {spread:?}"
    );
    let rate = report
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"));
    let rate = rate
        .with_context(|| format!("wrk gave no rate:\n{report}"))?
        .trim();
    Ok(format!(
        "{rate} requests/s, no errors, connections {spread:?}"
    ))
}

fn connections(stage: &Stage) -> Result<BTreeMap<String, u64>> {
    let status = stage.status()?;
    let backends = &status.service(SERVICE)?.backends;
    Ok(backends
        .iter()
        .map(|backend| (backend.name.clone(), backend.connections))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::expect_order;

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn an_order_may_begin_anywhere_but_must_hold() {
        let order = names("a b c");
        assert!(expect_order(&names("b c a b c a"), &order).is_ok());
        assert!(expect_order(&names("a b c a c b"), &order).is_err());
        assert!(expect_order(&names("d a b"), &order).is_err());
        assert!(expect_order(&[], &order).is_err());
    }
}
