//! Drivers that the tests talk to the MySQL proxy with: Python's by pip, node's by npm, each into a
//! folder of the project's. PHP's is a Debian package like others.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use lb_toolchain::{tools_dir, workspace_root};

use super::packages;
use crate::console;

/// The newest Connector/Python whose extension runs with the OpenSSL of Debian 12.
const PYTHON: [&str; 3] = [
    "PyMySQL==1.2.4",
    "cryptography",
    "mysql-connector-python==9.4.0",
];
/// Of node.
const NODE: [&str; 1] = ["mysql2@3"];
/// What stands in a folder instead where there is nothing to be had.
const NOT_OFFERED: &str = "not-offered";

/// A language's drivers.
struct Language {
    name: &'static str,
    /// The program that brings them.
    program: &'static str,
    fetch: fn(&Path) -> Command,
}

const LANGUAGES: [Language; 2] = [
    Language {
        name: "python",
        program: "pip3",
        fetch: |folder| {
            let mut command = Command::new("python3");
            command.args(["-m", "pip", "install", "--quiet", "--no-input", "--target"]);
            command.arg(folder).args(PYTHON);
            command
        },
    },
    Language {
        name: "node",
        program: "npm",
        fetch: |folder| {
            let mut command = Command::new("npm");
            command.args(["install", "--no-audit", "--no-fund", "--prefix"]);
            command.arg(folder).args(NODE);
            command
        },
    },
];

fn folder(name: &str) -> PathBuf {
    tools_dir(&workspace_root()).join("clients").join(name)
}

/// Whether nobody has looked for some of them yet.
pub(super) fn is_unknown() -> bool {
    LANGUAGES
        .iter()
        .any(|language| !folder(language.name).exists())
}

/// What there is, in words.
pub(super) fn describe() -> String {
    let is_there = |name: &str| {
        let folder = folder(name);
        folder.exists() && !folder.join(NOT_OFFERED).exists()
    };
    let names = LANGUAGES.iter().map(|language| language.name);
    let names: Vec<&str> = names.filter(|name| is_there(name)).collect();
    if names.is_empty() {
        return "none, their tests are skipped".to_owned();
    }
    names.join(", ")
}

/// Fetches them; what fails is missing in tests, which say so.
pub(super) fn install() {
    for language in &LANGUAGES {
        if let Err(error) = provide(language) {
            let name = language.name;
            console::failed(format!("MySQL drivers of {name} for tests: {error:#}"));
        }
    }
}

fn provide(language: &Language) -> Result<()> {
    let folder = folder(language.name);
    if folder.exists() {
        return Ok(());
    }
    let title = format!("MySQL drivers of {}", language.name);
    if packages::find(language.program).is_none() {
        fs::create_dir_all(&folder)?;
        File::create(folder.join(NOT_OFFERED))?;
        let lack = format!("no {} on this machine, left out", language.program);
        console::present(&title, lack);
        return Ok(());
    }
    // A set-up that was stopped half-way leaves no drivers.
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    let fetched = console::run_long(&title, &mut (language.fetch)(&partial));
    if fetched.is_ok() {
        fs::rename(&partial, &folder)?;
    } else {
        fs::remove_dir_all(&partial)?;
    }
    fetched
}
