//! `lb reload` and SIGHUP: the file as it is now, all of it or nothing, and nobody else notices.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::{VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, EchoClient, Farm, Mode, Server, Service, Session, await_until,
    expect_rotation, names, routed_backends, while_loading,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{WEBS, web};

const PATIENCE: Duration = Duration::from_secs(10);

in_both_modes!(
    services_and_backends_come_and_go,
    other_ways_to_forward_need_no_restart,
    a_wrong_file_changes_nothing
);

fn write(agent: &Agent, config: &Config) -> Result<()> {
    Ok(fs::write(agent.config_file(), config.text())?)
}

fn services_and_backends_come_and_go(mode: Mode) -> Result<()> {
    let farm = Farm::start(mode, 3, |config| config.service(Farm::web(2)))?;
    // By IPv6, as a server would remember ports of the load: a client that gets such a one begins
    // twice, which takes a turn.
    let other = Service::tcp("other", VIP6, 81, routed_backends(VIP6, 3, 8080));
    expect_rotation(&names(&farm.lab, web(), 4)?, &WEBS[..2])?;
    let larger = Farm::config(&farm.lab, mode)
        .service(Farm::web(3).weights(&[2, 1, 1]))
        .service(other);
    write(&farm.agent, &larger)?;
    // A load that must not notice anything.
    let (said, _) = while_loading(&farm.lab, web(), |load| {
        load.await_more(200)?;
        let said = farm.agent.asked(&["reload"])?.expect_success()?;
        load.await_more(200)?;
        Ok(said)
    })?;
    ensure!(
        said == "backend web/web1: weight 1 -> 2\nbackend web/web3 is new\nservice other is new\n\
                 reloaded: 3 changes, generation 2\n",
        "{said}"
    );
    farm.agent
        .await_service(PATIENCE, "other", "its backends", |service| {
            service.expect_in_rotation(3)
        })?;
    farm.agent
        .await_service(PATIENCE, "web", "its backends", |service| {
            service.expect_in_rotation(3)
        })?;
    let found = names(&farm.lab, web(), 8)?;
    let share = found.iter().filter(|name| *name == "web1").count();
    ensure!(share == 4, "{found:?}");
    expect_rotation(&names(&farm.lab, (VIP6, 81).into(), 6)?, &WEBS)?;
    let mut kept = Session::open(&farm.lab, web())?;
    let name = kept.name()?;

    let smaller = Farm::config(&farm.lab, mode).service(Farm::web(3).without(&name));
    write(&farm.agent, &smaller)?;
    kill(
        Pid::from_raw(farm.agent.pid().cast_signed()),
        Signal::SIGHUP,
    )?;
    await_until(PATIENCE, "the reload", || {
        let log = farm.agent.log();
        ensure!(log.contains("reloaded, by SIGHUP: "), "{log}");
        Ok(())
    })?;
    ensure!(kept.name()? == name, "a connection to what is gone goes on");
    let found = names(&farm.lab, web(), 6)?;
    ensure!(!found.contains(&name), "{found:?}");
    let status = farm.agent.status()?;
    ensure!(status.service("other").is_err());
    status.expect_no_drops()
}

/// Full NAT, a hash and UDP with other features than the program was loaded with.
fn other_ways_to_forward_need_no_restart(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 2)?;
    let _echoes = (1..=2)
        .map(|number| {
            let [v4, _] = lb_lab::Routed::server_addresses(number);
            Server::echo(&lab, &format!("web{number}"), &[(v4, 7000).into()])
        })
        .collect::<Result<Vec<_>>>()?;
    let _servers = Farm::nginx(&lab)?;
    let echo =
        || Service::tcp("echo", VIP4, 7000, routed_backends(VIP4, 2, 7000)).check(Check::None);
    let agent = Agent::start(&lab, &Farm::config(&lab, mode).service(echo()))?;
    let mut client = lab.within("client", || EchoClient::open((VIP4, 7000).into()))??;
    let name = client.ask("before")?;
    let more = Farm::config(&lab, mode).service(echo()).service(
        Farm::web(2)
            .key("scheduler", "least-connections")
            .number("affinity_seconds", 60),
    );
    write(&agent, &more)?;
    agent.asked(&["reload"])?.expect_success()?;
    ensure!(client.ask("after")? == name);
    agent.await_service(PATIENCE, "web", "its backends", |service| {
        service.expect_in_rotation(2)
    })?;
    let found = names(&lab, web(), 4)?;
    ensure!(
        found.iter().all(|one| *one == found[0]),
        "affinity: {found:?}"
    );
    ensure!(client.ask("at last")? == name);
    let said = agent
        .asked(&["why", "--from", "10.10.0.9:4000", "--to", "203.0.113.10:80"])?
        .expect_success()?;
    ensure!(said.contains("steered"), "{said}");
    let status = agent.status()?;
    ensure!(status.service("echo")?.number("active_flows")? == 1);
    status.expect_no_drops()
}

fn a_wrong_file_changes_nothing(mode: Mode) -> Result<()> {
    let farm = Farm::start(mode, 2, |config| config.service(Farm::web(2)))?;
    expect_rotation(&names(&farm.lab, web(), 2)?, &WEBS[..2])?;
    let good = fs::read_to_string(farm.agent.config_file())?;
    let rows: [(String, i32, &[&str]); 4] = [
        (
            good.replace("port = 80\n", "port = 80000\n")
                .replace("web2", "web1"),
            2,
            &["port 80000", "\"web1\" is taken", "2 problems"],
        ),
        (
            format!("{good}\n[limits]\nflows = 4096\n"),
            2,
            &["[limits]", "--replace-tables", "nothing was changed"],
        ),
        (
            good.replace("interfaces = [", "interfaces = [\"nowhere0\", "),
            2,
            &["nowhere0"],
        ),
        ("[agent".to_owned(), 2, &["not TOML"]),
    ];
    for (text, code, words) in rows {
        fs::write(farm.agent.config_file(), &text)?;
        let outcome = farm.agent.asked(&["reload"])?;
        ensure!(outcome.code == Some(code), "{outcome:?}");
        for word in words {
            ensure!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr);
        }
    }
    fs::remove_file(farm.agent.config_file())?;
    farm.agent
        .asked(&["reload"])?
        .expect_sentence(2, &["there is no such file"])?;
    let status = farm.agent.status()?;
    ensure!(status.service("web")?.each("weight")? == [1, 1]);
    expect_rotation(&names(&farm.lab, web(), 4)?, &WEBS[..2])?;
    fs::write(farm.agent.config_file(), &good)?;
    let said = farm.agent.asked(&["reload"])?.expect_success()?;
    ensure!(
        said == "reloaded: nothing has changed, generation 2\n",
        "{said}"
    );
    Ok(())
}
