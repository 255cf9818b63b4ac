//! The primary dies.

use std::process::Stdio;

use anyhow::{Result, ensure};

use super::super::{Audience, Foobar, NAME, database, patience, proxy};
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
    rejoin(foobar)?;
    for agent in &foobar.proxies {
        proxy::await_roles(agent, "db2", Some("db1"))?;
    }
    let id = register(foobar, "Margaret")?;
    let list = await_user(foobar, id)?;
    ensure!(list["server"] == 1, "{list}");
    (audience.seen)("db1 is back as a replica: written to db2, read from db1");
    foobar.monitor.await_quiet()
}

/// What an operator does with a former primary that has come back, read-only as its file says: it
/// copies from the new primary from where its own log ends. Should it have what the new primary
/// lacks, MariaDB refuses that (1236), and it has to be made anew from a backup.
fn rejoin(foobar: &Foobar) -> Result<()> {
    let former = &foobar.databases[0];
    former.run(&foobar.lab, "SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos")?;
    former.run(&foobar.lab, &database::follow(2, &foobar.authority))?;
    Ok(())
}
