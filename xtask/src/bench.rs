//! `cargo xtask bench`: the benchmarks are a binary of the package `lb-tests`.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::build::{self, cargo};
use crate::setup::{self, Scope};

/// What can be measured.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Benchmark {
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
}

pub(crate) fn run(benchmark: Option<Benchmark>, arguments: &[String]) -> Result<ExitCode> {
    setup::run(Scope::Everything)?;
    let lb = build::release()?;
    build::release_example("sync_cost")?;
    let mut command = cargo();
    command.args([
        "run",
        "--release",
        "--package",
        "lb-tests",
        "--bin",
        "lb-bench",
        "--",
    ]);
    command
        .args(benchmark.and_then(|chosen| Some(chosen.to_possible_value()?.get_name().to_owned())));
    let status = command.args(arguments).env("LB_BIN", lb).status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
