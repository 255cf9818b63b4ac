//! The static binary.

use std::path::PathBuf;

use anyhow::Result;
use lb_toolchain::{remapped_paths, target_dir, workspace_root};

use super::architecture;
use crate::build::{self, cargo};

/// Builds it, with the C library inside, so that it runs on every distribution, and returns where it
/// is. It has symbols of functions, for whoever reads a backtrace, and nothing else to debug by.
pub(super) fn build() -> Result<PathBuf> {
    let (_, machine) = architecture()?;
    let target = format!("{machine}-unknown-linux-gnu");
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(remapped_paths(&workspace_root()));
    let mut command = cargo();
    command
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "lb-userspace",
        ])
        // Flags then are those of the binary alone: a procedural macro cannot be static.
        .args(["--target", &target])
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    build::run(&mut command)?;
    let folder = target_dir(&workspace_root(), None).join(target);
    Ok(folder.join("release/lb"))
}
