//! Started by `ip netns exec`, which gives a process a mount namespace of its own: the data path
//! must not die with it.

use std::process::Command;

use anyhow::{Result, ensure};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Agent, Farm, Mode, Outcome, binary, expect_cycle, has_xdp, names};

use crate::{WEBS, web};

in_both_modes!(the_data_path_survives_a_kill, detach_works_inside_too);

fn stage(mode: Mode) -> Result<Farm> {
    let lab = Farm::wired(mode, 3)?;
    let servers = Farm::nginx(&lab)?;
    let config = Farm::config(&lab, mode).service(Farm::web(3));
    let mut command = by_ip(&lab)?;
    command.arg(binary()?);
    let agent = Agent::start_by(&lab, &config, command)?;
    Ok(Farm {
        agent,
        servers,
        lab,
    })
}

fn by_ip(lab: &lb_lab::Routed) -> Result<Command> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", lab.namespace("lb")?.full_name()]);
    Ok(command)
}

fn the_data_path_survives_a_kill(mode: Mode) -> Result<()> {
    let mut farm = stage(mode)?;
    expect_cycle(&names(&farm.lab, web(), 4)?, &WEBS)?;
    ensure!(
        farm.agent.pins().exists(),
        "the pins are not where everybody sees them"
    );
    farm.agent.kill()?;
    expect_cycle(&names(&farm.lab, web(), 4)?, &["web2", "web3", "web1"])?;
    // The next agent finds them, started the other way.
    farm.agent.start_again(&farm.lab)?;
    expect_cycle(&names(&farm.lab, web(), 4)?, &["web3", "web1", "web2"])?;
    farm.agent
        .status()?
        .service("web")?
        .expect("connections", &[4, 4, 4])?;
    farm.agent.kill()?;
    let said = farm.agent.detach()?.expect_success()?;
    ensure!(said.contains("4 programs"), "{said}");
    ensure!(!has_xdp(&farm.lab, "lb", "lc")?, "it is still attached");
    Ok(())
}

fn detach_works_inside_too(mode: Mode) -> Result<()> {
    let mut farm = stage(mode)?;
    farm.agent.kill()?;
    let mut command = by_ip(&farm.lab)?;
    command
        .arg(binary()?)
        .args(["detach", "--config"])
        .arg(farm.agent.config_file());
    let said = Outcome::of(&mut command)?.expect_success()?;
    ensure!(said.contains("4 programs"), "{said}");
    ensure!(!has_xdp(&farm.lab, "lb", "lc")?, "it is still attached");
    ensure!(!farm.agent.pins().exists(), "the pins are still there");
    Ok(())
}
