//! An interface is deleted and made anew under the same name, with a reload in between or at the
//! same moment: steering, ways and replies are right again by themselves.

use std::fs;

use anyhow::{Result, ensure};
use lb_lab::{Lab, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Farm, Mode, Service, await_until, expect_rotation, has_xdp, names, routed_backends,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::discovery::PATIENCE;
use crate::{WEBS, web};

in_both_modes!(around_a_reload, while_the_agent_looks_away);

fn delete(lab: &Lab) -> Result<()> {
    lab.namespace("lb")?.ip("link del lb3").map(drop)
}

fn make(lab: &Lab, mode: Mode) -> Result<()> {
    lab.join(("lb", "lb3"), ("web3", "e3"))?;
    if mode == Mode::Native {
        lab.attach_pass("web3", "e3")?;
    }
    lab.prepare_end("web3", "e3")?;
    lab.namespace("lb")?.ip("addr add 10.20.3.1/24 dev lb3")?;
    lab.namespace("web3")?
        .ip_batch("addr add 10.20.3.2/24 dev e3\nroute add default via 10.20.3.1\n")
        .map(drop)
}

/// Another service in the file, so that there is something to reload.
fn change_file(farm: &Farm, mode: Mode, port: u16) -> Result<()> {
    let other = Service::tcp("other", VIP4, port, routed_backends(VIP4, 3, 8080));
    let config = Farm::config(&farm.lab, mode)
        .service(Farm::web(3))
        .service(other);
    Ok(fs::write(farm.agent.config_file(), config.text())?)
}

fn expect_all(farm: &Farm, port: u16) -> Result<()> {
    await_until(PATIENCE, "all is as before", || {
        let status = farm.agent.status()?;
        let interfaces = status.interfaces()?;
        ensure!(interfaces.len() == 4, "attached to {interfaces:?}");
        for service in ["web", "other"] {
            status.service(service)?.expect_in_rotation(3)?;
        }
        Ok(())
    })?;
    ensure!(has_xdp(&farm.lab, "lb", "lb3")?, "nothing is attached");
    for address in [web(), (VIP4, port).into()] {
        expect_rotation(&names(&farm.lab, address, 6)?, &WEBS)?;
    }
    Ok(())
}

fn around_a_reload(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    let lab: &Lab = &farm.lab;
    expect_rotation(&names(lab, web(), 3)?, &WEBS)?;
    delete(lab)?;
    farm.agent
        .await_service(PATIENCE, "web", "web3 is out", |service| {
            service.expect_in_rotation(2)
        })?;
    change_file(&farm, mode, 81)?;
    farm.agent.asked(&["reload"])?.expect_success()?;
    await_until(PATIENCE, "the new service serves", || {
        expect_rotation(&names(lab, (VIP4, 81).into(), 4)?, &WEBS[..2])
    })?;
    make(lab, mode)?;
    expect_all(&farm, 81)
}

/// Everything has happened by the time it looks, and a reload comes before the news.
fn while_the_agent_looks_away(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    let lab: &Lab = &farm.lab;
    let agent = Pid::from_raw(farm.agent.pid().cast_signed());
    for port in [81, 82] {
        kill(agent, Signal::SIGSTOP)?;
        delete(lab)?;
        make(lab, mode)?;
        delete(lab)?;
        make(lab, mode)?;
        change_file(&farm, mode, port)?;
        kill(agent, Signal::SIGHUP)?;
        kill(agent, Signal::SIGCONT)?;
        expect_all(&farm, port)?;
    }
    Ok(())
}
