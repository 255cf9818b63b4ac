//! Jumbo frames, MTU 9,000 everywhere: they take several buffers natively, and pass both ways.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lb_lab::{Lab, Routed, Segment, VIP4, VIP6, get};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, Farm, Mode, PATIENCE, Server, Service, Status, await_until, binary,
    checksum_errors, routed_backends, segment_backends, upload,
};
use serde_json::Value;

use crate::bulk;

in_both_modes!(
    large_frames_through_nat,
    large_frames_by_direct_return,
    twins_and_a_new_agent_fit_too
);

const MTU: u32 = 9000;
const DOWN: u16 = 80;
const UP: u16 = 8081;
const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];
/// No packet is larger with the usual MTU. How far above it the average is depends on how the
/// sender's window cuts what it sends.
const LARGE: u64 = 1500;

fn enlarge(lab: &Lab, interfaces: &[(&str, &str)]) -> Result<()> {
    interfaces.iter().try_for_each(|(namespace, interface)| {
        lab.namespace(namespace)?
            .ip(&format!("link set dev {interface} mtu {MTU}"))
            .map(drop)
    })
}

fn routed(mode: Mode) -> Result<Routed> {
    let lab = Farm::wired(mode, 1)?;
    let ends = [
        ("client", "c0"),
        ("lb", "lc"),
        ("lb", "lb1"),
        ("web1", "e1"),
    ];
    enlarge(&lab, &ends)?;
    Ok(lab)
}

/// The services `down4`, `down6`, `up4` and `up6`.
fn both_ways(config: Config, make: impl Fn(&str, IpAddr, u16) -> Service) -> Config {
    ["4", "6"]
        .into_iter()
        .zip(VIPS)
        .fold(config, |config, (family, vip)| {
            config
                .service(make(&format!("down{family}"), vip, DOWN))
                .service(make(&format!("up{family}"), vip, UP).check(Check::None))
        })
}

/// Takes the content down from and up to every VIP.
fn transfer(lab: &Lab, content: &[u8]) -> Result<()> {
    for vip in VIPS {
        let down = SocketAddr::new(vip, DOWN);
        let answer = lab.within("client", || get(down, "/big", PATIENCE))??;
        ensure!(answer.status == 200, "HTTP {}", answer.status);
        ensure!(answer.body == content, "other bytes came down from {vip}");
        lab.within("client", || upload(SocketAddr::new(vip, UP), content))??;
    }
    for namespace in ["client", "lb", "web1"] {
        let errors = checksum_errors(lab, namespace)?;
        ensure!(errors == 0, "{errors} wrong checksums in {namespace}");
    }
    Ok(())
}

/// Checks that what a service counted was mostly large.
fn expect_large(status: &Status, service: &str, bytes: &str, packets: &str) -> Result<()> {
    let sum = |key| Ok::<u64, anyhow::Error>(status.service(service)?.each(key)?.iter().sum());
    let (bytes, packets) = (sum(bytes)?, sum(packets)?);
    let mean = bytes.checked_div(packets).context("no packets")?;
    eprintln!("{service}: {packets} packets of {mean} bytes on average");
    ensure!(
        mean > LARGE,
        "{service}: {packets} packets of {mean} bytes on average"
    );
    Ok(())
}

fn expect_mode(agent: &Agent, mode: Mode) -> Result<()> {
    for interface in agent.status()?.interfaces()? {
        ensure!(interface.ends_with(mode.word()), "{interface}");
    }
    let says_so = agent.log().contains("take several buffers");
    ensure!(says_so == (mode == Mode::Native), "{}", agent.log());
    Ok(())
}

fn large_frames_through_nat(mode: Mode) -> Result<()> {
    let lab = routed(mode)?;
    let servers = Farm::nginx(&lab)?;
    let content = bulk::content();
    fs::write(servers[0].root().join("big"), &content)?;
    let listen = Routed::server_addresses(1).map(|address| SocketAddr::new(address, UP));
    let _server = Server::digest(&lab, "web1", &listen)?;
    let config = both_ways(Farm::config(&lab, mode), |name, vip, port| {
        let backend = if port == DOWN { 8080 } else { port };
        Service::tcp(name, vip, port, routed_backends(vip, 1, backend))
    });
    let agent = Agent::start(&lab, &config)?;
    expect_mode(&agent, mode)?;
    transfer(&lab, &content)?;
    let status = agent.status()?;
    status.expect_no_drops()?;
    for family in ["4", "6"] {
        expect_large(&status, &format!("up{family}"), "bytes", "packets")?;
        let down = format!("down{family}");
        expect_large(&status, &down, "reply_bytes", "reply_packets")?;
    }
    Ok(())
}

