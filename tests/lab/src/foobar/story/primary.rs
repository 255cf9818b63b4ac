//! The primary dies.

use std::process::Stdio;

use anyhow::{Result, ensure};

use super::super::{Audience, Foobar, NAME, patience, proxy};
use super::registration::{await_user, register};

/// A write that comes while there is no primary waits for the next one, and is done there.
pub(super) fn dies_and_returns(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    foobar.databases[0].kill()?;
    foobar
        .monitor
        .await_firing(&["LbMysqlNoPrimary", "LbMysqlServerDown"])?;
    let mut waiting = foobar
        .client
        .curl(&foobar.lab, &["--max-time", "15", "--json"])?;
    let waiting = waiting
        .arg(r#"{"name": "Edsger", "email": "who@example.org"}"#)
        .arg(format!("https://{NAME}/users"))
        .stdout(Stdio::piped())
        .spawn()?;
    // It is lost once the monitor knows it.
    let steps = patience::await_until(patience::LONG, "`lb mysql failover` is done", || {
        foobar.proxies[1].lb(&["mysql", "failover"])
    })?;
    let output = waiting.wait_with_output()?;
    let answer = String::from_utf8_lossy(&output.stdout);
    ensure!(
        answer.contains("\"id\":"),
        "who registered meanwhile was told: {answer}"
    );
    for agent in &foobar.proxies {
        proxy::await_roles(agent, "db2", None)?;
    }
    let id = register(foobar, "Donald")?;
    let list = await_user(foobar, id)?;
    ensure!(list["server"] == 2, "{list}");
    (audience.seen)(&format!(
        "`lb mysql failover`: {} steps; who registered meanwhile waited, and was written to db2",
        steps.lines().count()
    ));

    foobar.databases[0].start_again(&foobar.lab)?;
    let rejoin = patience::await_until(patience::LONG, "`lb mysql rejoin` is done", || {
        foobar.proxies[1].lb(&["mysql", "rejoin", "db1"])
    })?;
    for agent in &foobar.proxies {
        proxy::await_roles(agent, "db2", Some("db1"))?;
    }
    let id = register(foobar, "Margaret")?;
    let list = await_user(foobar, id)?;
    ensure!(list["server"] == 1, "{list}");
    (audience.seen)(&format!(
        "`lb mysql rejoin db1`: {} steps; written to db2, read from db1",
        rejoin.lines().count()
    ));
    back_again(foobar)?;
    (audience.seen)("`lb mysql switchover --to db1`: all is as it was");
    foobar.monitor.await_quiet()
}

/// The primary is where it was, on purpose and without losing anything.
fn back_again(foobar: &Foobar) -> Result<()> {
    foobar.proxies[1].lb(&["mysql", "switchover", "--to", "db1"])?;
    for agent in &foobar.proxies {
        proxy::await_roles(agent, "db1", Some("db2"))?;
    }
    // The account of replication has to come encrypted, so that this says that it does.
    let id = register(foobar, "Radia")?;
    let list = await_user(foobar, id)?;
    ensure!(list["server"] == 2, "{list}");
    Ok(())
}
