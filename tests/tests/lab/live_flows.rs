//! What becomes of the connections of a backend whose checks fail, by `on_backend_down`; those of
//! others notice nothing. The backend itself goes on serving, so that each case can be told apart.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::{Routed, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, EchoClient, Farm, Mode, Server, Service, await_until, expect_cycle,
    routed_backends,
};

use crate::WEBS;

const PORT: u16 = 7000;
const CHECK_PORT: u16 = 7999;
const DEADLINE: Duration = Duration::from_secs(10);

in_both_modes!(
    hold_leaves_them_alone,
    reset_ends_them,
    reschedule_sends_them_on
);

/// Three echo servers, a connection to each, and the second one's checks fail.
struct Stage {
    clients: Vec<EchoClient>,
    agent: Agent,
    checked: Vec<Option<Server>>,
    _servers: Vec<Server>,
    lab: Routed,
}

fn stage(mode: Mode, policy: &str) -> Result<Stage> {
    let lab = Farm::wired(mode, 3)?;
    let listen = |number, port| {
        let [v4, _] = Routed::server_addresses(number);
        Server::echo(&lab, &format!("web{number}"), &[SocketAddr::new(v4, port)])
    };
    let servers = (1..=3)
        .map(|number| listen(number, PORT))
        .collect::<Result<_>>()?;
    let mut checked = (1..=3)
        .map(|number| listen(number, CHECK_PORT).map(Some))
        .collect::<Result<Vec<_>>>()?;
    let service = Service::tcp("echo", VIP4, PORT, routed_backends(VIP4, 3, PORT))
        .check(Check::Tcp)
        .check_port(CHECK_PORT)
        .key("on_backend_down", policy);
    let agent = Agent::start(&lab, &Farm::config(&lab, mode).service(service))?;
    let address = SocketAddr::new(IpAddr::V4(VIP4), PORT);
    let open = || {
        (0..3)
            .map(|_| EchoClient::open(address))
            .collect::<Result<Vec<_>>>()
    };
    let mut clients = lab.within("client", open)??;
    let ask = |client: &mut EchoClient| client.ask("before");
    expect_cycle(
        &clients.iter_mut().map(ask).collect::<Result<Vec<_>>>()?,
        &WEBS,
    )?;
    checked[1] = None;
    agent.await_backend(DEADLINE, ("echo", "web2"), "web2 is down", |backend| {
        ensure!(
            backend.text("health")? == "down" && !backend.is("in_rotation")?,
            "{backend:?}"
        );
        Ok(())
    })?;
    Ok(Stage {
        clients,
        agent,
        checked,
        _servers: servers,
        lab,
    })
}

impl Stage {
    fn expect_others_untouched(&mut self) -> Result<()> {
        ensure!(self.clients[0].ask("still there?")? == "web1");
        ensure!(self.clients[2].ask("still there?")? == "web3");
        Ok(())
    }
}

fn hold_leaves_them_alone(mode: Mode) -> Result<()> {
    let mut stage = stage(mode, "hold")?;
    ensure!(stage.clients[1].ask("during")? == "web2");
    stage.expect_others_untouched()?;
    stage
        .agent
        .status()?
        .service("echo")?
        .expect("active_flows", &[1, 1, 1])?;
    // New ones go to the others, until it is back.
    let address = SocketAddr::new(IpAddr::V4(VIP4), PORT);
    let open = || EchoClient::open(address)?.ask("new");
    for _ in 0..4 {
        ensure!(
            stage.lab.within("client", open)?? != "web2",
            "a new connection went to web2"
        );
    }
    let [v4, _] = Routed::server_addresses(2);
    let listen = [SocketAddr::new(v4, CHECK_PORT)];
    stage.checked[1] = Some(Server::echo(&stage.lab, "web2", &listen)?);
    await_until(DEADLINE, "web2 is back", || {
        ensure!(stage.lab.within("client", open)?? == "web2", "not yet");
        Ok(())
    })?;
    ensure!(stage.clients[1].ask("after")? == "web2");
    Ok(())
}

fn reset_ends_them(mode: Mode) -> Result<()> {
    let mut stage = stage(mode, "reset")?;
    let error = stage.clients[1].ask("during").err();
    ensure!(
        error.is_some_and(|error| format!("{error:#}").contains("reset")),
        "no reset came"
    );
    let status = stage.agent.status()?;
    ensure!(
        status.verdict("answered_reset_backend_down")? >= 1,
        "{status:?}"
    );
    stage.expect_others_untouched()
}

fn reschedule_sends_them_on(mode: Mode) -> Result<()> {
    let mut stage = stage(mode, "reschedule")?;
    // The next backend knows nothing of the connection and says so, at once.
    let error = stage.clients[1].ask("during").err();
    ensure!(
        error.is_some_and(|error| format!("{error:#}").contains("reset")),
        "no reset came"
    );
    let status = stage.agent.status()?;
    ensure!(
        status.verdict("answered_reset_backend_down")? == 0,
        "{status:?}"
    );
    ensure!(status.event("flow_rescheduled")? >= 1, "{status:?}");
    stage.expect_others_untouched()
}
