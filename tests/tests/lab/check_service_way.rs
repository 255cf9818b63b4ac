//! The way that checks with `via = "service"` take: what befalls it, what it leaves behind, and
//! starts, which have to make it first.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lb_lab::{Lab, Routed, VIP4};
use lb_tests::scenario::{Agent, Check, Farm, Mode, Service, routed_backends};

use crate::check_service::{HTTP, says};

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
