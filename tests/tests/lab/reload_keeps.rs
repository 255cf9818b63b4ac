//! What a reload must not lose: what checks have found, the last word, what was set at run time,
//! counters.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::scenario::{Agent, Config, Farm, Mode, Service, await_until, names};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::web;

const PATIENCE: Duration = Duration::from_secs(20);

fn write(agent: &Agent, config: &Config) -> Result<()> {
    // As people do who do not want half a file read.
    let new = agent.config_file().with_extension("new");
    fs::write(&new, config.text())?;
    Ok(fs::rename(&new, agent.config_file())?)
}

/// One failed check is not eight.
#[test]
fn a_changed_check_decides_as_often_as_it_should() -> Result<()> {
    let farm = Farm::start(Mode::Native, 2, |config| config.service(Farm::web(2)))?;
    names(&farm.lab, web(), 2)?;
    let before = fs::read_to_string(farm.agent.config_file())?;
    let other = before
        .replace("/healthz", "/nothing-here")
        .replace("fall = 2", "fall = 8");
    fs::write(farm.agent.config_file(), other)?;
    let began = Instant::now();
    farm.agent.asked(&["reload"])?.expect_success()?;
    farm.agent.await_log(&[
        "backend web/web1 is down: HTTP 404",
        "(8 of 8 checks failed)",
    ])?;
    // Seven intervals of 0.2 s at least, each shorter by a tenth at most.
    let took = began.elapsed();
    ensure!(took > Duration::from_millis(1250), "down after {took:?}");
    Ok(())
}

/// Whoever writes last is who counts, however long the file before takes to read.
#[test]
fn of_two_reloads_the_later_file_stays() -> Result<()> {
    let farm = Farm::start(Mode::Native, 1, |config| config.service(Farm::web(1)))?;
    let services = |count: u16| {
        (0..count).fold(Farm::config(&farm.lab, Mode::Native), |config, number| {
            let address = lb_lab::VIP4;
            let backends = lb_tests::scenario::routed_backends(address, 1, 8080);
            let name = format!("s{number}");
            let service = Service::tcp(&name, address, 10_000 + number, backends);
            config.service(service.check(lb_tests::scenario::Check::None))
        })
    };
    let pid = Pid::from_raw(farm.agent.pid().cast_signed());
    for round in 0..5 {
        write(&farm.agent, &services(800))?;
        kill(pid, Signal::SIGHUP)?;
        std::thread::sleep(Duration::from_millis(2 * round));
        write(&farm.agent, &services(2))?;
        kill(pid, Signal::SIGHUP)?;
        await_until(PATIENCE, "the later file counts", || {
            let there = (
                farm.agent.status()?.service("s1").is_ok(),
                farm.agent.status()?.service("s799").is_ok(),
            );
            ensure!(there == (true, false), "{there:?}");
            Ok(())
        })?;
        // And nothing comes after it.
        farm.agent.asked(&["reload"])?.expect_success()?;
        ensure!(farm.agent.status()?.service("s799").is_err());
    }
    Ok(())
}

/// Also when the file that it is kept in becomes another one.
#[test]
fn what_was_set_moves_with_the_state_file() -> Result<()> {
    let mut farm = Farm::start(Mode::Native, 2, |config| config.service(Farm::web(2)))?;
    farm.agent
        .asked(&["backend", "set", "web/web2", "--state", "maint"])?
        .expect_success()?;
    let elsewhere = farm.lab.folder().join("elsewhere.json");
    let file = elsewhere.to_str().context("a path")?;
    let other = Farm::config(&farm.lab, Mode::Native)
        .agent("state_file", file)
        .service(Farm::web(2));
    write(&farm.agent, &other)?;
    farm.agent.asked(&["reload"])?.expect_success()?;
    farm.agent.stop()?;
    farm.agent.start_again(&farm.lab)?;
    let status = farm.agent.status()?;
    let state = status.backend("web", "web2")?.text("state")?.to_owned();
    ensure!(state == "maint", "web2 is {state}");
    let found = names(&farm.lab, web(), 3)?;
    ensure!(found.iter().all(|name| name == "web1"), "{found:?}");
    Ok(())
}

/// A service's counters do not fall, also when a backend that they count is gone and the agent
/// another one.
#[test]
fn counters_never_fall() -> Result<()> {
    let config = |farm: &lb_lab::Routed, service| {
        Farm::config(farm, Mode::Native)
            .agent("on_exit", "keep")
            .service(service)
    };
    let mut farm = Farm::start(Mode::Native, 2, |config| {
        config.agent("on_exit", "keep").service(Farm::web(2))
    })?;
    names(&farm.lab, web(), 10)?;
    let smaller = config(&farm.lab, Farm::web(2).without("web1"));
    write(&farm.agent, &smaller)?;
    farm.agent.asked(&["reload"])?.expect_success()?;
    let connections = |agent: &Agent| agent.status()?.service("web")?.number("connections");
    ensure!(
        connections(&farm.agent)? == 10,
        "{}",
        connections(&farm.agent)?
    );
    let retired = farm.lab.folder().join("state.retired.json");
    await_until(
        Duration::from_secs(60),
        "the last flow of web1 has ended",
        || {
            let text = fs::read_to_string(&retired).context("nothing is written down")?;
            ensure!(text.contains("\"connections\": 5"), "{text}");
            Ok(())
        },
    )?;
    ensure!(
        connections(&farm.agent)? == 10,
        "{}",
        connections(&farm.agent)?
    );
    farm.agent.stop()?;
    farm.agent.start_again(&farm.lab)?;
    ensure!(
        connections(&farm.agent)? == 10,
        "{}",
        connections(&farm.agent)?
    );
    names(&farm.lab, web(), 2)?;
    ensure!(
        connections(&farm.agent)? == 12,
        "{}",
        connections(&farm.agent)?
    );
    farm.agent.stop()?;
    farm.agent.detach()?.expect_success().map(drop)
}
