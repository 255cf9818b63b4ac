//! The agent's own times and memory: how soon it is ready, how long a reload takes while a load runs,
//! how large it is, how long its pages take.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lb_lab::{Lab, Nginx, Routed, VIP4};

use crate::{
    bench::{
        Effort,
        conditions::Conditions,
        report::{Bar, Measure, Report, Row, Samples},
    },
    scenario::{
        Agent, Backend, Check, Config, Farm, Mode, Service, binary, routed_backends, while_loading,
    },
};

/// Services, and backends of each, of a large config.
const LARGE: (u16, u16) = (1000, 10);
/// The first port of its services.
const FIRST_PORT: u16 = 10_000;

/// Starts agents with small and large configs, and reloads the large one.
///
/// # Errors
/// When an agent does not do what it should.
pub fn run(effort: Effort) -> Result<Report> {
    let begin = Conditions::now();
    let lab = Farm::wired(Mode::Native, 3)?;
    let _servers: Vec<Nginx> = Farm::nginx(&lab)?;
    let rounds = effort.rounds(5);
    let mut rows = small(&lab, rounds)?;
    rows.extend(large(&lab, rounds)?);
    Ok(Report {
        name: "agent",
        unit: "ms",
        decimals: 1,
        notes: vec![format!(
            "large: {} services with {} backends each, which are not checked; one of them is \
             served to a client that connects over and over while the agent reloads, and no \
             request may fail; resident memory without the kernel's tables",
            LARGE.0, LARGE.1
        )],
        rows,
        conditions: (begin, Conditions::now()),
    })
}

fn small(lab: &Routed, rounds: usize) -> Result<Vec<Row>> {
    let config = Farm::config(lab, Mode::Native).service(Farm::web(3));
    let mut row = row("start to READY, 1 service, 3 backends checked", Some(300.0));
    for _ in 0..rounds {
        let (agent, time) = start(lab, &config)?;
        row.samples.push(millis(time));
        row.details = memory(&agent, Some(30.0))?;
        row.details.push(("CPU ms", cpu_millis(&agent)?, 0));
    }
    Ok(vec![row])
}

fn large(lab: &Routed, rounds: usize) -> Result<Vec<Row>> {
    let config = |weight: u16| {
        let services = (0..LARGE.0).map(|number| {
            let service = Service::tcp(
                &format!("s{number}"),
                VIP4,
                FIRST_PORT + number,
                many_backends(weight),
            );
            service.check(Check::None)
        });
        services.fold(
            Farm::config(lab, Mode::Native).service(
                Service::tcp("web", VIP4, 80, routed_backends(VIP4, 3, 8080)).check(Check::None),
            ),
            Config::service,
        )
    };
    let mut rows = [
        row("start to READY, large", None),
        row("reload, large, every service changed", Some(1000.0)),
        row("reload, large, nothing changed", Some(1000.0)),
        row("/status.json, large", Some(200.0)),
        row("/metrics, large", Some(200.0)),
    ];
    let (agent, time) = start(lab, &config(1))?;
    rows[0].samples.push(millis(time));
    for round in 0..rounds {
        eprintln!("agent: round {} of {rounds}", round + 1);
        let weight = if round % 2 == 0 { 2 } else { 1 };
        fs::write(agent.config_file(), config(weight).text())?;
        let web = (VIP4, 80).into();
        let ((changed, same), _) = while_loading(lab, web, |load| {
            load.await_more(20)?;
            let changed = reload(&agent, 10_000)?;
            let same = reload(&agent, 0)?;
            load.await_more(20)?;
            Ok((changed, same))
        })?;
        rows[1].samples.push(millis(changed));
        rows[2].samples.push(millis(same));
        for (row, path) in [(3, "/status.json"), (4, "/metrics")] {
            let (time, size) = fetch(agent.socket(), path)?;
            rows[row].samples.push(millis(time));
            rows[row].details = vec![("MiB", size as f64 / f64::from(1 << 20), 1)];
        }
    }
    rows[0].details = memory(&agent, Some(200.0))?;
    Ok(rows.into())
}

fn many_backends(weight: u16) -> Vec<Backend> {
    (0..LARGE.1)
        .map(|number| Backend {
            name: format!("b{number}"),
            address: Routed::server_addresses(1)[0],
            port: 20_000 + number,
            weight,
            is_backup: false,
        })
        .collect()
}

fn row(name: &str, limit: Option<f64>) -> Row {
    Row {
        name: name.to_owned(),
        samples: Samples::default(),
        bars: limit
            .map(|limit| Bar::AtMost(Measure::Value, limit))
            .into_iter()
            .collect(),
        ..Row::default()
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Starts an agent as systemd would, and says how long it took until it was ready.
fn start(lab: &Lab, config: &Config) -> Result<(Agent, Duration)> {
    let path = lab.folder().join("notify");
    let _ = fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut command = lab.command("lb", binary()?)?;
    command.env("NOTIFY_SOCKET", &path);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let ready = scope.spawn(move || -> Result<Duration> {
            let mut message = [0; 4096];
            loop {
                let length = match socket.recv(&mut message) {
                    Ok(length) => length,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error).context("the agent is not ready"),
                };
                let text = String::from_utf8_lossy(&message[..length]);
                if text.lines().any(|line| line == "READY=1") {
                    return Ok(begin.elapsed());
                }
            }
        });
        let agent = Agent::start_by(lab, config, command)?;
        let time = ready
            .join()
            .map_err(|_| anyhow::anyhow!("the listener panicked"))??;
        Ok((agent, time))
    })
}

/// Reloads, and checks that so many backends changed.
fn reload(agent: &Agent, expected: usize) -> Result<Duration> {
    let outcome = agent.asked(&["reload"])?;
    let took = outcome.took;
    let said = outcome.expect_success()?;
    let changed = said
        .lines()
        .filter(|line| line.contains(": weight "))
        .count();
    ensure!(
        changed == expected,
        "{changed} of {expected} backends changed"
    );
    Ok(took)
}

fn fetch(socket: &Path, path: &str) -> Result<(Duration, usize)> {
    let begin = Instant::now();
    let mut stream = UnixStream::connect(socket)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: lb\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{path} is not answered"
    );
    Ok((begin.elapsed(), answer.len()))
}

/// What the process has used of processors.
fn cpu_millis(agent: &Agent) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid()))?;
    // After the name, which may hold anything: user and system time are the 12th and 13th.
    let (_, rest) = stat.rsplit_once(')').context("a stat without a name")?;
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks = ticks.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    // USER_HZ is 100 everywhere.
    Ok(ticks * 10.0)
}

/// What the process holds of memory, in MiB. Tables of the kernel that it has mapped are not its own.
fn memory(agent: &Agent, limit: Option<f64>) -> Result<Vec<(&'static str, f64, usize)>> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.map_or(f64::NAN, |kib| kib / 1024.0)
    };
    let mut details = vec![
        ("resident MiB", number("VmRSS:"), 1),
        ("of it its own", number("RssAnon:"), 1),
    ];
    details.extend(limit.map(|limit| ("bar MiB", limit, 0)));
    Ok(details)
}
