//! The agent dies under load, and a new one takes over: no connection notices, no counter starts
//! anew, and the order goes on where it was.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use lb_lab::{Routed, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, EchoClient, Farm, Load, Mode, Server, Service, binary, expect_cycle,
    names, routed_backends, run, while_loading,
};

use crate::{WEBS, web};

const PORT: u16 = 7000;

in_both_modes!(
    killed_and_restarted_under_load,
    restarted_by_request_with_keep,
    upgraded_to_another_binary_under_load
);

/// Does `work` while a connection is busy all the time; returns how often it was answered.
pub(crate) fn while_streaming<T>(
    lab: &Routed,
    address: SocketAddr,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, u64)> {
    let mut client = lab.within("client", || EchoClient::open(address))??;
    let stream = |load: &Load| {
        let (name, mut count) = (client.ask("hello")?, 1);
        while load.goes_on() {
            let line = format!("{count} {}", "x".repeat(1000));
            let answered = client.ask(&line).with_context(|| format!("echo {count}"))?;
            ensure!(answered == name, "{answered} answered instead of {name}");
            count += 1;
        }
        Ok(count)
    };
    Load::beside(stream, |load| {
        load.await_more(10)?;
        let done = work()?;
        load.await_more(10)?;
        Ok(done)
    })
}

fn finish(config: Config, on_exit: &str) -> Config {
    let echo = Service::tcp("echo", VIP4, PORT, routed_backends(VIP4, 1, PORT));
    config
        .agent("on_exit", on_exit)
        .service(Farm::web(3))
        .service(echo.check(Check::None))
}

fn stage(mode: Mode, on_exit: &str) -> Result<(Farm, Server)> {
    let farm = Farm::start(mode, 3, |config| finish(config, on_exit))?;
    let [v4, _] = Routed::server_addresses(1);
    let server = Server::echo(&farm.lab, "web1", &[SocketAddr::new(v4, PORT)])?;
    Ok((farm, server))
}

/// What the counters say that a new agent must not forget.
fn counters(farm: &Farm) -> Result<Vec<u64>> {
    let status = farm.agent.status()?;
    let service = status.service("web")?;
    let mut all = service.each("connections")?;
    for key in ["packets", "bytes", "reply_packets"] {
        all.extend(service.each(key)?);
    }
    all.push(status.verdict("steered")?);
    Ok(all)
}

fn killed_and_restarted_under_load(mode: Mode) -> Result<()> {
    let (mut farm, _server) = stage(mode, "detach")?;
    let echo = SocketAddr::new(IpAddr::V4(VIP4), PORT);
    let Farm { agent, lab, .. } = &mut farm;
    let lab = &*lab;
    let first = agent.status()?;
    let life = |load: &Load| {
        load.await_more(300)?;
        agent.kill()?;
        let socket = agent.socket().to_string_lossy().into_owned();
        run(&["status", "--socket", &socket])?.expect_sentence(1, &["no agent"])?;
        // A time without any agent.
        load.await_more(300)?;
        agent.start_again(lab)?;
        load.await_more(300)?;
        agent.status()
    };
    let ((status, answers), echoes) =
        while_streaming(lab, echo, || while_loading(lab, web(), life))?;
    eprintln!("{} requests, {echoes} echoes", answers.len());
    // Not even the order has a seam.
    expect_cycle(&answers, &WEBS)?;
    ensure!(first.pid()? != status.pid()?, "it is the same agent");
    ensure!(
        status.interfaces()?.len() == 4,
        "attached to {:?}",
        status.interfaces()?
    );
    let total = farm.agent.status()?.service("web")?.number("connections")?;
    ensure!(
        total == answers.len() as u64,
        "{total} counted, {} made",
        answers.len()
    );
    let status = farm.agent.status()?;
    status.service("echo")?.expect("connections", &[1])?;
    status.expect_no_drops()
}

fn restarted_by_request_with_keep(mode: Mode) -> Result<()> {
    let (mut farm, _server) = stage(mode, "keep")?;
    expect_cycle(&names(&farm.lab, web(), 4)?, &WEBS)?;
    let before = counters(&farm)?;
    let echo = SocketAddr::new(IpAddr::V4(VIP4), PORT);
    let mut client = farm.lab.within("client", || EchoClient::open(echo))??;
    client.ask("before")?;

    let status = farm.agent.stop()?;
    ensure!(status.success(), "the agent ended with {status}");
    ensure!(!farm.agent.socket().exists(), "its socket is still there");
    client.ask("without an agent")?;
    expect_cycle(&names(&farm.lab, web(), 4)?, &["web2", "web3", "web1"])?;

    farm.agent.start_again(&farm.lab)?;
    client.ask("with the next agent")?;
    expect_cycle(&names(&farm.lab, web(), 4)?, &["web3", "web1", "web2"])?;
    let after = counters(&farm)?;
    ensure!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before < after),
        "counters before {before:?}, after {after:?}"
    );
    farm.agent
        .status()?
        .service("web")?
        .expect("connections", &[4, 4, 4])?;
    farm.agent
        .status()?
        .service("echo")?
        .expect("active_flows", &[1])
}

/// The binary is another file, and the program another one in the kernel; as often as somebody may
/// want, and not a request is lost.
fn upgraded_to_another_binary_under_load(mode: Mode) -> Result<()> {
    let (mut farm, _server) = stage(mode, "keep")?;
    let echo = SocketAddr::new(IpAddr::V4(VIP4), PORT);
    let Farm { agent, lab, .. } = &mut farm;
    let lab = &*lab;
    let config = finish(Farm::config(lab, mode), "keep");
    let programs = |agent: &Agent| agent.status()?.program_ids();
    let life = |load: &Load| {
        let mut seen = vec![programs(agent)?];
        for version in 1..=3 {
            load.await_more(100)?;
            let file = lab.folder().join(format!("lb-{version}"));
            fs::copy(binary()?, &file)?;
            let status = agent.stop()?;
            ensure!(status.success(), "the agent ended with {status}");
            load.await_more(20)?;
            *agent = Agent::start_by(lab, &config, lab.command("lb", &file)?)?;
            seen.push(programs(agent)?);
        }
        load.await_more(100)?;
        Ok(seen)
    };
    let ((programs, answers), echoes) =
        while_streaming(lab, echo, || while_loading(lab, web(), life))?;
    eprintln!("{} requests, {echoes} echoes", answers.len());
    expect_cycle(&answers, &WEBS)?;
    let mut different = programs.concat();
    different.dedup();
    ensure!(different.len() == 4, "programs {programs:?}");
    let status = farm.agent.status()?;
    let total = status.service("web")?.number("connections")?;
    ensure!(
        total == answers.len() as u64,
        "{total} counted, {} made",
        answers.len()
    );
    status.expect_no_drops()
}
