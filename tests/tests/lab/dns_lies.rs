//! A DNS server that lies, in every way that one can think of: what is no answer leaves the backends
//! as they were, what cannot be a backend is left out, and of too many some are used.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_lab::VIP4;
use lb_tests::scenario::{Agent, Liar, Word, await_until};

use crate::WEBS;
use crate::discovery::{PATIENCE, Stage};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5354);

fn address(number: u8) -> Ipv4Addr {
    match Stage::address(number) {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn good() -> Word {
    Word::Addresses(vec![address(1), address(2)], 0)
}

fn start(stage: &Stage, word: Word, more: &str) -> Result<(Liar, Agent)> {
    let liar = Liar::start(&stage.lab, "lb", SERVER, word)?;
    let config = stage.config(&format!(
        "kind = \"dns\"\nname = \"web.lab\"\nserver = \"{SERVER}\"\nport = 8080\n{more}"
    ));
    let agent = Agent::start(&stage.lab, &config)?;
    Ok((liar, agent))
}

fn await_told(agent: &Agent, what: &str) -> Result<()> {
    await_until(PATIENCE, what, || {
        let log = agent.log();
        ensure!(log.contains(what), "{log}");
        Ok(())
    })
}

#[test]
fn what_is_no_answer_leaves_the_backends() -> Result<()> {
    let stage = Stage::set(3)?;
    let (liar, agent) = start(&stage, good(), "")?;
    stage.expect(&WEBS[..2])?;
    // A TTL of nothing does not mean to ask all the time.
    let began = Instant::now();
    liar.await_asked(4)?;
    let took = began.elapsed();
    ensure!(took > Duration::from_secs(2), "4 questions in {took:?}");

    let lies = [
        Word::Code(3),
        Word::Code(2),
        Word::Silence,
        Word::Garbage,
        Word::OtherName(address(3)),
        Word::Loop,
        Word::Addresses(Vec::new(), 60),
        Word::Addresses(vec![VIP4, Ipv4Addr::LOCALHOST], 0),
    ];
    for lie in lies {
        eprintln!("{lie:?}");
        liar.say(lie.clone());
        liar.await_asked(2)?;
        stage
            .expect(&WEBS[..2])
            .with_context(|| format!("{lie:?}"))?;
        liar.say(good());
        liar.await_asked(1)?;
    }
    await_told(&agent, "backends that were discovered before stay")?;
    await_told(&agent, "no more is said of that")?;
    let log = agent.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("service web"))
        .count();
    ensure!(lines < 30, "{lines} lines: {log}");

    // The right answer counts, and not those before it that are made up.
    liar.say(Word::Forged(address(1), vec![address(2), address(3)]));
    stage.expect(&WEBS[1..])?;
    // A TTL beyond all bounds does not mean to ask never again.
    liar.say(Word::Addresses(vec![address(1)], u32::MAX));
    stage.expect(&["web1"])?;
    liar.say(good());
    stage.expect(&WEBS[..2])?;
    agent.status()?.expect_no_drops()
}

#[test]
fn what_cannot_be_a_backend_is_left_out() -> Result<()> {
    let stage = Stage::set(2)?;
    let impossible = [
        VIP4,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 1),
    ];
    let all = impossible.into_iter().chain([address(1), address(2)]);
    let (_liar, agent) = start(&stage, Word::Addresses(all.collect(), 0), "")?;
    stage.expect(&WEBS[..2])?;
    for address in impossible {
        let line = format!("backend web/{address} that was discovered is left out");
        await_told(&agent, &line)?;
    }
    agent.status()?.expect_no_drops()
}

#[test]
fn of_three_thousand_some_are_used_and_those_stay() -> Result<()> {
    let stage = Stage::set(3)?;
    // Nobody has these; the former come before the servers, the latter behind them.
    let nobody = |first: u8, count: u16| {
        (0..count).map(move |number| {
            let [high, low] = number.to_be_bytes();
            Ipv4Addr::new(10, first, high, low)
        })
    };
    let many = |servers: &[u8], first: u8| {
        let servers = servers.iter().map(|number| address(*number));
        Word::Addresses(servers.chain(nobody(first, 3000)).collect(), 0)
    };
    let (liar, agent) = start(&stage, many(&[3, 2, 1], 99), "most = 2\n")?;
    stage.expect(&WEBS[..2])?;
    await_told(
        &agent,
        "web.lab has more backends than service.discovery.most, 2",
    )?;
    ensure!(liar.asked_by_tcp() > 0, "it was never asked by TCP");

    liar.say(many(&[1, 2, 3], 9));
    liar.await_asked(3)?;
    stage.expect(&WEBS[..2])?;
    // What fills up is the first of the others, which nobody has.
    liar.say(many(&[2, 3], 9));
    stage.expect(&["web2"])?;
    let status = agent.status()?;
    status.backend("web", "10.9.0.0")?;
    ensure!(status.service("web")?.each("weight")?.len() == 2);
    let log = agent.log();
    let told = log.matches("has more backends than").count();
    ensure!(told == 1, "told {told} times: {log}");
    Ok(())
}
