//! `min_up_percent`: when too few are up, those that are down are used as well.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Check, Farm, Mode, expect_rotation, names};

use crate::{WEBS, web};

const PATIENCE: Duration = Duration::from_secs(10);

in_both_modes!(checks_are_not_believed_when_nearly_all_fail);

/// The check asks for a port where nobody listens, so all are down, and all are used.
fn checks_are_not_believed_when_nearly_all_fail(mode: Mode) -> Result<()> {
    let service = Farm::web(3)
        .check(Check::Tcp)
        .check_port(9)
        .number("min_up_percent", 50);
    let farm = Farm::start(mode, 3, |config| config.service(service))?;
    farm.agent
        .await_service(PATIENCE, "web", "all down and used", |service| {
            service.expect_in_rotation(3)
        })?;
    let status = farm.agent.status()?;
    for name in WEBS {
        let backend = status.backend("web", name)?;
        ensure!(backend.text("health")? == "down", "{backend:?}");
    }
    expect_rotation(&names(&farm.lab, web(), 6)?, &WEBS)?;
    farm.agent
        .await_log(&["0 of 3 backends are up, fewer than min_up_percent"])?;
    // Who is in maintenance is not used all the same.
    farm.agent
        .asked(&["backend", "set", "web/web2", "--state", "maint"])?
        .expect_success()?;
    expect_rotation(&names(&farm.lab, web(), 6)?, &["web1", "web3"])
}
