//! `cargo xtask`: set-up, build, lab, tests, benchmarks and generated files of lb.
//!
//! It must not depend on `lb-userspace`, because it runs before there is a toolchain to build it.

mod bench;
mod build;
mod console;
mod dist;
mod generate;
mod host;
mod interrupt;
mod lab;
mod root;
mod run;
mod setup;
mod stage;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// Set-up, build, lab, tests and benchmarks of lb.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what is missing to build, run and test; does nothing when nothing is
    Setup {
        /// Only say what is missing; exit status 1 if anything is
        #[arg(long)]
        check: bool,
    },
    /// Build the release binary, target/release/lb, with the eBPF programs inside
    Build,
    /// Show lb at work in a lab, or with arguments run it on this host
    Run(RunArguments),
    /// Bring a lab up to stay, take it down, run a command in it
    #[command(subcommand)]
    Lab(LabCommand),
    /// Run the tests: all tiers, or one
    Test {
        /// One tier only
        tier: Option<test::Tier>,
        /// Handed to the test runner, for example a part of a test's name
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Measure, against nftables and HAProxy in the same run
    Bench {
        /// One benchmark only
        benchmark: Option<bench::Benchmark>,
        /// Handed to the benchmark
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Make what people install: a tarball with a static binary, and a Debian package
    Dist,
    /// Write the generated reference pages below lb-userspace/docs
    Gen {
        /// Only say whether they are up to date; exit status 1 if not
        #[arg(long)]
        check: bool,
    },
}

/// What `cargo xtask run` takes.
#[derive(Debug, Args)]
struct RunArguments {
    /// Run the demonstration once, say whether all of it worked, and exit 0 or 1
    #[arg(long, conflicts_with_all = ["config", "interface", "arguments"])]
    once: bool,
    /// Build a whole deployment in the lab: www.foobar.com, with two balancers, two app hosts,
    /// databases and monitoring
    #[arg(long, value_enum, conflicts_with_all = ["config", "interface", "arguments"])]
    example: Option<run::Example>,
    /// `--example`: the second app host only serves while the first is down
    #[arg(long, requires = "example")]
    active_passive: bool,
    /// `--example`: how the balancers attach
    #[arg(long, value_enum, requires = "example", default_value = "auto")]
    mode: run::XdpMode,
    /// `--example`: short for `--mode generic`
    #[arg(long, requires = "example", conflicts_with = "mode")]
    generic: bool,
    /// Run on this host with this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run on this host and attach to this interface
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Run `lb run` with these arguments on this host
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Bring a lab up: a client, the balancer with lb running, three web servers
    Up,
    /// Take it down, with everything that runs in it
    Down,
    /// Run a command in one of its namespaces: client, lb, web1, web2, web3; in the deployment of
    /// `run --example foobar` client, lb1, lb2, app1, app2, monitor
    Exec {
        /// The namespace
        namespace: String,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup { check: true } => setup::check(),
        Command::Setup { check: false } => {
            setup::run(setup::Scope::Everything)?;
            setup::check()
        }
        Command::Build => {
            setup::run(setup::Scope::Build)?;
            build::release().map(success)
        }
        Command::Run(arguments) => run::run(&arguments),
        Command::Lab(LabCommand::Up) => lab::up().map(success),
        Command::Lab(LabCommand::Down) => lab::down().map(success),
        Command::Lab(LabCommand::Exec { namespace, command }) => lab::exec(&namespace, &command),
        Command::Test { tier, arguments } => test::run(tier, &arguments),
        Command::Bench {
            benchmark,
            arguments,
        } => bench::run(benchmark, &arguments),
        Command::Dist => dist::run().map(success),
        Command::Gen { check } => generate::run(check),
    }
}

fn success<T>(_: T) -> ExitCode {
    ExitCode::SUCCESS
}
