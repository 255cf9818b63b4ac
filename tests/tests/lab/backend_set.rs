//! `lb backend set`: weights and states change while the agent runs, at once, and stay.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::VIP4;
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Check, EchoClient, Farm, Mode, Server, Service, await_until, expect_cycle, expect_rotation,
    names, routed_backends,
};

use crate::{WEBS, web};

in_both_modes!(
    weights_change_at_once_and_stay,
    draining_keeps_live_connections,
    maintenance_is_as_down
);

fn expect_shares(names: &[String], shares: [usize; 3]) -> Result<()> {
    let found = WEBS.map(|web| names.iter().filter(|name| *name == web).count());
    ensure!(found == shares, "{names:?}");
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(10);

fn weights_change_at_once_and_stay(mode: Mode) -> Result<()> {
    let mut farm = Farm::start(mode, 3, |config| {
        config.agent("on_exit", "keep").service(Farm::web(3))
    })?;
    expect_cycle(&names(&farm.lab, web(), 3)?, &WEBS)?;
    let said = farm
        .agent
        .asked(&["backend", "set", "web/web1", "--weight", "2"])?
        .expect_success()?;
    ensure!(said == "web/web1: weight 2, ready\n", "{said}");
    expect_shares(&names(&farm.lab, web(), 8)?, [4, 2, 2])?;
    // Nothing of the second is left in the rotation when the command is back.
    farm.agent
        .asked(&["backend", "set", "*/web[2]", "--weight", "0"])?
        .expect_sentence(1, &["there is no backend */web[2]", "web/web1"])?;
    farm.agent
        .asked(&["backend", "set", "w*/*2", "--state", "drain"])?
        .expect_success()?;
    let found = names(&farm.lab, web(), 6)?;
    ensure!(!found.contains(&"web2".to_owned()), "{found:?}");

    farm.agent.kill()?;
    farm.agent.start_again(&farm.lab)?;
    let status = farm.agent.status()?;
    let second = status.backend("web", "web2")?;
    ensure!(second.text("state")? == "drain" && !second.is("in_rotation")?);
    ensure!(status.backend("web", "web1")?.number("weight")? == 2);
    expect_shares(&names(&farm.lab, web(), 6)?, [4, 0, 2])?;

    farm.agent.stop()?;
    farm.agent.start_again(&farm.lab)?;
    let said = farm
        .agent
        .asked(&["backend", "reset", "*/*", "--json"])?
        .expect_success()?;
    ensure!(said.contains("\"backend\": \"web3\""), "{said}");
    expect_rotation(&names(&farm.lab, web(), 6)?, &WEBS)?;
    farm.agent
        .await_log(&["backend web/web1: weight 1, ready, by uid 0"])?;
    farm.agent.status()?.expect_no_drops()
}

fn draining_keeps_live_connections(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let _servers = (1..=3)
        .map(|number| {
            let [v4, _] = lb_lab::Routed::server_addresses(number);
            Server::echo(&lab, &format!("web{number}"), &[(v4, 7000).into()])
        })
        .collect::<Result<Vec<_>>>()?;
    let service = Service::tcp("echo", VIP4, 7000, routed_backends(VIP4, 3, 7000));
    let config = Farm::config(&lab, mode).service(service.check(Check::None));
    let agent = lb_tests::scenario::Agent::start(&lab, &config)?;
    let open = || EchoClient::open((VIP4, 7000).into());
    let mut clients = lab.within("client", || {
        (0..3).map(|_| open()).collect::<Result<Vec<_>>>()
    })??;
    agent
        .asked(&["backend", "set", "echo/web2", "--state", "drain"])?
        .expect_success()?;
    let alive = clients
        .iter_mut()
        .map(|client| client.ask("still there"))
        .collect::<Result<Vec<_>>>()?;
    expect_cycle(&alive, &WEBS)?;
    let mut new = lab.within("client", || {
        (0..4).map(|_| open()).collect::<Result<Vec<_>>>()
    })??;
    for client in &mut new {
        ensure!(client.ask("new")? != "web2");
    }
    agent.status()?.expect_no_drops()
}

fn maintenance_is_as_down(mode: Mode) -> Result<()> {
    let farm = Farm::start(mode, 2, |config| {
        config.service(Farm::web(2).key("on_backend_down", "reset"))
    })?;
    farm.agent
        .asked(&["backend", "set", "web/web1", "--state", "maint"])?
        .expect_success()?;
    let status = farm.agent.status()?;
    let first = status.backend("web", "web1")?;
    ensure!(first.text("state")? == "maint" && first.text("health")? == "checking");
    ensure!(first.text("last_check")? == "not checked: in maintenance");
    expect_cycle(&names(&farm.lab, web(), 2)?, &["web2"])?;
    // It is not checked: its log grows no more. Back, it is used after a check.
    farm.agent
        .asked(&["backend", "set", "web/web1", "--state", "ready"])?
        .expect_success()?;
    farm.agent
        .await_backend(PATIENCE, ("web", "web1"), "the first", |backend| {
            ensure!(backend.is("in_rotation")? && backend.text("health")? == "up");
            Ok(())
        })?;
    expect_rotation(&names(&farm.lab, web(), 4)?, &["web1", "web2"])
}

#[test]
fn a_damaged_state_file_is_set_aside() -> Result<()> {
    let lab = Farm::wired(Mode::Native, 1)?;
    let _servers = Farm::nginx(&lab)?;
    let state = lab.folder().join("state.json");
    fs::write(&state, "{\"version\": 1, \"backends\": [{\"serv")?;
    let config = Farm::config(&lab, Mode::Native).service(Farm::web(1));
    let agent = lb_tests::scenario::Agent::start(&lab, &config)?;
    agent.await_log(&["is damaged", "state.json.damaged-1"])?;
    ensure!(lab.folder().join("state.json.damaged-1").exists());
    await_until(PATIENCE, "the service", || {
        expect_cycle(&names(&lab, web(), 1)?, &["web1"])
    })
}
