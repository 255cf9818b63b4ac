//! `cargo xtask setup`: finds out what is missing and installs it. When nothing is missing it is
//! done in well under a second, so every other command begins with it.

mod bpf_linker;
mod bpffs;
mod clients;
mod compiler;
mod daemons;
mod emulator;
mod kernels;
mod mysql;
mod nextest;
mod packages;
mod suites;
mod unpacked;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::console;

pub(crate) use emulator::path as emulator_path;
pub(crate) use kernels::{Image, SERIES as KERNEL_SERIES, images as kernel_images};
pub(crate) use nextest::path as nextest_path;
pub(crate) use packages::find as find_program;

/// How much is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// What `cargo build --release` needs.
    Build,
    /// And what the lab of `cargo xtask run` needs.
    Run,
    /// And what `cargo xtask run --example` needs.
    Example,
    /// And what tests and benchmarks need.
    Everything,
}

/// Installs what is missing.
pub(crate) fn run(scope: Scope) -> Result<()> {
    let began = Instant::now();
    let mut changed = false;
    if !bpf_linker::is_there() {
        console::heading("Set-up");
        changed = true;
        bpf_linker::install(&compiler::provide()?)?;
    }
    let packages = packages::missing(scope);
    if !packages.is_empty() {
        changed = true;
        packages::install(&packages)?;
    }
    if scope >= Scope::Run && !bpffs::is_mounted() {
        changed = true;
        bpffs::mount()?;
    }
    if scope == Scope::Everything && !nextest::is_there() {
        changed = true;
        nextest::install();
    }
    if scope == Scope::Everything {
        if emulator::path().is_none() {
            changed = true;
            emulator::install()?;
        }
        let unknown = kernels::unknown();
        if !unknown.is_empty() {
            changed = true;
            kernels::install(&unknown);
        }
        if mysql::is_unknown() {
            changed = true;
            mysql::install();
        }
        if clients::is_unknown() {
            changed = true;
            clients::install();
        }
        if suites::is_unknown() {
            changed = true;
            suites::install();
        }
    }
    if changed {
        console::done("set-up is complete", began);
    }
    Ok(())
}

/// Says what is there and what is missing, and changes nothing.
pub(crate) fn check() -> Result<ExitCode> {
    let mut missing = false;
    for (thing, state) in inventory() {
        match state {
            Ok(found) => console::present(thing, found),
            Err(lack) => {
                missing = true;
                console::failed(format!("{thing}: {lack}"));
            }
        }
    }
    if missing {
        println!("\n`cargo xtask setup` installs what is missing.");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// All that is needed, each with what is there or what is missing.
fn inventory() -> Vec<(&'static str, std::result::Result<String, String>)> {
    let mut list = vec![
        ("compiler with `core` for BPF", compiler::state()),
        ("bpf-linker", bpf_linker::state()),
    ];
    for (program, package) in packages::wanted(Scope::Everything) {
        let found = packages::find(program).map(|path| path.display().to_string());
        list.push((
            program,
            found.ok_or_else(|| format!("package {package} is not installed")),
        ));
    }
    list.push(("qemu-system-x86_64", emulator::state()));
    list.push(("/sys/fs/bpf", bpffs::state()));
    // Tests run without these too, so their lack is no failure.
    list.push(("cargo-nextest", Ok(nextest::describe())));
    list.push(("kernels to test on", Ok(kernels::describe())));
    list.push(("MySQL to test with", Ok(mysql::describe())));
    list.push(("MySQL drivers to test with", Ok(clients::describe())));
    list.push(("suites of MySQL drivers", Ok(suites::describe())));
    list
}
