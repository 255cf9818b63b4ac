//! No backend is left: the client is told at once, or not at all, as the service has it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_lab::{VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Agent, Farm, Mode, Service, expect_rotation, names, routed_backends};

use crate::{WEBS, web};

in_both_modes!(
    reset_refuses_at_once,
    unreachable_says_so,
    drop_is_silent_and_counted
);

/// Well under the second after which a SYN is sent again.
const AT_ONCE: Duration = Duration::from_millis(700);
/// After the first repetition of a SYN, and before the second.
const WITH_THE_SECOND_SYN: Duration = Duration::from_millis(1400);

/// Connects from the client and says how long the failure took.
fn failure(farm: &Stage, address: SocketAddr) -> Result<(io::Error, Duration)> {
    farm.lab.within("client", || {
        let began = Instant::now();
        let error = TcpStream::connect_timeout(&address, Duration::from_millis(1500))
            .err()
            .context("there was a connection, and nobody to connect to")?;
        Ok((error, began.elapsed()))
    })?
}

/// As a farm, but nobody serves.
struct Stage {
    agent: Agent,
    lab: lb_lab::Routed,
}

/// The services `web` and `web6`, and `dns` over UDP, all without a living backend.
fn stage(mode: Mode, policy: &str) -> Result<Stage> {
    let lab = Farm::wired(mode, 3)?;
    let service6 = Service::tcp("web6", VIP6, 80, routed_backends(VIP6, 3, 8080));
    // Nobody is at those addresses, so the backends stay out of rotation without any check.
    let mut nowhere = routed_backends(VIP4, 1, 53);
    for backend in &mut nowhere {
        backend.address = "10.20.1.77".parse()?;
    }
    let dns = Service::udp("dns", VIP4, 53, nowhere);
    let mut config = Farm::config(&lab, mode);
    for service in [Farm::web(3), service6, dns] {
        config = config.service(service.key("on_no_backend", policy));
    }
    let agent = Agent::start(&lab, &config)?;
    for service in ["web", "web6", "dns"] {
        let what = "nothing is in rotation";
        let deadline = Duration::from_secs(10);
        agent.await_service(deadline, service, what, |service| {
            service.expect_in_rotation(0)
        })?;
    }
    Ok(Stage { agent, lab })
}

fn vips() -> [SocketAddr; 2] {
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    vips.map(|vip| SocketAddr::new(vip, 80))
}

fn reset_refuses_at_once(mode: Mode) -> Result<()> {
    let stage = stage(mode, "reset")?;
    for vip in vips() {
        let (error, took) = failure(&stage, vip)?;
        ensure!(
            error.kind() == ErrorKind::ConnectionRefused,
            "{vip}: {error}"
        );
        ensure!(took < AT_ONCE, "{vip}: refused after {took:?}");
    }
    let status = stage.agent.status()?;
    ensure!(
        status.verdict("answered_reset_no_backend")? == 2,
        "{status:?}"
    );
    status.service("web")?.expect("connections", &[0, 0, 0])?;

    // The first that comes serves, and then all do.
    let _servers = Farm::nginx(&stage.lab)?;
    let deadline = Duration::from_secs(10);
    stage
        .agent
        .await_service(deadline, "web", "all are in rotation", |service| {
            service.expect_in_rotation(3)
        })?;
    expect_rotation(&names(&stage.lab, web(), 9)?, &WEBS)
}

fn unreachable_says_so(mode: Mode) -> Result<()> {
    let stage = stage(mode, "unreachable")?;
    for vip in vips() {
        let (error, took) = failure(&stage, vip)?;
        let kinds = [
            ErrorKind::ConnectionRefused,
            ErrorKind::HostUnreachable,
            ErrorKind::PermissionDenied,
        ];
        ensure!(kinds.contains(&error.kind()), "{vip}: {error}");
        // The answer to the first SYN is there before the client's `connect` has let go of the
        // socket, and IPv6 does not heed it then (`LockDroppedIcmps`).
        let limit = if vip.is_ipv4() {
            AT_ONCE
        } else {
            WITH_THE_SECOND_SYN
        };
        ensure!(took < limit, "{vip}: told after {took:?}");
    }
    let error = ask_dns(&stage)?;
    ensure!(error.kind() == ErrorKind::ConnectionRefused, "UDP: {error}");
    let status = stage.agent.status()?;
    let answers = status.verdict("answered_unreachable_no_backend")?;
    ensure!((3..=4).contains(&answers), "{answers} answers: {status:?}");
    Ok(())
}

fn drop_is_silent_and_counted(mode: Mode) -> Result<()> {
    let stage = stage(mode, "drop")?;
    for vip in vips() {
        let (error, _) = failure(&stage, vip)?;
        ensure!(error.kind() == ErrorKind::TimedOut, "{vip}: {error}");
    }
    let error = ask_dns(&stage)?;
    ensure!(error.kind() == ErrorKind::WouldBlock, "UDP: {error}");
    let status = stage.agent.status()?;
    // A SYN and its repetition after a second each, and a datagram.
    ensure!(status.verdict("drop_no_backend")? == 5, "{status:?}");
    Ok(())
}

/// Asks over UDP, and returns why there is no answer.
fn ask_dns(stage: &Stage) -> Result<io::Error> {
    stage.lab.within("client", || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(AT_ONCE))?;
        socket.connect(SocketAddr::new(VIP4.into(), 53))?;
        socket.send(b"?")?;
        socket
            .recv(&mut [0; 100])
            .err()
            .context("somebody answered")
    })?
}
