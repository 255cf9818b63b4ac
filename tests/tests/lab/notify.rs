//! What the agent tells a service manager, which this test plays: READY once packets flow, signs of
//! life while it works, STOPPING at its end.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::scenario::{Agent, Farm, Mode, binary, expect_cycle, names};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{WEBS, web};

/// After which the manager would end a silent agent.
const WATCHDOG: Duration = Duration::from_millis(900);
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages until one is this.
fn await_message(socket: &UnixDatagram, wanted: &str) -> Result<Vec<String>> {
    let end = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while Instant::now() < end {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let text = std::str::from_utf8(&buffer[..length])?;
                seen.extend(text.lines().map(str::to_owned));
                if seen.iter().any(|line| line == wanted) {
                    return Ok(seen);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("no {wanted} came, but {seen:?}")
}

#[test]
fn ready_alive_stopping() -> Result<()> {
    let lab = Farm::wired(Mode::Generic, 3)?;
    let servers = Farm::nginx(&lab)?;
    let path = lab.folder().join("notify.sock");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let config = Farm::config(&lab, Mode::Generic).service(Farm::web(3));
    let mut command = lab.command("lb", binary()?)?;
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let agent = Agent::start_by(&lab, &config, command)?;
    let mut farm = Farm {
        agent,
        servers,
        lab,
    };
    let seen = await_message(&socket, "READY=1")?;
    ensure!(!seen.contains(&"WATCHDOG=1".to_owned()), "{seen:?}");
    expect_cycle(&names(&farm.lab, web(), 3)?, &WEBS)?;

    // Three within the time, so that one that is late is no harm.
    await_message(&socket, "WATCHDOG=1")?;
    let began = Instant::now();
    for _ in 0..6 {
        await_message(&socket, "WATCHDOG=1")?;
    }
    let took = began.elapsed();
    ensure!(
        took < 6 * WATCHDOG && took > WATCHDOG,
        "six signs of life took {took:?}"
    );

    // One that hangs gives none.
    let pid = Pid::from_raw(i32::try_from(farm.agent.pid())?);
    kill(pid, Signal::SIGSTOP)?;
    while socket.recv(&mut [0; 64]).is_ok() {}
    let silent = await_message(&socket, "WATCHDOG=1").err();
    kill(pid, Signal::SIGCONT)?;
    silent.context("a stopped agent gave a sign of life")?;
    await_message(&socket, "WATCHDOG=1")?;

    kill(pid, Signal::SIGHUP)?;
    let seen = await_message(&socket, "RELOADING=1")?;
    let has_time = |seen: &[String]| seen.iter().any(|line| line.starts_with("MONOTONIC_USEC="));
    ensure!(has_time(&seen), "{seen:?}");
    await_message(&socket, "READY=1")?;

    farm.agent.stop()?;
    await_message(&socket, "STOPPING=1").map(drop)
}
