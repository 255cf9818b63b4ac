//! Running one tier, by nextest where it is installed and by `cargo test` elsewhere.
//!
//! All tiers select from one build of the whole workspace, so that nothing is compiled twice.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Tally, Tier, kernels};
use crate::build::cargo;
use crate::console;
use crate::dist;
use crate::setup;

/// The test binaries that need root; all others are tier host.
const KERNEL: &[&str] = &["kernel"];
const LAB: &[&str] = &["lab", "readme", "wiring"];
const PACKAGE: &[&str] = &["package"];

/// The packages that have those binaries.
const PACKAGES_WITH_TIERS: &[&str] = &["lb-tests", "lb-lab"];

const FUZZ: &str = "tests/fuzz";

/// Runs tiers.
#[derive(Debug)]
pub(super) struct Runner<'a> {
    nextest: Option<PathBuf>,
    lb: PathBuf,
    arguments: &'a [String],
}

impl<'a> Runner<'a> {
    pub(super) fn new(lb: PathBuf, arguments: &'a [String]) -> Self {
        Self {
            nextest: setup::nextest_path(),
            lb,
            arguments,
        }
    }

    /// Runs a tier and counts.
    pub(super) fn run(&self, tier: Tier) -> Result<Tally> {
        match (tier, &self.nextest) {
            (Tier::Fuzz, _) => self.fuzz(),
            (Tier::Kernels, _) => kernels::run(&self.lb, self.arguments),
            (Tier::Host, Some(_)) => {
                let mut tally = self.nextest(tier)?;
                // nextest does not know the examples in documentation.
                tally += self.cargo_test(&["--workspace", "--doc"])?;
                Ok(tally)
            }
            (Tier::Kernel | Tier::Lab, Some(_)) => self.nextest(tier),
            (Tier::Host, None) => self.host_by_cargo_test(),
            (Tier::Package, nextest) => {
                let mut tally = packages()?;
                tally += match nextest {
                    Some(_) => self.nextest(tier)?,
                    None => self.binaries_by_cargo_test(PACKAGE)?,
                };
                Ok(tally)
            }
            (Tier::Kernel, None) => self.binaries_by_cargo_test(KERNEL),
            (Tier::Lab, None) => self.binaries_by_cargo_test(LAB),
        }
    }

    fn nextest(&self, tier: Tier) -> Result<Tally> {
        let alternatives = |names: &[&str]| format!("binary(/^({})$/)", names.join("|"));
        let filter = match tier {
            Tier::Kernel => alternatives(KERNEL),
            Tier::Lab => alternatives(LAB),
            Tier::Package => alternatives(PACKAGE),
            Tier::Host | Tier::Kernels | Tier::Fuzz => {
                let others = [KERNEL, LAB, PACKAGE].map(alternatives);
                format!("not ({})", others.join(" or "))
            }
        };
        let mut command = self.nextest_command("run", &filter);
        command.args(["--no-fail-fast", "--no-tests=pass", "--status-level=pass"]);
        if matches!(tier, Tier::Lab | Tier::Package) {
            // Labs measure time and share two processors.
            command.arg("--test-threads=1");
        }
        command.args(self.arguments);
        let mut tally = count(&mut command, Tally::of_nextest)?;
        match self.ignored(&filter)? {
            Some(ignored) => tally.skipped += ignored,
            // What does not even compile was counted by the run, and said by it.
            None => tally.failed = tally.failed.max(1),
        }
        Ok(tally)
    }

    /// How many tests of the filter are marked to be ignored, if they can be listed.
    fn ignored(&self, filter: &str) -> Result<Option<u64>> {
        let mut command = self.nextest_command("list", filter);
        command
            .args(["--message-format=json", "--color=never"])
            .args(self.arguments);
        let output = command.stderr(Stdio::null()).output()?;
        if !output.status.success() {
            return Ok(None);
        }
        let list: Value =
            serde_json::from_slice(&output.stdout).context("nextest's list of tests")?;
        let suites = list.get("rust-suites").and_then(Value::as_object);
        let tests = suites
            .into_iter()
            .flatten()
            .filter_map(|(_, suite)| suite.get("testcases")?.as_object());
        let reasons = tests
            .flatten()
            .filter_map(|(_, test)| test.get("filter-match")?.get("reason")?.as_str());
        let ignored = reasons.filter(|reason| *reason == "ignored").count();
        Ok(Some(ignored as u64))
    }

