//! All backends of a service are replaced at once: those that leave serve until one of those that
//! come is ready, so that no connection fails.

use std::fs;

use anyhow::{Result, ensure};
use lb_lab::{VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, Farm, Mode, Service, await_until, expect_rotation, names,
    routed_backends, while_loading,
};

use crate::discovery::PATIENCE;
use crate::{web, web6};

in_both_modes!(by_a_reload, by_a_reload_with_checks);

fn by_a_reload(mode: Mode) -> Result<()> {
    to_and_fro(mode, Check::None)
}

fn by_a_reload_with_checks(mode: Mode) -> Result<()> {
    to_and_fro(mode, Check::Http)
}

fn config(farm: &Config, check: Check, left_out: [&str; 2]) -> Config {
    let service = |name: &str, vip: std::net::IpAddr| {
        left_out.iter().fold(
            Service::tcp(name, vip, 80, routed_backends(vip, 4, 8080)).check(check),
            |service, name| service.without(name),
        )
    };
    farm.clone()
        .service(service("web", VIP4.into()))
        .service(service("web6", VIP6.into()))
}

fn to_and_fro(mode: Mode, check: Check) -> Result<()> {
    let lab = Farm::wired(mode, 4)?;
    let _servers = Farm::nginx(&lab)?;
    let farm = Farm::config(&lab, mode);
    let (one, other) = (["web3", "web4"], ["web1", "web2"]);
    let agent = Agent::start(&lab, &config(&farm, check, one))?;
    expect_rotation(&names(&lab, web(), 4)?, &other)?;
    // At first nothing is known of the way to those that come.
    for (left_out, rest) in [(other, one), (one, other)] {
        fs::write(agent.config_file(), config(&farm, check, left_out).text())?;
        while_loading(&lab, web(), |load| {
            while_loading(&lab, web6(), |load6| {
                load.await_more(50)?;
                load6.await_more(50)?;
                agent.asked(&["reload"])?.expect_success()?;
                await_until(PATIENCE, "the others serve", || {
                    for service in ["web", "web6"] {
                        agent.status()?.service(service)?.expect_in_rotation(2)?;
                    }
                    Ok(())
                })?;
                load.await_more(50)?;
                load6.await_more(50)
            })
        })?;
        for address in [web(), web6()] {
            expect_rotation(&names(&lab, address, 4)?, &rest)?;
        }
    }
    let log = agent.log();
    ensure!(!log.contains("no backend in rotation"), "{log}");
    agent.status()?.expect_no_drops()
}
