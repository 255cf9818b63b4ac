//! Weighted round robin: the interleaved order, and shares that are exact in every turn.

use anyhow::{Result, ensure};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Farm, Mode, expect_cycle, names};

use crate::web;

in_both_modes!(three_to_one_to_one, weight_zero_gets_nothing);

fn three_to_one_to_one(mode: Mode) -> Result<()> {
    let service = Farm::web(3).weights(&[3, 1, 1]);
    let farm = Farm::start(mode, 3, |config| config.service(service))?;
    let names = names(&farm.lab, web(), 30)?;
    expect_cycle(&names, &["web1", "web2", "web1", "web3", "web1"])?;
    farm.agent
        .status()?
        .service("web")?
        .expect("connections", &[18, 6, 6])
}

fn weight_zero_gets_nothing(mode: Mode) -> Result<()> {
    let service = Farm::web(3).weights(&[2, 0, 1]);
    let farm = Farm::start(mode, 3, |config| config.service(service))?;
    let names = names(&farm.lab, web(), 12)?;
    expect_cycle(&names, &["web1", "web3", "web1"])?;
    let status = farm.agent.status()?;
    status.service("web")?.expect("connections", &[8, 0, 4])?;
    let idle = status.backend("web", "web2")?;
    ensure!(
        idle.text("health")? == "up" && !idle.is("in_rotation")?,
        "{idle:?}"
    );
    Ok(())
}
