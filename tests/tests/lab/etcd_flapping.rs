//! etcd dies, comes back, is cut off, forgets its history and all it had: the agent says each once,
//! keeps the backends, recovers alone, and no connection fails.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::scenario::{Agent, Load, await_until, names};

use crate::discovery::{Etcd, PATIENCE, Stage};
use crate::{WEBS, web};

const LOST: &str = "backends that were discovered before stay";
const BACK: &str = "its backends are known again";
/// Between two requests: this lasts too long for a load without a pause.
const PAUSE: Duration = Duration::from_millis(3);

fn said(agent: &Agent, what: &str) -> usize {
    agent.log().matches(what).count()
}

/// Waits until the agent has said this once more than before.
fn await_said(agent: &Agent, what: &str, before: usize) -> Result<Duration> {
    let began = Instant::now();
    await_until(PATIENCE, what, || {
        ensure!(said(agent, what) > before, "{}", agent.log());
        Ok(())
    })?;
    Ok(began.elapsed())
}

#[test]
fn the_backends_stay_and_every_connection_works() -> Result<()> {
    let stage = Stage::set(4)?;
    let etcd = Etcd::apart(&stage);
    let mut process = etcd.start()?;
    for (name, number) in WEBS.iter().zip(1..=2) {
        etcd.put(name, number, ", \"port\": 8080")?;
    }
    let agent = Agent::start(
        &stage.lab,
        &stage.config(&format!(
            "kind = \"etcd\"\nendpoints = [{:?}]\nprefix = \"/lb/web/\"\n",
            etcd.url
        )),
    )?;
    stage.expect(&WEBS[..2])?;
    let load = |load: &Load| {
        let mut count = 0;
        while load.goes_on() {
            names(&stage.lab, web(), 1).with_context(|| format!("request {count}"))?;
            count += 1;
            thread::sleep(PAUSE);
        }
        Ok(count)
    };
    let ((), count) = Load::beside(load, |load| {
        for _ in 0..2 {
            let (lost, back) = (said(&agent, LOST), said(&agent, BACK));
            process.kill()?;
            await_said(&agent, LOST, lost)?;
            process = etcd.start()?;
            let took = await_said(&agent, BACK, back)?;
            eprintln!("known again {:.1} s after etcd", took.as_secs_f64());
        }

        // It forgets the revisions that it had, under the agent's watch.
        etcd.put("web3", 3, ", \"port\": 8080")?;
        stage.expect(&WEBS)?;
        let revision = || -> Result<()> { etcd.ctl(&["put", "/lb/other", "-"]) };
        for _ in 0..5 {
            revision()?;
        }
        etcd.ctl(&["compact", "5"])?;
        etcd.ctl(&["del", "/lb/web/web3"])?;
        stage.expect(&WEBS[..2])?;

        // A cable is pulled: nothing is refused, there is only silence.
        let far = stage.lab.namespace("web4")?;
        let (lost, back) = (said(&agent, LOST), said(&agent, BACK));
        far.ip("link set dev e4 down")?;
        let took = await_said(&agent, LOST, lost)?;
        eprintln!("the silence was noticed after {:.1} s", took.as_secs_f64());
        load.await_more(100)?;
        far.ip("link set dev e4 up")?;
        let took = await_said(&agent, BACK, back)?;
        eprintln!("known again {:.1} s after the cable", took.as_secs_f64());
        etcd.put("web3", 3, ", \"port\": 8080")?;
        stage.expect(&WEBS)?;

        // It loses all it had.
        process.kill()?;
        fs::remove_dir_all(etcd.data())?;
        process = etcd.start()?;
        await_said(&agent, "has lost its data", 0)?;
        load.await_more(300)?;
        stage.expect(&WEBS)?;
        // What it has from then on is true, and so is that it has nothing.
        etcd.put("web2", 2, ", \"port\": 8080")?;
        stage.expect(&["web2"])?;
        process.stop().map(drop)
    })?;
    eprintln!("{count} connections");
    let log = agent.log();
    let lines = log.lines().filter(|line| line.contains("etcd at")).count();
    ensure!(lines <= 12, "{lines} lines about etcd: {log}");
    agent.status()?.expect_no_drops()
}
