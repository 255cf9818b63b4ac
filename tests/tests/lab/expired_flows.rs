//! What stands in the flow tables for nothing is taken out and counted; what lives stays.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::{Routed, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, EchoClient, Farm, Mode, Server, Service, ask_datagram, await_until,
    routed_backends,
};

const PORT: u16 = 5300;
const BACKEND_PORT: u16 = 9053;
const TCP_PORT: u16 = 7000;
/// Idle timeout, grace, and more than a round of the collector.
const DEADLINE: Duration = Duration::from_secs(30);

in_both_modes!(they_are_collected_and_live_ones_are_not);

fn they_are_collected_and_live_ones_are_not(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 1)?;
    let listen = |port| {
        let [v4, _] = Routed::server_addresses(1);
        SocketAddr::new(v4, port)
    };
    let _datagrams = Server::datagrams(&lab, "web1", &[listen(BACKEND_PORT)])?;
    let _echo = Server::echo(&lab, "web1", &[listen(TCP_PORT)])?;
    let backends = routed_backends(VIP4, 1, BACKEND_PORT);
    let udp = Service::udp("udp", VIP4, PORT, backends).number("idle_timeout_seconds", 2);
    let backends = routed_backends(VIP4, 1, TCP_PORT);
    let tcp = Service::tcp("tcp", VIP4, TCP_PORT, backends).check(Check::Tcp);
    let config = Farm::config(&lab, mode).service(udp).service(tcp);
    let agent = Agent::start(&lab, &config)?;
    let address = SocketAddr::new(VIP4.into(), PORT);
    // Answered, so that they stand in the established table.
    lab.within("client", || -> Result<()> {
        for _ in 0..40 {
            ask_datagram(&UdpSocket::bind("0.0.0.0:0")?, address, "there?")?;
        }
        Ok(())
    })??;
    let open = || EchoClient::open(SocketAddr::new(VIP4.into(), TCP_PORT));
    let mut client = lab.within("client", open)??;
    client.ask("before")?;
    let status = agent.status()?;
    let established = status.flow_table("established")?;
    ensure!(established.number("entries")? == 41, "{established:?}");
    ensure!(established.number("expired")? == 0, "{established:?}");
    ensure!(
        established.number("capacity")? >= 262_144,
        "{established:?}"
    );
    await_until(DEADLINE, "expired flows are collected", || {
        let status = agent.status()?;
        let established = status.flow_table("established")?;
        ensure!(established.number("expired")? == 40, "{established:?}");
        ensure!(established.number("entries")? == 1, "{established:?}");
        Ok(())
    })?;
    ensure!(client.ask("after")? == "web1");
    agent.status()?.expect_no_drops()
}
