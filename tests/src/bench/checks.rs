//! What it costs to check ten thousand backends each second.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lb_lab::{Routed, VIP4};
use nix::sys::socket::{Backlog, listen};

use crate::{
    bench::{
        Effort,
        conditions::Conditions,
        report::{Bar, Measure, Report, Row, Samples},
    },
    scenario::{Agent, Backend, Check, Farm, Mode, Service},
};

const BACKENDS: u16 = 10_000;
const PORT: u16 = 9000;
/// All of its addresses are one server's.
const NETWORK: [u8; 2] = [10, 90];
/// Until every backend is up and the checks are in their rhythm.
const SETTLE: Duration = Duration::from_secs(60);
const SPAN: Duration = Duration::from_secs(5);
/// In which the kernel counts the time of processes.
const TICKS_PER_SECOND: f64 = 100.0;

/// Lets an agent check by TCP, each backend once a second.
///
/// # Errors
/// When a backend that answers is not up.
pub fn run(effort: Effort) -> Result<Report> {
    let begin = Conditions::now();
    let lab = Farm::wired(Mode::Native, 1)?;
    let accepted = accept(&lab)?;
    let [a, b] = NETWORK;
    let [server, _] = Routed::server_addresses(1);
    let network = format!("{a}.{b}.0.0/16");
    lab.namespace("web1")?
        .ip(&format!("route add local {network} dev lo"))?;
    lab.namespace("lb")?
        .ip(&format!("route add {network} via {server}"))?;
    let backends = (0..BACKENDS)
        .map(|number| Backend {
            name: format!("b{number}"),
            address: Ipv4Addr::new(a, b, (number / 250) as u8, (number % 250 + 1) as u8).into(),
            port: PORT,
            weight: 1,
            is_backup: false,
        })
        .collect();
    let service = Service::tcp("many", VIP4, 80, backends)
        .check(Check::None)
        .check_lines("kind = \"tcp\"\ninterval_seconds = 1.0\ntimeout_seconds = 1.0");
    let agent = Agent::start(&lab, &Farm::config(&lab, Mode::Native).service(service))?;
    agent.await_service(SETTLE, "many", "every backend is up", |service| {
        service.expect_in_rotation(BACKENDS.into())
    })?;
    let mut cpu = row("CPU of the agent, of one core", Some(100.0));
    let mut rate = row("checks each second, by hundred", None);
    for round in 0..effort.rounds(5) {
        eprintln!("checks: round {}", round + 1);
        let (start, checks, time) = (
            Instant::now(),
            accepted.load(Ordering::Relaxed),
            ticks(&agent)?,
        );
        thread::sleep(SPAN);
        let span = start.elapsed().as_secs_f64();
        let (checks, time) = (
            accepted.load(Ordering::Relaxed) - checks,
            ticks(&agent)? - time,
        );
        cpu.samples.push(time / TICKS_PER_SECOND / span * 100.0);
        rate.samples.push(checks as f64 / span / 100.0);
    }
    let status = agent.status()?;
    let service = status.service("many")?;
    service.expect_in_rotation(BACKENDS.into())?;
    cpu.details = vec![
        ("resident MiB", resident(&agent)?, 1),
        ("bar MiB", 200.0, 0),
    ];
    Ok(Report {
        name: "checks",
        unit: "%",
        decimals: 1,
        notes: vec![format!(
            "{BACKENDS} backends, each checked by TCP once a second over veth; what the kernel does \
             for the connections, the server's side included, is charged to the agent too"
        )],
        rows: vec![cpu, rate],
        conditions: (begin, Conditions::now()),
    })
}

/// Accepts connections on every address of the server, and counts them.
fn accept(lab: &Routed) -> Result<Arc<AtomicU64>> {
    let listener = lab.within("web1", || TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))??;
    listen(&listener, Backlog::new(4096)?)?;
    let accepted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&accepted);
    thread::spawn(move || {
        // A connection that was reset is one as well.
        while listener.accept().is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok(accepted)
}

fn row(name: &str, limit: Option<f64>) -> Row {
    let bars = limit.map(|limit| Bar::AtMost(Measure::Value, limit));
    Row {
        name: name.to_owned(),
        samples: Samples::default(),
        bars: bars.into_iter().collect(),
        ..Row::default()
    }
}

/// CPU time of the agent, its own and the kernel's.
fn ticks(agent: &Agent) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid()))?;
    let (_, after_name) = stat.rsplit_once(") ").context("no name")?;
    let times: Vec<f64> = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|number| number.parse().ok())
        .collect();
    ensure!(times.len() == 2, "{stat}");
    Ok(times.iter().sum())
}

fn resident(agent: &Agent) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("no VmRSS")?
        .parse()?;
    Ok(kib / 1024.0)
}
