//! What must not hurt two balancers that talk: a split brain, forged and replayed messages, a peer
//! with another config, a clock that jumps.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_lab::Pair;
use lb_tests::in_both_modes;
use lb_tests::scenario::{Agent, EchoClient, Mode, await_until};

use crate::sync_failover::{ECHO, Stage, TALK, config, vip};

const DEADLINE: Duration = Duration::from_secs(10);
const COUNT: usize = 40;

in_both_modes!(a_split_brain_is_told_and_heals);

fn clients(stage: &Stage, count: usize) -> Result<Vec<(EchoClient, String)>> {
    (0..count)
        .map(|_| {
            let open = || EchoClient::open(vip(ECHO));
            let mut client = stage.lab.within("client", open)??;
            let name = client.ask("begin")?;
            Ok((client, name))
        })
        .collect()
}

fn ask(clients: &mut [(EchoClient, String)], line: &str) -> Result<()> {
    for (client, name) in clients {
        let after = client.ask(line)?;
        ensure!(after == *name, "{line}: {after} answers for {name}");
    }
    Ok(())
}

/// Both have the addresses, and clients reach now one, now the other.
fn a_split_brain_is_told_and_heals(mode: Mode) -> Result<()> {
    let stage = Stage::new(mode)?;
    stage.lab.activate(1)?;
    let mut before = clients(&stage, COUNT)?;
    stage.await_flows(1, COUNT as u64)?;
    stage.lab.activate(2)?;
    let mut during = clients(&stage, COUNT)?;
    for agent in &stage.agents {
        agent.await_log(&["at the same time"])?;
        let status = agent.status()?;
        ensure!(status.cluster_list("shared_addresses")? == 1, "{status:?}");
    }
    // Packets go back and forth between the two, and each forwards them.
    for round in 0..6 {
        let to = 1 + round % 2;
        stage.lab.learn_active(to)?;
        ask(&mut before, "flapping")?;
        ask(&mut during, "flapping")?;
    }
    stage.lab.deactivate(1)?;
    stage.lab.learn_active(2)?;
    for agent in &stage.agents {
        agent.await_log(&["on two balancers any more"])?;
        let status = agent.status()?;
        ensure!(status.cluster_list("shared_addresses")? == 0, "{status:?}");
        let entries = status.flow_table("established")?.number("entries")?;
        ensure!(entries == 2 * COUNT as u64, "{entries} flows");
    }
    ask(&mut before, "healed")?;
    ask(&mut during, "healed")
}

/// What a host on the servers' net can send.
fn send(stage: &Stage, from: &str, address: Ipv4Addr, datagrams: &[Vec<u8>]) -> Result<()> {
    let to = SocketAddr::new(Pair::balancer_address(2).into(), TALK);
    stage.lab.within(from, || -> Result<()> {
        let socket = UdpSocket::bind((address, if from == "lb1" { TALK } else { 0 }))?;
        for datagram in datagrams {
            socket.send_to(datagram, to)?;
        }
        Ok(())
    })?
}

#[test]
fn forged_messages_are_counted_and_change_nothing() -> Result<()> {
    let mut stage = Stage::new(Mode::Generic)?;
    stage.lab.activate(1)?;
    let mut clients = clients(&stage, COUNT)?;
    stage.await_flows(1, COUNT as u64)?;
    // The first one is gone, and somebody has its address and port.
    stage.agents[0].kill()?;
    let hello = |version: u8, kind: u8, length: usize| {
        let mut bytes = vec![7; length];
        bytes[..8].copy_from_slice(&[b'L', b'B', b'f', b's', version, kind, 0, 0]);
        bytes
    };
    let datagrams = [
        Vec::new(),
        vec![0; 4000],
        hello(2, 1, 104),
        hello(2, 1, 60),
        hello(9, 1, 104),
        hello(2, 2, 400),
        hello(2, 3, 100),
    ];
    send(&stage, "lb1", Pair::balancer_address(1), &datagrams)?;
    send(&stage, "web1", Ipv4Addr::UNSPECIFIED, &datagrams)?;
    await_until(DEADLINE, "they are counted", || {
        let status = stage.agents[1].status()?;
        for (reason, least) in [
            ("unknown_sender", 7),
            ("malformed", 4),
            ("forged", 1),
            ("version", 1),
            ("unknown_session", 1),
        ] {
            let count = status.cluster(&format!("/refused/{reason}"))?;
            ensure!(count >= least, "{count} {reason}");
        }
        let entries = status.flow_table("established")?.number("entries")?;
        ensure!(entries == COUNT as u64, "{entries} flows");
        Ok(())
    })?;
    stage.agents[1].await_log(&["speaks version 9"])?;
    stage.agents[0].start_again(&stage.lab)?;
    stage.await_peers()?;
    ask(&mut clients, "after")
}

/// The second one lacks a backend and a service: what it cannot take over it says.
#[test]
fn another_config_is_told() -> Result<()> {
    let mut stage = Stage::new(Mode::Generic)?;
    stage.lab.activate(1)?;
    stage.agents[1].stop()?;
    let mut other = config(&stage.lab, 2, Mode::Generic)?;
    other.forget_backend("echo", "web2").context("no echo")?;
    stage.agents[1] = Agent::start_in(&stage.lab, "lb2", &other)?;
    await_until(DEADLINE, "the balancers talk", || {
        ensure!(stage.agents[1].status()?.is_peer_up()?);
        Ok(())
    })?;
    let mut clients = clients(&stage, COUNT)?;
    await_until(DEADLINE, "half of them are refused", || {
        let status = stage.agents[1].status()?;
        let refused = status.cluster("/flows/unknown_backend")?;
        ensure!(refused >= COUNT as u64 / 2, "{refused} refused");
        let entries = status.flow_table("established")?.number("entries")?;
        ensure!(entries == COUNT as u64 / 2, "{entries} flows");
        Ok(())
    })?;
    stage.agents[1].await_log(&["its config is another one", "unknown_backend"])?;
    ask(&mut clients, "after")
}
