//! A backup serves while no active backend is up, and only then.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Farm, Mode, await_until, expect_cycle, expect_rotation, names};

use crate::web;

in_both_modes!(a_backup_serves_in_emergencies_only);

const DEADLINE: Duration = Duration::from_secs(10);

fn a_backup_serves_in_emergencies_only(mode: Mode) -> Result<()> {
    let service = Farm::web(3).backup("web3");
    let mut farm = Farm::start(mode, 3, |config| config.service(service))?;
    expect_cycle(&names(&farm.lab, web(), 8)?, &["web1", "web2"])?;
    let status = farm.agent.status()?;
    let backup = status.backend("web", "web3")?;
    ensure!(
        backup.text("role")? == "backup" && backup.text("health")? == "up",
        "{backup:?}"
    );
    ensure!(!backup.is("in_rotation")?, "{backup:?}");

    farm.servers[0].stop()?;
    await_serving(&farm, &["web2"])?;
    expect_cycle(&names(&farm.lab, web(), 4)?, &["web2"])?;
    farm.servers[1].stop()?;
    await_serving(&farm, &["web3"])?;
    expect_cycle(&names(&farm.lab, web(), 4)?, &["web3"])?;

    farm.servers[0].start_again(&farm.lab)?;
    farm.servers[1].start_again(&farm.lab)?;
    await_serving(&farm, &["web1", "web2"])?;
    expect_rotation(&names(&farm.lab, web(), 8)?, &["web1", "web2"])
}

fn await_serving(farm: &Farm, wanted: &[&str]) -> Result<()> {
    await_until(DEADLINE, "the others are in rotation", || {
        let status = farm.agent.status()?;
        for name in ["web1", "web2", "web3"] {
            let backend = status.backend("web", name)?;
            ensure!(
                backend.is("in_rotation")? == wanted.contains(&name),
                "{backend:?}"
            );
        }
        Ok(())
    })
}
