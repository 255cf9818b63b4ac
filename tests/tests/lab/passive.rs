//! `passive = true`: clients' connections take a backend down long before its check asks again, and
//! forged ones do not.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_lab::{Lab, Segment, VIP4, get};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, Entry, Farm, Mode, Service, expect_rotation, forge_syns, names,
    segment_backends,
};

use crate::{WEBS, web};

in_both_modes!(
    a_killed_server_leaves_by_its_resets_and_its_check_brings_it_back,
    a_silent_server_leaves_and_its_clients_go_elsewhere,
    a_server_that_nobody_checks_is_tried_again,
    a_silent_server_leaves_with_direct_return,
    a_banned_client_takes_nobody_along,
    who_is_down_stays_so_at_a_restart,
    forged_syns_change_nothing
);

/// Long enough for a busy machine; how long it took is printed.
const PATIENCE: Duration = Duration::from_secs(10);
/// A check that is far too slow to notice anything.
const SLOW: &str = "kind = \"http\"\npath = \"/healthz\"\ninterval_seconds = 30\n\
                    timeout_seconds = 1\npassive = true";

fn service(lines: &str) -> Service {
    // No rhythm of its own.
    Farm::web(3).check(Check::None).check_lines(lines)
}

/// Requests `/` so many times at once, and says who answered.
fn at_once(lab: &Lab, count: usize, timeout: Duration) -> Result<Vec<Result<String>>> {
    let ask = move || -> Result<String> {
        let answer = get(web(), "/", timeout)?;
        answer
            .backend
            .context("the answer does not say who gave it")
    };
    lab.within("client", || {
        thread::scope(|scope| {
            let asking: Vec<_> = (0..count).map(|_| scope.spawn(ask)).collect();
            let answers = asking.into_iter().map(|one| {
                one.join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
            });
            answers.collect()
        })
    })
}

/// Has a server drop what comes for a port of the address, or not any more.
fn silence(lab: &Lab, server: &str, address: Ipv4Addr, port: u16) -> Result<()> {
    for line in [
        "add table inet quiet".to_owned(),
        "add chain inet quiet in { type filter hook input priority 0 ; }".to_owned(),
        format!("add rule inet quiet in ip daddr {address} tcp dport {port} drop"),
    ] {
        lab.run(server, "nft", &[&line])?;
    }
    Ok(())
}

fn unsilence(lab: &Lab, server: &str) -> Result<()> {
    lab.run(server, "nft", &["delete table inet quiet"])
        .map(drop)
}

fn handshakes(backend: Entry<'_>) -> Result<[u64; 3]> {
    let all = backend.entry("handshakes")?;
    Ok([
        all.number("accepted")?,
        all.number("refused")?,
        all.number("unanswered")?,
    ])
}

/// Waits until web2 is down and says so in these words.
fn await_down(agent: &Agent, words: &str) -> Result<()> {
    agent.await_backend(PATIENCE, ("web", "web2"), "web2 is down", |backend| {
        let last = backend.text("last_check")?;
        let is_down = backend.text("health")? == "down" && !backend.is("in_rotation")?;
        ensure!(is_down, "{backend:?}");
        ensure!(last.contains(words) && last.contains("(passive)"), "{last}");
        Ok(())
    })
}

fn await_up(agent: &Agent, patience: Duration) -> Result<()> {
    agent.await_backend(patience, ("web", "web2"), "web2 is up", |backend| {
        let is_up = backend.text("health")? == "up" && backend.is("in_rotation")?;
        ensure!(is_up, "{backend:?}");
        Ok(())
    })
}

fn a_killed_server_leaves_by_its_resets_and_its_check_brings_it_back(mode: Mode) -> Result<()> {
    let mut farm = Farm::start(mode, 3, |config| config.service(service(SLOW)))?;
    expect_rotation(&names(&farm.lab, web(), 30)?, &WEBS)?;
    let status = farm.agent.status()?;
    ensure!(handshakes(status.backend("web", "web2")?)? == [10, 0, 0]);

    farm.servers[1].stop()?;
    let killed = Instant::now();
    let mut failed = 0;
    while farm
        .agent
        .status()?
        .backend("web", "web2")?
        .is("in_rotation")?
    {
        ensure!(killed.elapsed() < PATIENCE, "web2 is still in rotation");
        let answers = at_once(&farm.lab, 9, PATIENCE)?;
        failed += answers.iter().filter(|answer| answer.is_err()).count();
    }
    let took = killed.elapsed();
    eprintln!("web2 left the rotation {took:?} after its end; {failed} requests failed");
    ensure!(took < Duration::from_secs(4), "it took {took:?}");
    await_down(&farm.agent, " connections refused in ")?;
    let status = farm.agent.status()?;
    let [_, refused, unanswered] = handshakes(status.backend("web", "web2")?)?;
    ensure!(refused >= 5 && unanswered == 0, "{status:?}");
    let log = farm.agent.log();
    ensure!(
        log.matches("backend web/web2 is down: ").count() == 1,
        "{log}"
    );
    expect_rotation(&names(&farm.lab, web(), 20)?, &["web1", "web3"])?;

    // Its check, which asks more often now, brings it back when it has passed often enough.
    let faster =
        Farm::config(&farm.lab, mode).service(service(&SLOW.replace("= 30", "= 0.2\nrise = 3")));
    std::fs::write(farm.agent.config_file(), faster.text())?;
    farm.agent.asked(&["reload"])?.expect_success()?;
    farm.servers[1].start_again(&farm.lab)?;
    await_up(&farm.agent, PATIENCE)?;
    let log = farm.agent.log();
    ensure!(log.contains("(3 of 3 checks passed)"), "{log}");
    expect_rotation(&names(&farm.lab, web(), 30)?, &WEBS)
}

