//! Drivers' own suites of tests, which have to give the same through the MySQL proxy as without it:
//! MariaDB's `mariadb-client-test`, unpacked from its package without the rest of it, and the tests of
//! the crate mysql_async, compiled once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_toolchain::{clean_command, tools_dir, workspace_root};

use super::packages;
use crate::console;

/// The crate, and its release.
const CRATE: (&str, &str) = ("mysql_async", "0.37.1");
/// Of the crate, what the tests need.
const FEATURES: &str = "minimal-rust,derive";
/// What stands in a folder instead where there is nothing to be had.
const NOT_OFFERED: &str = "not-offered";

/// A suite: the name of its folder, and what fills it.
type Suite = (&'static str, fn(&Path) -> Result<bool>);

const SUITES: [Suite; 2] = [("mariadb-test", unpack), ("mysql-async", compile)];

fn folder(name: &str) -> PathBuf {
    tools_dir(&workspace_root()).join("clients").join(name)
}

/// Whether nobody has looked for some of them yet.
pub(super) fn is_unknown() -> bool {
    SUITES.iter().any(|(name, _)| !folder(name).exists())
}

/// What there is, in words.
pub(super) fn describe() -> String {
    let is_there = |name: &str| folder(name).join("tests").is_file();
    let names = SUITES.iter().map(|(name, _)| *name);
    let names: Vec<&str> = names.filter(|name| is_there(name)).collect();
    if names.is_empty() {
        return "none, they are skipped".to_owned();
    }
    names.join(", ")
}

/// Fetches them; what fails is missing in tests, which say so.
pub(super) fn install() {
    for suite in &SUITES {
        if let Err(error) = provide(suite) {
            console::failed(format!("suite {}: {error:#}", suite.0));
        }
    }
}

fn provide((name, fill): &Suite) -> Result<()> {
    let folder = folder(name);
    if folder.exists() {
        return Ok(());
    }
    // A set-up that was stopped half-way leaves no suite.
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let work = partial.join("work");
    fs::create_dir_all(&work)?;
    let filled = fill(&work).and_then(|is_offered| {
        if is_offered {
            fs::rename(work.join("tests"), partial.join("tests"))?;
        } else {
            File::create(partial.join(NOT_OFFERED))?;
            console::present(format!("suite {name}"), "not to be had here, left out");
        }
        fs::remove_dir_all(&work)?;
        Ok(fs::rename(&partial, &folder)?)
    });
    if filled.is_err() {
        fs::remove_dir_all(&partial)?;
    }
    filled
}

/// Leaves MariaDB's program as `tests`.
fn unpack(work: &Path) -> Result<bool> {
    let package = "mariadb-test";
    let offered = || packages::find("apt-get").and_then(|_| packages::offered(package));
    if packages::ask_with_new_lists(offered)?.is_none() {
        return Ok(false);
    }
    let mut download = Command::new("apt-get");
    // The folder is not one that apt's own user could write to.
    download.args(["-o", "APT::Sandbox::User=", "download", package]);
    console::run_long("download of mariadb-test", download.current_dir(work))?;
    let archive = entry(work, |name| name.ends_with(".deb"))?;
    let root = work.join("root");
    let mut command = Command::new("dpkg");
    let status = command.arg("-x").arg(archive).arg(&root).status()?;
    ensure!(status.success(), "dpkg -x ended with {status}");
    fs::rename(root.join("usr/bin/mariadb-client-test"), work.join("tests"))?;
    Ok(true)
}

/// Leaves the crate's tests as `tests`. A manifest that depends on it has cargo fetch its sources.
fn compile(work: &Path) -> Result<bool> {
    let (name, version) = CRATE;
    fs::write(
        work.join("Cargo.toml"),
        format!(
            "[package]\nname = \"fetch\"\n[lib]\npath = \"lib.rs\"\n[dependencies]\n{name} = {{ version = \
             \"={version}\", default-features = false, features = [\"minimal-rust\"] }}\n[workspace]\n"
        ),
    )?;
    File::create(work.join("lib.rs"))?;
    let mut fetch = clean_command("cargo");
    fetch.args(["vendor", "--quiet", "--versioned-dirs"]);
    console::run_long(&format!("sources of {name}"), fetch.current_dir(work))?;
    let sources = work.join("vendor").join(format!("{name}-{version}"));
    // It is a package of its own, not one of this workspace.
    let manifest = sources.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, text + "\n[workspace]\n")?;
    let target = work.join("target");
    let mut build = clean_command("cargo");
    build
        .args(["test", "--lib", "--no-run", "--no-default-features"])
        .args(["--features", FEATURES])
        .current_dir(&sources)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    console::run_long(&format!("tests of {name}"), &mut build)?;
    let made = entry(&target.join("debug/deps"), |file| {
        file.starts_with(name) && !file.contains('.')
    })?;
    fs::rename(made, work.join("tests"))?;
    Ok(true)
}

/// The file in a folder with such a name.
fn entry(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?.flatten();
    entries
        .find(|entry| fits(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .context("nothing was made")
}
