//! `cargo xtask test`: the checks and all tiers, one summary at the end.

mod kernels;
mod runner;
mod tally;

use std::env;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;

use crate::build::{self, cargo};
use crate::console;
use crate::interrupt;
use crate::setup::{self, Scope};

use runner::Runner;
use tally::Tally;

/// A tier of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// Without any privilege, in seconds
    Host,
    /// The real eBPF object in the kernel, by BPF_PROG_TEST_RUN
    Kernel,
    /// Real servers in network namespaces
    Lab,
    /// What `cargo xtask dist` makes: installed, run by systemd, removed
    Package,
    /// Every program on other kernels too, in an emulator
    Kernels,
    /// A short run of the fuzz target
    Fuzz,
}

const TIERS: [Tier; 6] = [
    Tier::Host,
    Tier::Kernel,
    Tier::Lab,
    Tier::Package,
    Tier::Kernels,
    Tier::Fuzz,
];

/// Runs the checks and all tiers, or one tier.
pub(crate) fn run(tier: Option<Tier>, arguments: &[String]) -> Result<ExitCode> {
    setup::run(Scope::Everything)?;
    interrupt::catch()?;
    let began = Instant::now();
    let mut total = Tally::default();
    if tier.is_none() {
        total += checks()?;
    }
    // The lab's tests drive the binary that people get.
    let lb = build::release()?;
    let runner = Runner::new(lb, arguments);
    for tier in TIERS
        .into_iter()
        .filter(|one| tier.is_none_or(|only| only == *one))
    {
        interrupt::check()?;
        console::heading(format!("Tier {}", name(tier)));
        let mut tally = runner.run(tier)?;
        if tally.passed + tally.failed == 0 && arguments.is_empty() {
            console::failed("no test of this tier was found");
            tally.failed = 1;
        }
        println!("tier {}: {tally}", name(tier));
        total += tally;
    }
    println!("\nall of it took {:.0} s", began.elapsed().as_secs_f64());
    // Nobody looks at what was skipped on a build server, so there it counts as failed.
    let strict = env::var_os("CI").is_some_and(|value| value == "true");
    let fine = total.failed == 0 && !(strict && total.skipped > 0);
    println!("{total}");
    Ok(if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn name(tier: Tier) -> String {
    tier.to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// Formatting and lints; each counts as one test.
fn checks() -> Result<Tally> {
    console::heading("Checks");
    let mut tally = Tally::default();
    tally += check("formatting", cargo().args(["fmt", "--all", "--check"]))?;
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    tally += check("lints", cargo().args(lints))?;
    Ok(tally)
}

fn check(title: &str, command: &mut Command) -> Result<Tally> {
    interrupt::check()?;
    let began = Instant::now();
    if command.status()?.success() {
        console::done(title, began);
        return Ok(Tally::passed(1));
    }
    console::failed(title);
    Ok(Tally::failed(1))
}
