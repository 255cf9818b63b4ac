//! A start with discovered backends of which nothing is known yet: READY means serving, unless their
//! source is silent, which is said and does not hold the start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use lb_tests::scenario::{Agent, Config, Liar, Word, expect_rotation, names};

use crate::discovery::Stage;
use crate::{WEBS, web};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5354);

fn config(stage: &Stage) -> Config {
    stage.config(&format!(
        "kind = \"dns\"\nname = \"web.lab\"\nserver = \"{SERVER}\"\nport = 8080\n"
    ))
}

fn good() -> Word {
    let addresses = (1..=3).filter_map(|number| match Stage::address(number) {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    });
    Word::Addresses(addresses.collect(), 0)
}

#[test]
fn ready_means_serving() -> Result<()> {
    let stage = Stage::set(3)?;
    let _dns = Liar::start(&stage.lab, "lb", SERVER, good())?;
    let agent = Agent::start(&stage.lab, &config(&stage))?;
    // At once, without waiting for anything.
    expect_rotation(&names(&stage.lab, web(), 6)?, &WEBS)?;
    let log = agent.log();
    ensure!(!log.contains("no backend in rotation"), "{log}");
    agent.status()?.expect_no_drops()
}

#[test]
fn a_silent_source_does_not_hold_the_start() -> Result<()> {
    let stage = Stage::set(3)?;
    let dns = Liar::start(&stage.lab, "lb", SERVER, Word::Silence)?;
    let agent = Agent::start(&stage.lab, &config(&stage))?;
    let log = agent.log();
    ensure!(
        log.contains("service web: its backends are not known yet"),
        "{log}"
    );
    dns.say(good());
    stage.expect(&WEBS)?;
    agent.status()?.service("web")?.expect_in_rotation(3)
}
