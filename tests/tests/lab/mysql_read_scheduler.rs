//! `read_scheduler`: a replica that is busy gets fewer reads by `least-connections`, and its share in
//! turn.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use lb_tests::database::Family;
use lb_tests::scenario::await_until;
use serde_json::Value;

use crate::mysql_topology_rig::{PATIENCE, Rig, one_host};

/// Which server answers.
const WHERE: &str = "SELECT /* lb:replica */ @@server_id";
const LEAST: &str = "read_scheduler = \"least-connections\"";

/// A client whose statement takes long.
struct Slow(Child);

impl Drop for Slow {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn session(rig: &Rig<'_>, state: &str) -> Result<Option<Value>> {
    let outcome = rig.lb(0, &["sessions", "--json"])?;
    let all: Value = serde_json::from_str(&outcome.stdout)?;
    let mut list = all["sessions"].as_array().context("no sessions")?.iter();
    Ok(list.find(|one| one["state"] == state).cloned())
}

/// The servers that answered so many reads.
fn answered(rig: &Rig<'_>, reads: usize) -> Result<BTreeSet<String>> {
    let answers = (0..reads).map(|_| Ok(rig.sql(0, WHERE)?.concat()));
    answers.collect()
}

fn a_busy_replica_gets_fewer_reads(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let rig = Rig::start(&lab, family, 3, (LEAST, ""))?;
    let both: BTreeSet<String> = ["2", "3"].map(str::to_owned).into();
    ensure!(answered(&rig, 6)? == both, "idle ones do not take turns");

    let mut command = rig.client(0, "SELECT SLEEP(300)")?;
    let slow = Slow(command.stdout(Stdio::null()).spawn()?);
    let running = await_until(PATIENCE, "the slow one runs", || {
        session(&rig, "running")?.context("none runs")
    })?;
    let other = match running["server"].as_str() {
        Some("two") => "3",
        Some("three") => "2",
        _ => anyhow::bail!("{running}"),
    };
    let found = answered(&rig, 12)?;
    ensure!(found == [other.to_owned()].into(), "{found:?}");

    let reload = |from: &str, to: &str| -> Result<()> {
        let agent = &rig.agents[0];
        let file = agent.config_file();
        fs::write(file, fs::read_to_string(file)?.replacen(from, to, 1))?;
        agent.asked(&["reload"])?.expect_success().map(drop)
    };
    let in_turn = "read_scheduler = \"round-robin\"";
    reload(LEAST, in_turn)?;
    await_until(PATIENCE, "reads go in turn", || {
        let found = answered(&rig, 6)?;
        ensure!(found == both, "{found:?}");
        Ok(())
    })?;
    reload(in_turn, LEAST)?;
    drop(slow);
    let id = &running["id"];
    rig.lb(0, &["kill", &id.to_string()])?;
    await_until(PATIENCE, "both get reads again", || {
        let found = answered(&rig, 6)?;
        ensure!(found == both, "{found:?}");
        Ok(())
    })
}

of_both_families!(a_busy_replica_gets_fewer_reads);
