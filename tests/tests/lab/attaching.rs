//! Which mode `auto` takes, and why; interfaces that come and go.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::{Lab, Routed};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Config, Farm, Mode, Outcome, await_until, binary, expect_cycle, expect_rotation,
    has_xdp, names,
};

use crate::{WEBS, web};

in_both_modes!(an_interface_goes_and_comes_back);

/// A veth whose peer has more queues to send by than it has to receive by refuses native XDP.
fn refusing() -> Result<Routed> {
    let lab = Farm::wired(Mode::Generic, 1)?;
    lab.run("client", "ethtool", &["-L", "c0", "tx", "2"])?;
    // What `lb1` redirects there natively is received by NAPI, which has to begin anew.
    for gro in ["off", "on"] {
        lab.run("client", "ethtool", &["-K", "c0", "gro", gro])?;
    }
    Ok(lab)
}

#[test]
fn auto_takes_native_where_it_can() -> Result<()> {
    let lab = Farm::wired(Mode::Native, 3)?;
    let _servers = Farm::nginx(&lab)?;
    let config = Farm::config(&lab, Mode::Native).agent("xdp_mode", "auto");
    let agent = Agent::start(&lab, &config.service(Farm::web(3)))?;
    let interfaces = agent.status()?.interfaces()?;
    ensure!(
        interfaces == ["lc native", "lb1 native", "lb2 native", "lb3 native"],
        "{interfaces:?}"
    );
    expect_cycle(&names(&lab, web(), 6)?, &WEBS)
}

#[test]
fn auto_falls_back_and_says_why() -> Result<()> {
    let lab = refusing()?;
    let _servers = Farm::nginx(&lab)?;
    let config = Farm::config(&lab, Mode::Native).agent("xdp_mode", "auto");
    let agent = Agent::start(&lab, &config.service(Farm::web(1)))?;
    let interfaces = agent.status()?.interfaces()?;
    ensure!(interfaces == ["lc generic", "lb1 native"], "{interfaces:?}");
    agent.await_log(&["lc gets generic XDP", "No space left"])?;
    expect_cycle(&names(&lab, web(), 3)?, &["web1"])
}

#[test]
fn native_that_cannot_be_is_a_sentence() -> Result<()> {
    let lab = refusing()?;
    let config = Farm::config(&lab, Mode::Native).service(Farm::web(1));
    let file = config.write(&lab, "lb.toml")?;
    let mut command: Command = lab.command("lb", binary()?)?;
    let outcome = Outcome::of(command.args(["run", "--config"]).arg(file))?;
    outcome.expect_sentence(
        1,
        &[
            "cannot attach natively to lc",
            "No space left",
            "\"generic\"",
        ],
    )?;
    for interface in lab.balancer_interfaces() {
        ensure!(
            !has_xdp(&lab, "lb", &interface)?,
            "{interface} has a program"
        );
    }
    Ok(())
}

/// Flows hold the index of the interface that their client is behind, with so many bits.
#[test]
fn an_index_that_flows_cannot_hold_is_a_sentence() -> Result<()> {
    const LIMIT: u32 = 1 << 20;
    let lab = Farm::wired(Mode::Generic, 1)?;
    let balancer = lab.namespace("lb")?;
    let config = Config::new(&lab, &["high".to_owned()], Mode::Generic).service(Farm::web(1));
    let file = config.write(&lab, "lb.toml")?;
    balancer.ip(&format!(
        "link add high index {LIMIT} type veth peer name low"
    ))?;
    // One that is not refused would run on.
    let mut command: Command = lab.command("lb", "timeout")?;
    command.arg("20").arg(binary()?).args(["run", "--config"]);
    let outcome = Outcome::of(command.arg(&file))?;
    outcome.expect_sentence(
        1,
        &[
            "high has the interface index 1048576",
            "only indexes below 1048576",
            "ip link add NAME index NUMBER",
        ],
    )?;
    ensure!(!has_xdp(&lab, "lb", "high")?, "it has a program");

    // One that comes while the agent runs.
    balancer.ip("link del high")?;
    let last = LIMIT - 1;
    balancer.ip(&format!(
        "link add high index {last} type veth peer name low"
    ))?;
    let agent = Agent::start(&lab, &config)?;
    ensure!(has_xdp(&lab, "lb", "high")?, "nothing is attached");
    balancer.ip("link del high")?;
    balancer.ip(&format!(
        "link add high index {LIMIT} type veth peer name low"
    ))?;
    await_until(Duration::from_secs(10), "it is refused", || {
        let log = agent.log();
        ensure!(log.contains("interface index 1048576"), "{log}");
        Ok(())
    })?;
    ensure!(!has_xdp(&lab, "lb", "high")?, "it has a program");
    Ok(())
}

fn an_interface_goes_and_comes_back(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    expect_cycle(&names(&farm.lab, web(), 3)?, &WEBS)?;
    let balancer = farm.lab.namespace("lb")?;
    balancer.ip("link del lb3")?;
    let deadline = Duration::from_secs(10);
    farm.agent.await_backend(
        deadline,
        ("web", "web3"),
        "web3 is out of rotation",
        |backend| {
            ensure!(!backend.is("in_rotation")?, "{backend:?}");
            Ok(())
        },
    )?;
    expect_rotation(&names(&farm.lab, web(), 6)?, &["web1", "web2"])?;
    ensure!(
        farm.agent.status()?.interfaces()?.len() == 3,
        "it is still in the status"
    );

    let lab: &Lab = &farm.lab;
    lab.join(("lb", "lb3"), ("web3", "e3"))?;
    if mode == Mode::Native {
        lab.attach_pass("web3", "e3")?;
    }
    lab.prepare_end("web3", "e3")?;
    balancer.ip("addr add 10.20.3.1/24 dev lb3")?;
    lab.namespace("web3")?
        .ip_batch("addr add 10.20.3.2/24 dev e3\nroute add default via 10.20.3.1\n")?;
    await_until(deadline, "web3 is in rotation again", || {
        let status = farm.agent.status()?;
        let backend = status.backend("web", "web3")?;
        ensure!(backend.is("in_rotation")?, "{backend:?}");
        ensure!(
            status.interfaces()?.len() == 4,
            "attached to {:?}",
            status.interfaces()?
        );
        Ok(())
    })?;
    ensure!(has_xdp(lab, "lb", "lb3")?, "nothing is attached");
    expect_rotation(&names(&farm.lab, web(), 9)?, &WEBS)
}
