//! An agent that comes back with another file: what is gone or drained from it keeps its live
//! connections and gets no new ones.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lb_lab::{Routed, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, EchoClient, Farm, Mode, Server, Service, expect_cycle, routed_backends,
};

use crate::WEBS;

const PORT: u16 = 7000;

in_both_modes!(weight_zero_drains, removal_drains);

/// A connection to each of three servers, before and after the file changes to one in which the
/// second gets nothing new.
fn drains(mode: Mode, changed: impl Fn(Service) -> Service) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let _servers = (1..=3)
        .map(|number| {
            let [v4, _] = Routed::server_addresses(number);
            Server::echo(&lab, &format!("web{number}"), &[SocketAddr::new(v4, PORT)])
        })
        .collect::<Result<Vec<_>>>()?;
    let config = |service| -> Config {
        Farm::config(&lab, mode)
            .agent("on_exit", "keep")
            .service(service)
    };
    let service =
        || Service::tcp("echo", VIP4, PORT, routed_backends(VIP4, 3, PORT)).check(Check::None);
    let mut agent = Agent::start(&lab, &config(service()))?;
    let address = SocketAddr::new(IpAddr::V4(VIP4), PORT);
    let open = |count| {
        (0..count)
            .map(|_| EchoClient::open(address))
            .collect::<Result<Vec<_>>>()
    };
    let mut clients = lab.within("client", || open(3))??;
    let mut expect_same = |text: &str| {
        let ask = |client: &mut EchoClient| client.ask(text);
        let names = clients.iter_mut().map(ask).collect::<Result<Vec<_>>>()?;
        expect_cycle(&names, &WEBS)
    };
    expect_same("before")?;

    agent.stop()?;
    expect_same("without an agent")?;
    fs::write(agent.config_file(), config(changed(service())).text())?;
    agent.start_again(&lab)?;
    expect_same("after")?;
    let mut new = lab.within("client", || open(6))??;
    for client in &mut new {
        let name = client.ask("new")?;
        ensure!(name != "web2", "a new connection went to {name}");
    }
    expect_same("at last")?;
    let status = agent.status()?;
    ensure!(status.verdict("answered_reset_no_flow")? == 0, "{status:?}");
    status.expect_no_drops()
}

fn weight_zero_drains(mode: Mode) -> Result<()> {
    drains(mode, |service| service.weights(&[1, 0, 1]))
}

fn removal_drains(mode: Mode) -> Result<()> {
    drains(mode, |service| service.without("web2"))
}
