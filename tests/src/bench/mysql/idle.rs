//! What sessions cost that do nothing.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use lb_lab::Lab;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::peers::{Bed, Peer};
use crate::bench::{
    Effort,
    report::{Bar, Measure, Row, Samples},
};
use crate::database::Client;

const SESSIONS: usize = 10_000;
const THREADS: usize = 4;
/// Files that this program and those that it starts may have open.
const FILES: u64 = 65_536;
/// Until what was needed for the logins alone is gone.
const SETTLE: Duration = Duration::from_secs(3);

/// Allows this program, and those that it starts, many files.
pub(super) fn allow_many_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = FILES.min(most);
    setrlimit(Resource::RLIMIT_NOFILE, files, most).context("many files cannot be had open")
}

/// Opens sessions through the proxy that has replicas, and looks at its memory.
pub(super) fn rows(lab: &Lab, bed: &Bed<'_>, effort: Effort) -> Result<Vec<Row>> {
    let Some(pid) = bed.pid(Peer::Split) else {
        return Ok(Vec::new());
    };
    let sessions = if effort.is_quick {
        SESSIONS / 10
    } else {
        SESSIONS
    };
    let before = resident_kib(pid)?;
    eprintln!("mysql: {sessions} idle sessions");
    let address: SocketAddr = ([127, 0, 0, 1], Peer::Split.port()).into();
    let opened = lab.within("db", || open(address, sessions))?;
    let mut problems = Vec::new();
    let mut clients = Vec::new();
    for result in opened {
        match result {
            Ok(client) => clients.push(client),
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    let refused = problems.len();
    problems.truncate(1);
    if refused > 0 {
        problems.push(format!("{refused} sessions were not let in"));
    }
    thread::sleep(SETTLE);
    let after = resident_kib(pid)?;
    let mut each = Samples::default();
    each.push((after - before) / clients.len().max(1) as f64);
    let mut all = Samples::default();
    all.push(after / 1024.0);
    // They are there still, and work.
    for client in clients.iter_mut().step_by(97) {
        if let Err(error) = client.row("SELECT 1") {
            problems.push(format!("{error:#}"));
            break;
        }
    }
    let mut rows = vec![
        row("KiB each, idle sessions, lb split", each, 16.0),
        row("MiB resident, lb with all of them", all, 250.0),
    ];
    let at_once = bed.most_connections()?;
    for row in &mut rows {
        row.details = vec![
            ("sessions", clients.len() as f64, 0),
            ("connections to servers at once", at_once, 0),
        ];
        row.problems.clone_from(&problems);
    }
    Ok(rows)
}

fn row(name: &str, samples: Samples, most: f64) -> Row {
    Row {
        name: name.to_owned(),
        samples,
        bars: vec![Bar::AtMost(Measure::Value, most)],
        ..Row::default()
    }
}

/// Opens sessions on several threads, which inherit the namespace.
fn open(address: SocketAddr, sessions: usize) -> Vec<Result<Client>> {
    let one = || {
        let mut client = Client::open(address, "app", "app")?;
        client.row("SELECT 1")?;
        Ok(client)
    };
    thread::scope(|scope| {
        let many = || (0..sessions / THREADS).map(|_| one()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(many)).collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results.flat_map(Result::unwrap_or_default).collect()
    })
}

fn resident_kib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no VmRSS")?.parse()?)
}
