//! The disk is full: what is set at run time works all the same, it is said once that a restart would
//! not know of it, and the file is written when there is room again. A log that cannot be written is
//! no reason to stop.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use lb_lab::{Nginx, Routed};
use lb_tests::scenario::{Agent, Farm, Mode, await_until, binary, expect_rotation, names};

use crate::discovery::PATIENCE;
use crate::{WEBS, web};

/// Mounts a small disk for this process and its children alone, and becomes lb.
const SCRIPT: &str = "mount -t tmpfs -o size=32k small \"$1\" && log=\"$2\" && shift 2 && \
                      exec \"$@\" 2>>\"$log\"";

struct Stage {
    agent: Agent,
    /// The small disk, as the agent sees it.
    disk: PathBuf,
    _servers: Vec<Nginx>,
    lab: Routed,
}

impl Stage {
    /// Its log is that file of the small disk, or the usual one.
    fn set(log: Option<&str>) -> Result<Self> {
        let lab = Farm::wired(Mode::Native, 3)?;
        let servers = Farm::nginx(&lab)?;
        let small = lab.folder().join("small");
        fs::create_dir(&small)?;
        let log = log.map_or(PathBuf::from("/dev/stderr"), |log| small.join(log));
        let mut command: Command = lab.command("lb", "unshare")?;
        command.args(["--mount", "sh", "-c", SCRIPT, "sh"]);
        command.args([&small, &log]).arg(binary()?);
        let file = small.join("state.json").display().to_string();
        let config = Farm::config(&lab, Mode::Native)
            .agent("state_file", &file)
            .service(Farm::web(3));
        let agent = Agent::start_by(&lab, &config, command)?;
        let inside = small.strip_prefix("/")?;
        Ok(Self {
            disk: PathBuf::from(format!("/proc/{}/root", agent.pid())).join(inside),
            agent,
            _servers: servers,
            lab,
        })
    }

    fn fill(&self) -> Result<()> {
        let mut file = File::create(self.disk.join("fill"))?;
        while file.write_all(&[0; 512]).is_ok() {}
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        Ok(fs::remove_file(self.disk.join("fill"))?)
    }

    /// Drains a backend, and returns what was said about that beside the result.
    fn drain(&self, name: &str) -> Result<String> {
        let backend = format!("web/{name}");
        let outcome = self
            .agent
            .asked(&["backend", "set", &backend, "--state", "drain"])?;
        let said = outcome.stderr.clone();
        outcome.expect_success()?;
        Ok(said)
    }

    fn expect(&self, webs: &[&str]) -> Result<()> {
        await_until(PATIENCE, "the backends", || {
            expect_rotation(&names(&self.lab, web(), webs.len() * 2)?, webs)
        })
    }
}

#[test]
fn what_is_set_works_and_is_kept_when_there_is_room() -> Result<()> {
    let stage = Stage::set(None)?;
    stage.expect(&WEBS)?;
    let read = || fs::read_to_string(stage.disk.join("state.json"));
    ensure!(stage.drain("web1")?.is_empty());
    ensure!(read()?.contains("web1"));
    stage.fill()?;
    let said = stage.drain("web2")?;
    ensure!(said.contains("cannot write the state file"), "{said}");
    stage.expect(&["web3"])?;
    // Whoever asks is told each time.
    stage
        .agent
        .asked(&["backend", "reset", "web/web1"])?
        .expect_success()?;
    ensure!(!stage.drain("web3")?.is_empty());
    stage.expect(&["web1"])?;
    let kept = read()?;
    ensure!(kept.contains("web1") && !kept.contains("web2"), "{kept}");

    stage.make_room()?;
    await_until(PATIENCE, "it is written again", || {
        let log = stage.agent.log();
        ensure!(log.contains("is written again"), "{log}");
        Ok(())
    })?;
    let kept = read()?;
    ensure!(
        !kept.contains("web1") && kept.contains("web2") && kept.contains("web3"),
        "{kept}"
    );
    let log = stage.agent.log();
    let told = log.matches("cannot write the state file").count();
    ensure!(told == 1, "told {told} times: {log}");
    stage.agent.status()?.expect_no_drops()
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() -> Result<()> {
    let stage = Stage::set(Some("log"))?;
    stage.expect(&WEBS)?;
    stage.fill()?;
    for name in &WEBS[..2] {
        stage.drain(name)?;
    }
    stage.expect(&["web3"])?;
    let log = || fs::read_to_string(stage.disk.join("log"));
    // The page that it ends in has room for some lines yet.
    let mut before = String::new();
    while log()? != before {
        before = log()?;
        stage.agent.asked(&["reload"])?.expect_success()?;
    }
    stage.make_room()?;
    stage
        .agent
        .asked(&["backend", "reset", "*/*"])?
        .expect_success()?;
    stage.expect(&WEBS)?;
    let after = log()?;
    ensure!(after.len() > before.len(), "{after}");
    stage.agent.status()?.expect_no_drops()
}
