//! Building lb itself, by the cargo that runs xtask.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A cargo command in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(lb_toolchain::workspace_root());
    command
}

/// Builds the release binary and returns its path.
pub(crate) fn release() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--package", "lb-userspace"]);
    run(&mut command)?;
    Ok(release_path())
}

/// Builds a program of `lb-userspace` that is beside the binary for measuring.
pub(crate) fn release_example(name: &str) -> Result<()> {
    let mut command = cargo();
    command.args([
        "build",
        "--release",
        "--package",
        "lb-userspace",
        "--example",
        name,
    ]);
    run(&mut command)
}

/// Where the release binary is once it is built.
pub(crate) fn release_path() -> PathBuf {
    lb_toolchain::target_dir(&lb_toolchain::workspace_root(), None).join("release/lb")
}

/// Runs a command with the terminal's own input and output, and asks it to succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let words: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("{program} cannot be started"))?;
    ensure!(
        status.success(),
        "`{program} {}` ended with {status}",
        words.join(" ")
    );
    Ok(())
}
