//! `cargo xtask gen`: reference pages come from the binary itself, so that they cannot differ
//! from what it does.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::build;
use crate::setup::{self, Scope};

const PAGES: &str = "lb-userspace/docs";

pub(crate) fn run(check: bool) -> Result<ExitCode> {
    setup::run(Scope::Build)?;
    let lb = build::release()?;
    let mut command = Command::new(lb);
    command
        .current_dir(lb_toolchain::workspace_root())
        .args(["gen-docs", "--out", PAGES]);
    if check {
        command.arg("--check");
    }
    Ok(if command.status()?.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
