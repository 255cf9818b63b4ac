//! The agent as people have it, with real connections: it attaches, dies, is followed by another
//! that takes over its tables and links, and leaves.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lb_lab::{Routed, VIP4, VIP6};
use serde_json::{Value, json};

use super::outcome;
use crate::scenario::{
    Agent, Check, EchoClient, Farm, Mode, Server, Service, expect_rotation, has_xdp,
    routed_backends,
};

const PORT: u16 = 7000;
const SERVERS: u8 = 2;
const NAMES: [&str; 2] = ["web1", "web2"];

/// Runs the agent in both modes, and says what came of it as an object for the matrix.
#[must_use]
pub fn try_agent() -> Value {
    let began = Instant::now();
    let native = outcome(life(Mode::Native));
    let generic = outcome(life(Mode::Generic));
    json!({
        "variant": "lb run",
        "is_agent": true,
        "native": native,
        "generic": generic,
        "seconds": began.elapsed().as_secs_f64(),
    })
}

fn life(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, SERVERS)?;
    let _servers = servers(&lab)?;
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    let mut config = Farm::config(&lab, mode);
    for (name, vip) in ["echo4", "echo6"].into_iter().zip(vips) {
        let service = Service::tcp(name, vip, PORT, routed_backends(vip, SERVERS, PORT));
        config = config.service(service.check(Check::None));
    }
    let mut agent = Agent::start(&lab, &config).context("the agent starts")?;
    let mut held = Vec::new();
    for vip in vips {
        held.push(open(&lab, vip)?);
        connect(&lab, vip)?;
    }
    agent.kill()?;
    for client in &mut held {
        client.ask("without an agent")?;
    }
    agent.start_again(&lab).context("the next agent starts")?;
    for (client, vip) in held.iter_mut().zip(vips) {
        client.ask("with the next agent")?;
        connect(&lab, vip)?;
    }
    let status = agent.status()?;
    let interfaces = status.interfaces()?;
    ensure!(
        interfaces.len() == usize::from(SERVERS) + 1
            && interfaces.iter().all(|text| text.ends_with(mode.word())),
        "attached to {interfaces:?}"
    );
    status.expect_no_drops()?;
    let ended = agent.stop()?;
    ensure!(ended.success(), "the agent ended with {ended}");
    ensure!(!has_xdp(&lab, "lb", "lc")?, "the program is still attached");
    Ok(())
}

fn servers(lab: &Routed) -> Result<Vec<Server>> {
    let start = |number| {
        let addresses =
            Routed::server_addresses(number).map(|address| SocketAddr::new(address, PORT));
        Server::echo(lab, &format!("web{number}"), &addresses)
    };
    (1..=SERVERS).map(start).collect()
}

fn open(lab: &Routed, vip: IpAddr) -> Result<EchoClient> {
    lab.within("client", || EchoClient::open(SocketAddr::new(vip, PORT)))?
        .with_context(|| format!("connecting to {vip}"))
}

/// New connections go round.
fn connect(lab: &Routed, vip: IpAddr) -> Result<()> {
    let names = (0..4).map(|_| open(lab, vip)?.ask("hello"));
    expect_rotation(&names.collect::<Result<Vec<_>>>()?, &NAMES)
}
