//! `syn_cookies`: while forged SYNs come in, real clients connect, those that are connected notice
//! nothing, and the servers see hardly any of it.

use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use lb_lab::{Lab, Routed, Segment, VIP4, get};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, EchoClient, Farm, Mode, Server, Service, Session, checksum_errors,
    forge_syns, greeting, routed_backends, segment_backends,
};

use crate::{bulk::content, web};

in_both_modes!(
    browsing_goes_on_in_a_flood,
    servers_that_speak_first_are_reached,
    full_nat_has_them_too
);

/// Half-open connections from which on there are cookies.
const THRESHOLD: u32 = 32;
/// Forged SYNs between two looks whether that is enough.
const ROUND: u32 = 2_000;
/// Pages of new connections.
const PAGES: usize = 100;
/// How long one may take.
const AT_MOST: Duration = Duration::from_secs(1);
const PORT: u16 = 7;

/// Does something while somebody sends forged SYNs to the service.
fn flooded<T: Send>(
    lab: &Lab,
    service: SocketAddrV4,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    // Enough of them for cookies to begin.
    forge_syns(lab, service, ROUND)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                forge_syns(lab, service, ROUND)?;
            }
            Ok(())
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| anyhow!("the flood ended"))??;
        done
    })
}

/// Asks for pages on new connections; 99 of 100 are in time.
fn browse(lab: &Lab, address: SocketAddr) -> Result<()> {
    let mut late = Vec::new();
    for _ in 0..PAGES {
        let began = Instant::now();
        let answer = lab.within("client", || get(address, "/", 5 * AT_MOST))??;
        ensure!(answer.status == 200, "HTTP {}", answer.status);
        if began.elapsed() > AT_MOST {
            late.push(began.elapsed());
        }
    }
    ensure!(late.len() * 100 <= PAGES, "late: {late:?}");
    Ok(())
}

/// The servers got what real clients asked for, and of the flood what the threshold lets through.
fn expect_few(agent: &Agent, service: &str, real: u64) -> Result<()> {
    let status = agent.status()?;
    let cookies = status.verdict("answered_syn_cookie")?;
    ensure!(cookies > u64::from(ROUND) / 2, "{cookies} cookies");
    let begun = status.verdict("answered_for_client")?;
    ensure!(begun >= real, "{begun} of {real} began by a cookie");
    let connections = status.service(service)?.number("connections")?;
    // The count of half-open ones is corrected once a second, and two processors may look at once.
    let most = real + 4 * u64::from(THRESHOLD);
    ensure!(connections <= most, "{connections} connections, of {real}");
    let evicted = status.event("half_open_evicted")?;
    ensure!(evicted == 0, "{evicted} half-open flows were displaced");
    Ok(())
}

fn browsing_goes_on_in_a_flood(mode: Mode) -> Result<()> {
    let farm = Farm::start(mode, 2, |config| {
        config.service(Farm::web(2).number("syn_cookies", THRESHOLD))
    })?;
    let content = content();
    for server in &farm.servers {
        fs::write(server.root().join("big"), &content)?;
    }
    let mut before = Session::open(&farm.lab, web())?;
    let own = before.name()?;
    flooded(&farm.lab, SocketAddrV4::new(VIP4, 80), || {
        browse(&farm.lab, web())?;
        // All of its numbers are shifted.
        let answer = farm
            .lab
            .within("client", || get(web(), "/big", Duration::from_secs(10)))??;
        ensure!(answer.body == content, "{} bytes came", answer.body.len());
        // Who was connected before is not touched.
        ensure!(before.name()? == own, "another server");
        Ok(())
    })?;
    ensure!(before.name()? == own, "another server");
    expect_few(&farm.agent, "web", PAGES as u64 + 1)?;
    for namespace in ["client", "lb", "web1", "web2"] {
        let errors = checksum_errors(&farm.lab, namespace)?;
        ensure!(errors == 0, "{errors} wrong checksums in {namespace}");
    }
    Ok(())
}

/// The client waits for the server's first word, so nothing but the balancer's own acknowledgement
/// completes the handshake.
fn servers_that_speak_first_are_reached(mode: Mode) -> Result<()> {
    const CLIENTS: u64 = 20;
    let farm = Farm::start(mode, 1, |config| {
        let backends = routed_backends(VIP4, 1, PORT);
        config.service(Farm::web(1)).service(
            Service::tcp("first", VIP4, PORT, backends)
                .check(Check::None)
                .number("syn_cookies", THRESHOLD),
        )
    })?;
    let listen = Routed::server_addresses(1).map(|address| SocketAddr::new(address, PORT));
    let _server = Server::greeter(&farm.lab, "web1", &listen)?;
    let address = SocketAddr::new(IpAddr::V4(VIP4), PORT);
    flooded(&farm.lab, SocketAddrV4::new(VIP4, PORT), || {
        for _ in 0..CLIENTS {
            let began = Instant::now();
            let word = farm.lab.within("client", || greeting(address))??;
            ensure!(word == "web1", "{word} speaks");
            ensure!(began.elapsed() < AT_MOST, "{:?}", began.elapsed());
        }
        Ok(())
    })?;
    expect_few(&farm.agent, "first", CLIENTS)
}

fn full_nat_has_them_too(mode: Mode) -> Result<()> {
    const CLIENTS: u64 = 20;
    let lab = Segment::new(1)?;
    if mode == Mode::Native {
        lab.receive_native_tx()?;
    }
    let own = Segment::balancer_addresses()[0];
    let service = Service::tcp("echo", VIP4, PORT, segment_backends(VIP4, 1, PORT))
        .key("forwarding", "full-nat")
        .raw("source_addresses", &format!("[\"{own}\"]"))
        .number("syn_cookies", THRESHOLD)
        .check(Check::None);
    let listen = Segment::server_addresses(1).map(|address| SocketAddr::new(address, PORT));
    let _server = Server::echo(&lab, "web1", &listen)?;
    let agent = Agent::start(
        &lab,
        &Config::new(&lab, &["l0".to_owned()], mode).service(service),
    )?;
    let address = SocketAddr::new(IpAddr::V4(VIP4), PORT);
    flooded(&lab, SocketAddrV4::new(VIP4, PORT), || {
        for number in 0..CLIENTS {
            let mut client = lab.within("client", || EchoClient::open(address))??;
            for word in ["one", "two", "three"] {
                client.ask(&format!("{word} {number}"))?;
            }
        }
        Ok(())
    })?;
    expect_few(&agent, "echo", CLIENTS)
}
