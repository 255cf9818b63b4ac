//! What is left after an agent: nothing after a clean stop, everything where the config says
//! `keep`, and nothing again after `lb detach`.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use lb_lab::Routed;
use lb_tests::in_both_modes;
use lb_tests::scenario::{Agent, Farm, Mode, expect_cycle, has_xdp, names, run};

use crate::{WEBS, web};

in_both_modes!(
    a_clean_stop_leaves_nothing,
    keep_keeps_until_detach,
    detach_after_a_crash
);

fn attached(lab: &Routed) -> Result<usize> {
    let mut count = 0;
    for interface in lab.balancer_interfaces() {
        count += usize::from(has_xdp(lab, "lb", &interface)?);
    }
    Ok(count)
}

fn pins(agent: &Agent) -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            found.push(entry.path().display().to_string());
            walk(&entry.path(), found);
        }
    }
    let mut found = Vec::new();
    walk(agent.pins(), &mut found);
    found
}

fn expect_nothing_left(farm: &Farm) -> Result<()> {
    ensure!(attached(&farm.lab)? == 0, "programs are still attached");
    ensure!(
        pins(&farm.agent).is_empty(),
        "pins are left: {:?}",
        pins(&farm.agent)
    );
    // The address is the balancer's own again, and nobody listens there.
    ensure!(names(&farm.lab, web(), 1).is_err(), "somebody still steers");
    Ok(())
}

fn a_clean_stop_leaves_nothing(mode: Mode) -> Result<()> {
    let mut farm = Farm::of_three(mode)?;
    ensure!(attached(&farm.lab)? == 4 && !pins(&farm.agent).is_empty());
    expect_cycle(&names(&farm.lab, web(), 3)?, &WEBS)?;
    let status = farm.agent.stop()?;
    ensure!(status.success(), "the agent ended with {status}");
    ensure!(!farm.agent.socket().exists(), "its socket is still there");
    expect_nothing_left(&farm)?;

    // And again, from the beginning.
    farm.agent.start_again(&farm.lab)?;
    expect_cycle(&names(&farm.lab, web(), 3)?, &WEBS)?;
    farm.agent
        .status()?
        .service("web")?
        .expect("connections", &[1, 1, 1])
}

fn keep_keeps_until_detach(mode: Mode) -> Result<()> {
    let mut farm = Farm::start(mode, 3, |config| {
        config.agent("on_exit", "keep").service(Farm::web(3))
    })?;
    let status = farm.agent.stop()?;
    ensure!(status.success(), "the agent ended with {status}");
    ensure!(attached(&farm.lab)? == 4, "steering is gone");
    expect_cycle(&names(&farm.lab, web(), 6)?, &WEBS)?;

    let config = farm.agent.config_file().to_string_lossy().into_owned();
    let said = run(&["detach", "--config", &config])?.expect_success()?;
    ensure!(
        said.contains("detached: 4 programs (lb1, lb2, lb3, lc)"),
        "{said}"
    );
    expect_nothing_left(&farm)?;
    let said = farm.agent.detach()?.expect_success()?;
    ensure!(said.contains("nothing to detach"), "{said}");
    Ok(())
}

fn detach_after_a_crash(mode: Mode) -> Result<()> {
    let mut farm = Farm::of_three(mode)?;
    farm.agent.kill()?;
    expect_cycle(&names(&farm.lab, web(), 3)?, &WEBS)?;
    farm.agent.detach()?.expect_success()?;
    expect_nothing_left(&farm)
}