fn a_silent_server_leaves_and_its_clients_go_elsewhere(mode: Mode) -> Result<()> {
    let farm = Farm::start(mode, 3, |config| config.service(service(SLOW)))?;
    let [address, _] = lb_lab::Routed::server_addresses(2);
    let std::net::IpAddr::V4(address) = address else {
        unreachable!("the first one is of IPv4")
    };
    silence(&farm.lab, "web2", address, 8080)?;
    // A third of them ask in vain, again after a second, and once more after another two; by then
    // their backend is down, and another one has their connection.
    let asked = Instant::now();
    let answers = at_once(&farm.lab, 24, PATIENCE)?;
    eprintln!("all were served {:?} after they asked", asked.elapsed());
    for answer in answers {
        let name = answer?;
        ensure!(name != "web2", "it was silent");
    }
    await_down(&farm.agent, " connections unanswered in ")?;
    let status = farm.agent.status()?;
    let [accepted, refused, unanswered] = handshakes(status.backend("web", "web2")?)?;
    // Those that ask again when it is down already go elsewhere.
    ensure!([accepted, refused] == [0, 0], "{status:?}");
    ensure!((5..=8).contains(&unanswered), "{status:?}");
    expect_rotation(&names(&farm.lab, web(), 20)?, &["web1", "web3"])
}

fn a_server_that_nobody_checks_is_tried_again(mode: Mode) -> Result<()> {
    let lines = "kind = \"none\"\npassive = true\npassive_hold_seconds = 1\npassive_fall = 3";
    let mut farm = Farm::start(mode, 3, |config| config.service(service(lines)))?;
    let down = |farm: &Farm| -> Result<()> {
        let begun = Instant::now();
        let log = farm.agent.log();
        let before = log.matches("backend web/web2 is down: ").count();
        while farm
            .agent
            .log()
            .matches("backend web/web2 is down: ")
            .count()
            == before
        {
            ensure!(begun.elapsed() < PATIENCE, "web2 is not down");
            at_once(&farm.lab, 9, PATIENCE)?;
        }
        Ok(())
    };
    farm.servers[1].stop()?;
    down(&farm)?;
    // On trial.
    await_up(&farm.agent, PATIENCE)?;
    let status = farm.agent.status()?;
    let last = status.backend("web", "web2")?.text("last_check")?;
    ensure!(last.contains("on trial after "), "{last}");
    // It fails at once, by a single connection.
    names(&farm.lab, web(), 3).map_or(Ok(()), |_| Err(anyhow::anyhow!("it answered")))?;
    await_down(&farm.agent, "1 of 1 connection refused")?;
    farm.servers[1].start_again(&farm.lab)?;
    await_up(&farm.agent, PATIENCE)?;
    expect_rotation(&names(&farm.lab, web(), 30)?, &WEBS)?;
    farm.agent
        .await_backend(PATIENCE, ("web", "web2"), "its trial is over", |backend| {
            let last = backend.text("last_check")?;
            ensure!(last == "not checked", "{last}");
            Ok(())
        })
}

