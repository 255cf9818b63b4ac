//! `slow_start_seconds`: a server that came back gets few connections at first, then its share.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Farm, Mode, await_until, names};

use crate::web;

const RAMP: u32 = 8;

in_both_modes!(few_connections_at_first);

fn few_connections_at_first(mode: Mode) -> Result<()> {
    let service = Farm::web(2).number("slow_start_seconds", RAMP);
    let mut farm = Farm::start(mode, 2, |config| config.service(service))?;
    let share = |farm: &Farm| -> Result<usize> {
        let names = names(&farm.lab, web(), 40)?;
        Ok(names.iter().filter(|name| *name == "web2").count())
    };
    ensure!(share(&farm)? == 20, "both were there from the beginning");
    drop(farm.servers.pop());
    let patience = Duration::from_secs(15);
    let is = |farm: &Farm, up: bool| {
        farm.agent
            .await_backend(patience, ("web", "web2"), "its state", move |backend| {
                ensure!(backend.is("in_rotation")? == up, "{backend:?}");
                Ok(())
            })
    };
    is(&farm, false)?;
    farm.servers.push(farm.lab.start_nginx(2, 8080)?);
    is(&farm, true)?;
    let first = share(&farm)?;
    ensure!(
        (1..=12).contains(&first),
        "{first} of 40 connections at first"
    );
    await_until(
        patience + Duration::from_secs(RAMP.into()),
        "its share",
        || {
            let now = share(&farm)?;
            ensure!(now == 20, "{now} of 40 connections");
            Ok(())
        },
    )
}
