//! The machine's clock jumps by years, to and fro, as the agent sees it: nothing that is measured
//! goes by that clock, so checks, changes and answers go on, and no connection fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_tests::scenario::{
    Agent, Farm, Mode, await_until, binary, expect_rotation, names, while_loading,
};

use crate::discovery::PATIENCE;
use crate::{WEBS, web};

/// Stands before the C library's clock, and adds ten years to the date while the file `LB_LATER` is
/// there, and takes ten while `LB_EARLIER` is.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int is_there(const char *variable) {
    const char *file = getenv(variable);
    return file && access(file, F_OK) == 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        time_t years = 10L * 365 * 24 * 3600;
        now->tv_sec += is_there("LB_LATER") ? years : 0;
        now->tv_sec -= is_there("LB_EARLIER") ? years : 0;
    }
    return (int)result;
}
"#;

pub(crate) fn compile(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    fs::write(&source, CLOCK)?;
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status()
        .context("cc cannot be started")?;
    ensure!(status.success(), "cc failed");
    Ok(library)
}

/// The year of the newest event.
fn year(agent: &Agent) -> Result<u32> {
    let said = agent.asked(&["events", "--json"])?.expect_success()?;
    let at = said.rfind("\"time\":").context("no event")? + "\"time\":".len();
    let year: String = said[at..]
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take(4)
        .collect();
    Ok(year.parse()?)
}

#[test]
fn nothing_goes_by_the_date() -> Result<()> {
    let lab = Farm::wired(Mode::Native, 3)?;
    let mut servers = Farm::nginx(&lab)?;
    let [later, earlier] = ["later", "earlier"].map(|name| lab.folder().join(name));
    let mut command = lab.command("lb", binary()?)?;
    command
        .env("LD_PRELOAD", compile(&lab.folder())?)
        .env("LB_LATER", &later)
        .env("LB_EARLIER", &earlier);
    let config = Farm::config(&lab, Mode::Native).service(Farm::web(3));
    let agent = Agent::start_by(&lab, &config, command)?;
    expect_rotation(&names(&lab, web(), 6)?, &WEBS)?;
    let today = year(&agent)?;
    for (file, expected) in [(later, today + 10), (earlier, today - 10)] {
        while_loading(&lab, web(), |load| {
            load.await_more(50)?;
            fs::write(&file, "")?;
            load.await_more(300)
        })?;
        servers[2].stop()?;
        let health = |word: &'static str| {
            agent.await_backend(PATIENCE, ("web", "web3"), word, move |backend| {
                ensure!(backend.text("health")? == word, "{backend:?}");
                Ok(())
            })
        };
        health("down")?;
        let seen = year(&agent)?;
        ensure!(
            seen.abs_diff(expected) <= 1,
            "the agent sees the year {seen}"
        );
        await_until(PATIENCE, "two serve", || {
            expect_rotation(&names(&lab, web(), 6)?, &WEBS[..2])
        })?;
        servers[2].start_again(&lab)?;
        health("up")?;
        fs::remove_file(&file)?;
        await_until(PATIENCE, "all serve", || {
            expect_rotation(&names(&lab, web(), 6)?, &WEBS)
        })?;
    }
    agent.status()?.expect_no_drops()
}