fn a_silent_server_leaves_with_direct_return(mode: Mode) -> Result<()> {
    let lab = Segment::new(3)?;
    if mode == Mode::Native {
        lab.receive_native_tx()?;
    }
    let _servers = (1..=3)
        .map(|number| lab.start_nginx(number, 80))
        .collect::<Result<Vec<_>>>()?;
    let service = Service::tcp("web", VIP4, 80, segment_backends(VIP4, 3, 80))
        .key("forwarding", "dsr-l2")
        .check(Check::None)
        .check_lines(format!("{SLOW}\nvia = \"service\""));
    let agent = Agent::start(
        &lab,
        &Config::new(&lab, &["l0".to_owned()], mode).service(service),
    )?;
    expect_rotation(&names(&lab, web(), 30)?, &WEBS)?;
    ensure!(handshakes(agent.status()?.backend("web", "web2")?)? == [10, 0, 0]);
    // A flood beside nothing else: nobody repeats what it asked for.
    forge_syns(&lab, SocketAddrV4::new(VIP4, 80), 2000)?;
    // The service's address does not answer there; a check that asks the server's own would find
    // nothing wrong.
    silence(&lab, "web2", VIP4, 80)?;
    let answers = at_once(&lab, 24, PATIENCE)?;
    for answer in answers {
        let name = answer?;
        ensure!(name != "web2", "it was silent");
    }
    await_down(&agent, " connections unanswered in ")?;
    let status = agent.status()?;
    let [accepted, refused, unanswered] = handshakes(status.backend("web", "web2")?)?;
    ensure!([accepted, refused] == [10, 0], "{status:?}");
    ensure!((5..=8).contains(&unanswered), "{status:?}");
    for other in ["web1", "web3"] {
        let [_, refused, unanswered] = handshakes(status.backend("web", other)?)?;
        ensure!([refused, unanswered] == [0, 0], "{status:?}");
    }
    unsilence(&lab, "web2")?;
    expect_rotation(&names(&lab, web(), 20)?, &["web1", "web3"])
}

/// Servers drop what one client sends, and answer everybody else.
fn a_banned_client_takes_nobody_along(mode: Mode) -> Result<()> {
    let farm = Farm::start(mode, 3, |config| config.service(service(SLOW)))?;
    let [banned, _] = lb_lab::Routed::client_addresses();
    for server in WEBS {
        for line in [
            "add table inet quiet".to_owned(),
            "add chain inet quiet in { type filter hook input priority 0 ; }".to_owned(),
            format!("add rule inet quiet in ip saddr {banned} drop"),
        ] {
            farm.lab.run(server, "nft", &[&line])?;
        }
    }
    let answers = at_once(&farm.lab, 24, Duration::from_secs(5))?;
    ensure!(answers.iter().all(Result::is_err), "{answers:?}");
    let status = farm.agent.status()?;
    for name in WEBS {
        let backend = status.backend("web", name)?;
        let [accepted, refused, unanswered] = handshakes(backend)?;
        ensure!(
            [accepted, refused] == [0, 0] && unanswered >= 5,
            "{backend:?}"
        );
        ensure!(backend.is("in_rotation")?, "{backend:?}");
    }
    let log = farm.agent.log();
    ensure!(!log.contains(" is down: "), "{log}");

    for server in WEBS {
        unsilence(&farm.lab, server)?;
    }
    expect_rotation(&names(&farm.lab, web(), 30)?, &WEBS)
}

/// Though nobody checks it.
fn who_is_down_stays_so_at_a_restart(mode: Mode) -> Result<()> {
    let lines = "kind = \"none\"\npassive = true\npassive_hold_seconds = 4\npassive_fall = 3";
    let mut farm = Farm::start(mode, 3, |config| config.service(service(lines)))?;
    farm.servers[1].stop()?;
    let begun = Instant::now();
    while !farm.agent.log().contains("backend web/web2 is down: ") {
        ensure!(begun.elapsed() < PATIENCE, "web2 is not down");
        at_once(&farm.lab, 9, PATIENCE)?;
    }
    await_down(&farm.agent, " connections refused in ")?;
    farm.agent.kill()?;
    farm.agent.start_again(&farm.lab)?;
    await_down(&farm.agent, "down since before the agent began")?;
    farm.servers[1].start_again(&farm.lab)?;
    await_up(&farm.agent, PATIENCE)?;
    ensure!(
        farm.agent
            .log()
            .contains("backend web/web2 is up, on trial")
    );
    expect_rotation(&names(&farm.lab, web(), 30)?, &WEBS)
}

/// With a rule that a single failure breaks.
fn forged_syns_change_nothing(mode: Mode) -> Result<()> {
    let lines = "kind = \"none\"\npassive = true\npassive_fall = 1\npassive_hold_seconds = 60";
    let farm = Farm::start(mode, 3, |config| config.service(service(lines)))?;
    let SocketAddr::V4(vip) = web() else {
        unreachable!("it is of IPv4")
    };
    // More than there is room for, twice, so that the second time they seem to come again.
    for _ in 0..2 {
        forge_syns(&farm.lab, vip, 20_000)?;
        names(&farm.lab, web(), 30)?;
    }
    let status = farm.agent.status()?;
    ensure!(
        status.service("web")?.number("connections")? >= 20_000,
        "{status:?}"
    );
    for name in WEBS {
        let backend = status.backend("web", name)?;
        ensure!(backend.text("health")? == "up", "{backend:?}");
        ensure!(handshakes(backend)?[1..] == [0, 0], "{backend:?}");
    }
    expect_rotation(&names(&farm.lab, web(), 30)?, &WEBS)
}
