//! The way that checks with `via = "service"` take: what befalls it, what it leaves behind, and
//! starts, which have to make it first.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use lb_lab::{Lab, Routed, VIP4, VIP6, get};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Agent, Check, Config, Farm, Mode, Service, await_until, routed_backends};

use crate::check_service::{DEADLINE, HTTP, says, traces};
use crate::{new_layout::pretend, web};

in_both_modes!(what_befalls_the_way_befalls_no_backend);

/// What somebody does to the way of checks, and what is said of it.
const DAMAGES: [(&str, &str); 5] = [
    ("link del lbcheck0", "lbcheck0 is gone"),
    ("link set lbcheck0 down", "lbcheck0 is down"),
    ("link set lbcheck1 down", "lbcheck1 is down"),
    ("-6 rule del oif lbcheck0", "its route or its rule of IPv6"),
    (
        "-6 route flush table 27746",
        "its route or its rule of IPv6",
    ),
];

/// Nobody goes down for it, it is said, and there is another way soon.
fn what_befalls_the_way_befalls_no_backend(mode: Mode) -> Result<()> {
    // A single failure would show.
    let check = format!("{HTTP}\ninterval_seconds = 0.2\ntimeout_seconds = 0.5\nfall = 1");
    let service = |name: &str, vip: IpAddr| {
        Service::tcp(name, vip, 80, routed_backends(vip, 2, 8080))
            .check(Check::None)
            .check_lines(&*check)
    };
    let farm = Farm::start(mode, 2, |config| {
        config
            .service(service("web", VIP4.into()))
            .service(service("web6", VIP6.into()))
    })?;
    let all = [
        ("web", "web1"),
        ("web", "web2"),
        ("web6", "web1"),
        ("web6", "web2"),
    ];
    let expect_up = || {
        all.into_iter()
            .try_for_each(|of| says(&farm.agent, of, "up", "through the service"))
    };
    expect_up()?;
    let namespace = farm.lab.namespace("lb")?;
    let count = |words: &str| farm.agent.log().matches(words).count();
    for (number, (damage, words)) in DAMAGES.into_iter().enumerate() {
        namespace.ip(damage)?;
        let what = format!("{damage} is made good");
        await_until(DEADLINE, &what, || {
            ensure!(farm.agent.log().contains(words), "{words} is not said");
            let found = count("have a way again");
            ensure!(found == number + 1, "{found} times");
            Ok(())
        })?;
        expect_up()?;
    }
    ensure!(traces(&farm.lab)?.len() == 3, "{:?}", traces(&farm.lab)?);

    // Who reloads meanwhile is not refused.
    namespace.ip("link del lbcheck0")?;
    farm.agent.asked(&["reload"])?.expect_success()?;
    expect_up()?;
    let log = farm.agent.log();
    ensure!(count("have no way") <= DAMAGES.len() + 1, "{log}");
    ensure!(!log.contains(" is down: "), "{log}");
    Ok(())
}

/// How many connections of the balancer's wait for their last packets to pass away.
fn waiting(lab: &Lab) -> Result<usize> {
    // TIME_WAIT; a thread has its own namespace.
    const WAITING: &str = "06";
    let table = lab.within("lb", || fs::read_to_string("/proc/thread-self/net/tcp"))??;
    let waiting = table
        .lines()
        .filter(|line| line.split_whitespace().nth(3) == Some(WAITING));
    Ok(waiting.count())
}

/// Answers a request of HTTP, and leaves it to the client to end the connection.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 1024];
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => request.extend_from_slice(&buffer[..length]),
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Connections of checks leave no port behind that waits for a minute, and which nobody else could
/// have.
#[test]
fn many_checks_keep_no_ports() -> Result<()> {
    const SERVICES: u16 = 80;
    const LONG: Duration = Duration::from_secs(4);
    let lab = Farm::wired(Mode::Generic, 1)?;
    let [address, _] = Routed::server_addresses(1);
    let listener = lab.within("web1", || TcpListener::bind(SocketAddr::new(address, 8080)))??;
    for _ in 0..8 {
        let listener = listener.try_clone()?;
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                // The client ends it as it likes.
                let _ = answer(stream);
            }
        });
    }
    let config = (0..SERVICES).fold(Farm::config(&lab, Mode::Generic), |config, number| {
        let name = format!("web{number}");
        let backends = routed_backends(VIP4, 1, 8080);
        config.service(
            Service::tcp(&name, VIP4, 80 + number, backends)
                .check(Check::None)
                .check_lines(format!("{HTTP}\ninterval_seconds = 0.1")),
        )
    });
    let agent = Agent::start(&lab, &config)?;
    for number in 0..SERVICES {
        says(&agent, (&format!("web{number}"), "web1"), "up", "HTTP 200")?;
    }
    let checks = || agent.status()?.verdict("steered_check");
    let (began, before) = (Instant::now(), checks()?);
    thread::sleep(LONG);
    // From SYN to RST there are four packets at least.
    let rate = (checks()? - before) as f64 / began.elapsed().as_secs_f64();
    ensure!(rate > 2000.0, "only {rate} packets of checks per second");
    let waiting = waiting(&lab)?;
    eprintln!("{rate:.0} packets of checks per second, {waiting} ports wait");
    ensure!(waiting < 20, "{waiting} ports wait");
    for number in 0..SERVICES {
        says(&agent, (&format!("web{number}"), "web1"), "up", "HTTP 200")?;
    }
    Ok(())
}