fn large_frames_by_direct_return(mode: Mode) -> Result<()> {
    let lab = Segment::new(1)?;
    if mode == Mode::Native {
        lab.receive_native_tx()?;
    }
    let ends = [
        ("pl", "lb", "l0"),
        ("pc", "client", "c0"),
        ("p1", "web1", "e1"),
    ];
    for (port, namespace, end) in ends {
        enlarge(&lab, &[("switch", port), (namespace, end)])?;
    }
    enlarge(&lab, &[("switch", "br0")])?;
    let server = lab.start_nginx(1, DOWN)?;
    let content = bulk::content();
    fs::write(server.root().join("big"), &content)?;
    let _server = Server::digest(&lab, "web1", &VIPS.map(|vip| SocketAddr::new(vip, UP)))?;
    let config = Config::new(&lab, &["l0".to_owned()], mode);
    let config = both_ways(config, |name, vip, port| {
        Service::tcp(name, vip, port, segment_backends(vip, 1, port)).key("forwarding", "dsr-l2")
    });
    let agent = Agent::start(&lab, &config)?;
    expect_mode(&agent, mode)?;
    transfer(&lab, &content)?;
    let status = agent.status()?;
    status.expect_no_drops()?;
    expect_large(&status, "up4", "bytes", "packets")?;
    expect_large(&status, "up6", "bytes", "packets")
}

fn program(agent: &Agent) -> Result<Value> {
    let said = agent.asked(&["status", "--json"])?.expect_success()?;
    let status: Value = serde_json::from_str(&said)?;
    Ok(status["interfaces"][0]["program_id"].clone())
}

/// `lb capture` and `lb why` use twins of the program, which have to fit where it does; so does the
/// program of an agent that takes over.
fn twins_and_a_new_agent_fit_too(mode: Mode) -> Result<()> {
    let lab = routed(mode)?;
    let listen = Routed::server_addresses(1).map(|address| SocketAddr::new(address, UP));
    let _server = Server::digest(&lab, "web1", &listen)?;
    let service = Service::tcp("up4", VIP4, UP, routed_backends(VIP4, 1, UP)).check(Check::None);
    let config = Farm::config(&lab, mode).service(service);
    let mut agent = Agent::start(&lab, &config)?;
    let to = SocketAddr::new(VIPS[0], UP);
    let content = bulk::content();
    let upload = || lab.within("client", || upload(to, &content))?;

    let file = lab.folder().join("jumbo.pcapng");
    let mut command = Command::new(binary()?);
    command.arg("capture").arg("--socket").arg(agent.socket());
    command.arg("--write").arg(&file).args(["--count", "100"]);
    let before = program(&agent)?;
    let mut capture = lab.spawn("capture", command)?;
    await_until(PATIENCE, "the capture is at work", || {
        ensure!(program(&agent)? != before, "not yet");
        Ok(())
    })?;
    upload()?;
    let ended = capture.wait(PATIENCE).context("the capture goes on")?;
    ensure!(ended.success(), "{ended}: {}", capture.log());
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(&file);
    let output = command
        .args(["-T", "fields", "-e", "frame.len"])
        .output()
        .context("tshark")?;
    let lengths = String::from_utf8(output.stdout)?;
    ensure!(
        lengths.lines().any(|length| length == "9014"),
        "no whole length among {lengths}"
    );

    let (from, to) = (
        SocketAddr::new(Routed::client_addresses()[0], 5000),
        to.to_string(),
    );
    let said = agent.asked(&["why", "--json", "--from", &from.to_string(), "--to", &to])?;
    let answer: Value = serde_json::from_str(&said.expect_success()?)?;
    ensure!(answer["verdict"] == "steered", "{answer:#}");

    agent.kill()?;
    upload()?;
    agent.start_again(&lab)?;
    expect_mode(&agent, mode)?;
    upload()?;
    let status = agent.status()?;
    status.expect_no_drops()?;
    expect_large(&status, "up4", "bytes", "packets")
}
