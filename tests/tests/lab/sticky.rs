//! 200 connections at once: each stays with its backend, and `active_flows` counts them exactly.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_lab::{Routed, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, EchoClient, Farm, Mode, Server, Service, expect_cycle, routed_backends,
};

use crate::WEBS;

const PORT: u16 = 7000;
const BACKEND_PORT: u16 = 7007;
const CONNECTIONS: usize = 200;

in_both_modes!(two_hundred_connections_stay);

fn two_hundred_connections_stay(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let start = |number| {
        let [v4, _] = Routed::server_addresses(number);
        Server::echo(
            &lab,
            &format!("web{number}"),
            &[SocketAddr::new(v4, BACKEND_PORT)],
        )
    };
    let servers = (1..=3).map(start).collect::<Result<Vec<_>>>()?;
    let backends = routed_backends(VIP4, 3, BACKEND_PORT);
    let service = Service::tcp("echo", VIP4, PORT, backends).check(Check::Tcp);
    let agent = Agent::start(&lab, &Farm::config(&lab, mode).service(service))?;
    let address = SocketAddr::new(IpAddr::V4(VIP4), PORT);

    let open = || {
        (0..CONNECTIONS)
            .map(|_| EchoClient::open(address))
            .collect::<Result<Vec<_>>>()
    };
    let mut clients = lab.within("client", open)??;
    for round in 0..5 {
        let ask = |(number, client): (usize, &mut EchoClient)| {
            client
                .ask(&format!("connection {number}, round {round}"))
                .with_context(|| format!("connection {number}, round {round}"))
        };
        let names = clients
            .iter_mut()
            .enumerate()
            .map(ask)
            .collect::<Result<Vec<_>>>()?;
        // Connection by connection the backend that it was given at first.
        expect_cycle(&names, &WEBS)?;
        let status = agent.status()?;
        status
            .service("echo")?
            .expect("active_flows", &[67, 67, 66])?;
        status
            .service("echo")?
            .expect("connections", &[67, 67, 66])?;
    }

    // Half of them go; the others are not counted less for it, and go on.
    let kept = clients.split_off(CONNECTIONS / 2);
    drop(clients);
    let left = |each: &'static [u64]| {
        let began = Instant::now();
        agent.await_service(
            Duration::from_secs(30),
            "echo",
            "closed flows are gone",
            |service| service.expect("active_flows", each),
        )?;
        eprintln!(
            "closed flows were gone after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        Ok::<_, anyhow::Error>(())
    };
    left(&[33, 34, 33])?;
    let mut kept = kept;
    for (number, client) in kept.iter_mut().enumerate() {
        let expected = WEBS[(number + CONNECTIONS / 2) % WEBS.len()];
        let name = client.ask("still there?")?;
        ensure!(
            name == expected,
            "connection {number} moved from {expected} to {name}"
        );
    }
    drop(kept);
    left(&[0, 0, 0])?;
    agent
        .status()?
        .service("echo")?
        .expect("connections", &[67, 67, 66])?;
    drop(servers);
    Ok(())
}