/// Has a server drop the balancer's checks, and nothing of clients.
fn hide_from_checks(lab: &Lab, number: u8) -> Result<()> {
    for line in [
        "add table inet quiet".to_owned(),
        "add chain inet quiet in { type filter hook input priority 0 ; }".to_owned(),
        format!("add rule inet quiet in ip saddr 10.20.{number}.1 tcp dport 8080 drop"),
    ] {
        lab.run(&format!("web{number}"), "nft", &[&line])?;
    }
    Ok(())
}

/// A service whose checks take their time to fail.
fn patient(lab: &Routed) -> Config {
    let check = format!("{HTTP}\ninterval_seconds = 5\ntimeout_seconds = 3\nfall = 2");
    let service = Farm::web(2).check(Check::None).check_lines(check);
    Farm::config(lab, Mode::Generic)
        .agent("on_exit", "keep")
        .service(service)
}

fn asks(lab: &Lab) -> Result<bool> {
    let asked = lab.within("client", || get(web(), "/", Duration::from_millis(300)))?;
    Ok(asked.is_ok_and(|answer| answer.backend.is_some()))
}

/// At a first start, clients need not wait for the check of a server that does not answer it.
#[test]
fn whose_check_passes_serves_at_once() -> Result<()> {
    let lab = Farm::wired(Mode::Generic, 2)?;
    let _servers = Farm::nginx(&lab)?;
    hide_from_checks(&lab, 2)?;
    let config = patient(&lab);
    let (served, ready) = thread::scope(|scope| {
        let client = scope.spawn(|| -> Result<Instant> {
            let begun = Instant::now();
            while !asks(&lab)? {
                ensure!(begun.elapsed() < DEADLINE, "nobody served");
            }
            Ok(Instant::now())
        });
        let agent = Agent::start(&lab, &config);
        let ready = Instant::now();
        let served = client.join().map_err(|_| anyhow!("a client panicked"))??;
        agent.map(|_| (served, ready))
    })?;
    let before = ready.saturating_duration_since(served);
    eprintln!("served {before:?} before the agent was ready");
    ensure!(before > Duration::from_secs(1), "served {before:?} before");
    Ok(())
}

/// Servers that served go on until their check says something else, also in tables that replace
/// others.
#[test]
fn replaced_tables_keep_who_served() -> Result<()> {
    let lab = Farm::wired(Mode::Generic, 2)?;
    let _servers = Farm::nginx(&lab)?;
    let mut agent = Agent::start(&lab, &patient(&lab))?;
    for backend in ["web1", "web2"] {
        says(&agent, ("web", backend), "up", "through the service")?;
    }
    agent.stop()?;
    pretend(agent.pins(), 2)?;
    hide_from_checks(&lab, 1)?;
    hide_from_checks(&lab, 2)?;
    let replacing = patient(&lab).agent("on_new_layout", "replace");
    fs::write(agent.config_file(), replacing.text())?;
    let is_over = AtomicBool::new(false);
    let (all, failed) = thread::scope(|scope| {
        let client = scope.spawn(|| -> Result<(u32, u32)> {
            let (mut all, mut failed) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                all += 1;
                failed += u32::from(!asks(&lab)?);
            }
            Ok((all, failed))
        });
        let started = agent.start_again(&lab);
        is_over.store(true, Ordering::Relaxed);
        let counted = client.join().map_err(|_| anyhow!("a client panicked"))??;
        started.map(|()| counted)
    })?;
    agent.await_log(&["of layout version 2, were replaced by new ones"])?;
    eprintln!("{failed} of {all} requests failed");
    // Some may have been on their way while the program was replaced.
    ensure!(all > 50 && failed <= 5, "{failed} of {all} requests failed");
    Ok(())
}
