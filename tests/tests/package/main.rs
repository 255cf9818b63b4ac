//! What `cargo xtask dist` makes, looked at and installed: in a machine of namespaces with this
//! one's files and a systemd of its own, so that nothing here changes.
//!
//! They need root, systemd's files, and `LB_DIST`, the folder with the packages, which
//! `cargo xtask test package` sets.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, which says where"
)]

mod contents;
mod installed;
mod machine;
mod tarball;

use std::env;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// The package whose name ends so.
fn package(ending: &str) -> Result<PathBuf> {
    let folder = env::var_os("LB_DIST")
        .map(PathBuf::from)
        .context("LB_DIST does not name the folder with the packages")?;
    let entries =
        fs::read_dir(&folder).with_context(|| format!("{} has no packages", folder.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.to_string_lossy().ends_with(ending))
        .with_context(|| format!("{} has no {ending}", folder.display()))
}
