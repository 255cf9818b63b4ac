//! `cargo xtask bench`: measures, shows tables, writes documents.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use lb_tests::bench::{
    Effort, agent, checks, compare, flood, http, memory, mysql, packet, pps, report::Report, sync,
};
use serde_json::Value;

/// Measures lb against its peers, both sides in the same run. A bar that is missed is said in the
/// table and does not make it fail.
#[derive(Parser)]
#[command(name = "lb-bench")]
struct Arguments {
    /// What to measure
    #[arg(default_value = "all")]
    benchmark: Benchmark,
    /// Rounds over all peers [default: as many as the benchmark needs]
    #[arg(long)]
    rounds: Option<usize>,
    /// A rough picture in a short time
    #[arg(long)]
    quick: bool,
    /// Where to write the figures [default: target/bench/<benchmark>.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compares with the figures of an earlier run
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// Nanoseconds per packet, by BPF_PROG_TEST_RUN
    Packet,
    /// Two CPUs at once, on shared flow tables and on their own
    Cpus,
    /// What the tables take of memory
    Memory,
    /// `lb flows` with a million of them
    Listing,
    /// Packets per second, live frames over veth
    Pps,
    /// New connections of real clients beside a flood of SYNs
    Flood,
    /// Requests per second, wrk through the lab
    Http,
    /// Times and memory of the agent
    Agent,
    /// Ten thousand backends checked each second
    Checks,
    /// Telling another balancer of connections
    Sync,
    /// Statements per second through the MySQL proxy, by sysbench
    Mysql,
    /// What idle sessions of the MySQL proxy take of memory
    MysqlIdle,
    /// One after the other
    All,
}

type Measurement = fn(Effort) -> Result<Report>;

impl Benchmark {
    fn measurements(self) -> Vec<Measurement> {
        match self {
            Self::Packet => vec![packet::run],
            Self::Cpus => vec![packet::cpus::run],
            Self::Memory => vec![memory::run],
            Self::Listing => vec![pps::listing::run],
            Self::Pps => vec![pps::run],
            Self::Flood => vec![flood::run],
            Self::Http => vec![http::run],
            Self::Agent => vec![agent::run],
            Self::Checks => vec![checks::run],
            Self::Sync => vec![sync::run],
            Self::Mysql => vec![mysql::run],
            Self::MysqlIdle => vec![mysql::run_idle],
            Self::All => vec![
                packet::run,
                packet::cpus::run,
                memory::run,
                pps::listing::run,
                pps::run,
                flood::run,
                http::run,
                agent::run,
                checks::run,
                sync::run,
                mysql::run,
            ],
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let effort = Effort {
        rounds: arguments.rounds,
        is_quick: arguments.quick,
    };
    // Read first: the figures may be about to go into the same file.
    let old = arguments.compare.as_deref().map(read).transpose()?;
    let mut documents = Vec::new();
    for measure in arguments.benchmark.measurements() {
        let report = measure(effort)?;
        println!("{report}");
        if let Some(old) = &old {
            println!("{}", compare::against(&report, old));
        }
        let document = report.to_json();
        if arguments.json.is_none() {
            let name = format!("target/bench/{}.json", report.name);
            write(
                &Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(name),
                &document,
            )?;
        }
        documents.push(document);
    }
    if let Some(path) = &arguments.json {
        let document = match arguments.benchmark {
            Benchmark::All => Value::Array(documents),
            Benchmark::Packet
            | Benchmark::Cpus
            | Benchmark::Memory
            | Benchmark::Listing
            | Benchmark::Pps
            | Benchmark::Flood
            | Benchmark::Http
            | Benchmark::Agent
            | Benchmark::Checks
            | Benchmark::Sync
            | Benchmark::Mysql
            | Benchmark::MysqlIdle => documents.remove(0),
        };
        write(path, &document)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} holds no figures of a benchmark", path.display()))
}

fn write(path: &Path, document: &Value) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = format!("{}\n", serde_json::to_string_pretty(document)?);
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    println!("figures: {}", path.display());
    Ok(())
}
