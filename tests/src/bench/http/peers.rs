//! The balancers, each set up for its turn and taken away after it.

use std::env;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_lab::{Lab, Process, Routed, VIP4};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Servers behind each balancer, and how they are reached.
pub(in crate::bench) const SERVERS: u8 = 2;
/// Where they listen.
pub(in crate::bench) const SERVER_PORT: u16 = 8080;

const SIGTERM: i32 = Signal::SIGTERM as i32;

/// How long a balancer may take until it works.
const PATIENCE: Duration = Duration::from_secs(15);

/// A balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Peer {
    /// None: the client's threads go to a server each, by the same way.
    Direct,
    Nftables,
    Haproxy,
    LbNative,
    LbGeneric,
}

impl Peer {
    pub(in crate::bench) const ALL: [Self; 5] = [
        Self::Direct,
        Self::Nftables,
        Self::Haproxy,
        Self::LbNative,
        Self::LbGeneric,
    ];

    pub(in crate::bench) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nftables => "nftables DNAT",
            Self::Haproxy => "HAProxy tcp",
            Self::LbNative => "lb native",
            Self::LbGeneric => "lb generic",
        }
    }

    /// Where the client goes.
    pub(in crate::bench) fn targets(self) -> Vec<SocketAddr> {
        match self {
            Self::Direct => servers().collect(),
            Self::Nftables | Self::Haproxy | Self::LbNative | Self::LbGeneric => {
                vec![SocketAddr::new(VIP4.into(), 80)]
            }
        }
    }

    /// Sets it up. It works when this returns, until the value is dropped.
    pub(in crate::bench) fn start(self, lab: &Routed) -> Result<Balancer<'_>> {
        match self {
            Self::Direct => Ok(Balancer::Nothing),
            Self::Nftables => nftables(lab),
            Self::Haproxy => haproxy(lab),
            Self::LbNative => lb(lab, "native"),
            Self::LbGeneric => lb(lab, "generic"),
        }
    }
}

/// Prepares a lab for all peers in turn.
pub(in crate::bench) fn prepare(lab: &Routed) -> Result<()> {
    // Servers remember the sequence numbers of past connections for a minute. A client that goes
    // to them directly begins with other ones than through the service address, and must not look
    // to them like the same client.
    lab.namespace("client")?.ip_batch(
        "addr add 10.10.0.3/24 dev c0\nroute add 10.20.0.0/16 via 10.10.0.1 src 10.10.0.3\n",
    )?;
    (1..=SERVERS).try_for_each(|number| {
        let server = lab.namespace(&format!("web{number}"))?;
        server.sysctl("net.ipv4.tcp_max_tw_buckets", "2000000")
    })
}

/// What was set up.
#[derive(Debug)]
pub(in crate::bench) enum Balancer<'l> {
    Nothing,
    Ruleset(&'l Lab),
    Program(Process),
}

impl Balancer<'_> {
    /// Its process number, if it is a program.
    pub(in crate::bench) fn pid(&self) -> Option<u32> {
        match self {
            Self::Program(process) => Some(process.pid()),
            Self::Nothing | Self::Ruleset(_) => None,
        }
    }

    /// Takes it away; a program stops by itself when asked to.
    pub(in crate::bench) fn stop(mut self) -> Result<()> {
        if let Self::Program(process) = &mut self {
            let status = process.stop()?;
            // HAProxy in the foreground does not catch the signal.
            let is_clean = status.success() || status.signal() == Some(SIGTERM);
            ensure!(is_clean, "ended with {status}: {}", process.log());
        }
        Ok(())
    }
}

impl Drop for Balancer<'_> {
    fn drop(&mut self) {
        if let Self::Ruleset(lab) = self
            && let Err(error) = lab.run("lb", "nft", &["flush", "ruleset"])
        {
            eprintln!("{error:#}");
        }
    }
}

fn servers() -> impl Iterator<Item = SocketAddr> {
    (1..=SERVERS).map(|number| {
        let [v4, _] = Routed::server_addresses(number);
        SocketAddr::new(v4, SERVER_PORT)
    })
}

fn nftables(lab: &Routed) -> Result<Balancer<'_>> {
    let turns: Vec<_> = servers()
        .enumerate()
        .map(|(turn, server)| format!("{turn} : {}", server.ip()))
        .collect();
    let ruleset = format!(
        "table ip lb {{
    chain prerouting {{
        type nat hook prerouting priority dstnat
        ip daddr {VIP4} tcp dport 80 dnat to numgen inc mod {SERVERS} map {{ {} }} : {SERVER_PORT}
    }}
}}
",
        turns.join(", ")
    );
    let path = write(lab, "nftables.conf", &ruleset)?;
    lab.run("lb", "nft", &["-f", &path])?;
    Ok(Balancer::Ruleset(lab))
}

