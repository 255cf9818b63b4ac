//! cargo-nextest, which runs every test in a process of its own. Without it `cargo test` does.

use std::path::PathBuf;

use lb_toolchain::{clean_command, tools_dir, workspace_root};

use super::packages;
use crate::console;

/// A release that compiles with the oldest Rust that this workspace accepts.
const VERSION: &str = "0.9.143";

/// Where it is.
pub(crate) fn path() -> Option<PathBuf> {
    let own = tools_dir(&workspace_root()).join("bin/cargo-nextest");
    if own.is_file() {
        Some(own)
    } else {
        packages::find("cargo-nextest")
    }
}

pub(super) fn is_there() -> bool {
    path().is_some()
}

pub(super) fn describe() -> String {
    path().map_or_else(
        || "not installed, `cargo test` is used instead".to_owned(),
        |path| path.display().to_string(),
    )
}

/// Installs it; when that fails, the tests run without it.
pub(super) fn install() {
    let mut command = clean_command("cargo");
    command
        .args([
            "install",
            "cargo-nextest",
            "--version",
            VERSION,
            "--locked",
            "--root",
        ])
        .arg(tools_dir(&workspace_root()))
        // Without its self-update and unoptimised it compiles in a third of the time, and it does
        // nothing but start processes.
        .args([
            "--no-default-features",
            "--features",
            "default-no-update",
            "--debug",
        ])
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    if console::run_long(&format!("cargo-nextest {VERSION}"), &mut command).is_err() {
        println!("    the tests will be run by `cargo test` instead");
    }
}