    fn nextest_command(&self, subcommand: &str, filter: &str) -> Command {
        let mut command = cargo();
        // Called by cargo under its own name wherever it is.
        let folder = self.nextest.as_ref().and_then(|path| path.parent());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = folder
            .map(PathBuf::from)
            .into_iter()
            .chain(std::env::split_paths(&path));
        command.env(
            "PATH",
            std::env::join_paths(folders).unwrap_or(path.clone()),
        );
        command
            .args(["nextest", subcommand, "--workspace", "-E", filter])
            .env("LB_DIST", dist::folder())
            .env("LB_BIN", &self.lb);
        command
    }

    /// Units everywhere, and the integration tests of packages without tiers.
    fn host_by_cargo_test(&self) -> Result<Tally> {
        let mut others = vec!["--workspace"];
        for package in PACKAGES_WITH_TIERS {
            others.extend(["--exclude", package]);
        }
        let mut tally = self.cargo_test(&others)?;
        let mut units = vec!["--lib", "--bins"];
        for package in PACKAGES_WITH_TIERS {
            units.extend(["--package", package]);
        }
        tally += self.cargo_test(&units)?;
        let mut examples = vec!["--doc"];
        for package in PACKAGES_WITH_TIERS {
            examples.extend(["--package", package]);
        }
        tally += self.cargo_test(&examples)?;
        Ok(tally)
    }

    fn binaries_by_cargo_test(&self, names: &[&str]) -> Result<Tally> {
        let mut words = vec!["--workspace"];
        for name in names {
            words.extend(["--test", name]);
        }
        self.cargo_test(&words)
    }

    fn cargo_test(&self, words: &[&str]) -> Result<Tally> {
        let mut command = cargo();
        command
            .args(["test", "--no-fail-fast"])
            .args(words)
            .env("LB_DIST", dist::folder())
            .env("LB_BIN", &self.lb);
        command.arg("--").args(self.arguments);
        if words.contains(&"--test") {
            command.arg("--test-threads=1");
        }
        count(&mut command, Tally::of_cargo_test)
    }

    /// The fuzz target's own smoke run; its exit status is the result.
    fn fuzz(&self) -> Result<Tally> {
        if !lb_toolchain::workspace_root()
            .join(FUZZ)
            .join("Cargo.toml")
            .is_file()
        {
            console::failed(format!("{FUZZ} is not there"));
            return Ok(Tally::skipped(1));
        }
        let mut command = cargo();
        command
            .args(["run", "--release", "--package", "lb-fuzz", "--"])
            .args(self.arguments);
        let fine = command.status()?.success();
        Ok(if fine {
            Tally::passed(1)
        } else {
            Tally::failed(1)
        })
    }
}

/// Makes the packages, twice: the second time has to give the same bytes.
fn packages() -> Result<Tally> {
    let read = || -> Result<Vec<Vec<u8>>> {
        let mut files: Vec<_> = fs::read_dir(dist::folder())?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.sort();
        files.iter().map(|file| Ok(fs::read(file)?)).collect()
    };
    dist::run()?;
    let first = read()?;
    dist::run()?;
    if read()? == first {
        return Ok(Tally::passed(1));
    }
    console::failed("the same sources gave other packages");
    Ok(Tally::failed(1))
}

/// Runs a command, shows what it writes while it writes it, and adds up the lines that `read`
/// understands.
fn count(command: &mut Command, read: impl Fn(&str) -> Option<Tally>) -> Result<Tally> {
    let (reader, writer) = std::io::pipe()?;
    if console::is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    // The command keeps its copies of the pipe's end, and the loop below would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut tally = None;
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(found) = read(&without_colour(&line)) {
            *tally.get_or_insert_with(Tally::default) += found;
        }
    }
    let fine = child.wait()?.success();
    Ok(match tally {
        Some(tally) if fine || tally.failed > 0 => tally,
        // It did not compile, or died: that is a failure too, though no test says so.
        Some(tally) => Tally { failed: 1, ..tally },
        None if fine => Tally::default(),
        None => Tally::failed(1),
    })
}

/// The text without the escape sequences of colours.
fn without_colour(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::without_colour;

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(without_colour("\x1b[32;1m12\x1b[0m passed"), "12 passed");
        assert_eq!(without_colour("plain"), "plain");
    }
}