fn haproxy(lab: &Routed) -> Result<Balancer<'_>> {
    let mut text = format!(
        "global
    maxconn 4000
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend vip
    bind {VIP4}:80 backlog 16384
    default_backend servers
backend servers
    balance roundrobin
"
    );
    for (number, server) in servers().enumerate() {
        text += &format!("    server web{} {server}\n", number + 1);
    }
    let path = write(lab, "haproxy.cfg", &text)?;
    let daemon = Path::new("/usr/sbin/haproxy");
    let program = if daemon.is_file() {
        daemon
    } else {
        Path::new("haproxy")
    };
    let mut command = lab.command("lb", program)?;
    command.args(["-db", "-f", &path]);
    let process = lab.spawn("haproxy", command)?;
    let address = SocketAddr::new(VIP4.into(), 80);
    let connects = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok();
    let answers = |_: &mut Process| lab.within("client", connects);
    wait(process, answers)
}

fn lb<'l>(lab: &'l Routed, mode: &str) -> Result<Balancer<'l>> {
    let program = lb_path();
    ensure!(
        program.is_file(),
        "there is no {}: build lb first",
        program.display()
    );
    let socket = lab.folder().join("bench.sock");
    let socket = socket.to_string_lossy().into_owned();
    let path = write(lab, "lb.toml", &configuration(lab, mode, &socket))?;
    let mut command = lab.command("lb", &program)?;
    command.args(["run", "--config", &path]);
    let process = lab.spawn("lb", command)?;
    let started = wait(process, |_| {
        let status = Command::new(&program)
            .args(["--socket", &socket, "status", "--json"])
            .stderr(Stdio::null())
            .output()?;
        if !status.status.success() {
            return Ok(false);
        }
        is_ready(&serde_json::from_slice(&status.stdout)?, mode)
    })?;
    Ok(started)
}

/// Whether all backends are in rotation and their next hops known, so far as `lb status` says.
fn is_ready(status: &Value, mode: &str) -> Result<bool> {
    let interfaces = status["interfaces"].as_array();
    for interface in interfaces.context("`lb status` names no interfaces")? {
        let found = interface["xdp_mode"].as_str();
        ensure!(
            found == Some(mode),
            "lb runs in mode {found:?} and not {mode}"
        );
    }
    let backends = status["services"][0]["backends"].as_array();
    let backends = backends.context("`lb status` names no backends")?;
    Ok(backends
        .iter()
        .all(|backend| backend["in_rotation"] == true))
}

fn configuration(lab: &Routed, mode: &str, socket: &str) -> String {
    let mut text = format!(
        r#"[agent]
interfaces = {interfaces:?}
xdp_mode = "{mode}"
pin_path = "{pins}"
on_exit = "detach"
state_file = "{state}"

[admin]
socket = "{socket}"

[[service]]
name = "web"
address = "{VIP4}"
port = 80

[service.health_check]
kind = "none"
"#,
        interfaces = lab.balancer_interfaces(),
        pins = lab.pins().join("bench").display(),
        state = lab.folder().join("bench-state.json").display(),
    );
    for (number, server) in servers().enumerate() {
        let (ip, port): (IpAddr, u16) = (server.ip(), server.port());
        text += &format!(
            "\n[[service.backend]]\nname = \"web{}\"\naddress = \"{ip}\"\nport = {port}\n",
            number + 1
        );
    }
    text
}

/// The program under test: what `LB_BIN` says, or what was built in this workspace.
fn lb_path() -> PathBuf {
    env::var_os("LB_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target/release/lb"),
        PathBuf::from,
    )
}

fn write(lab: &Lab, name: &str, text: &str) -> Result<String> {
    let path = lab.folder().join(name);
    fs::write(&path, text)?;
    Ok(path.to_string_lossy().into_owned())
}

/// Waits until a program works.
fn wait<'l>(
    mut process: Process,
    works: impl Fn(&mut Process) -> Result<bool>,
) -> Result<Balancer<'l>> {
    let deadline = Instant::now() + PATIENCE;
    while process.is_running() && Instant::now() < deadline {
        if works(&mut process)? {
            return Ok(Balancer::Program(process));
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("it does not work: {}", process.log())
}
