//! Leaving no trace. One shell script removes a lab; it is run at the end, by the janitor when the
//! owner is killed, and over what a machine crash or a killed janitor left behind.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A shell script rather than a fork: after a fork, a program with threads may do next to nothing.
const SCRIPT: &str = include_str!("cleanup.sh");

const NAMESPACES: &str = "/run/netns";
const FOLDERS: &str = "/run/lb-lab";
const PINS: &str = "/sys/fs/bpf";

/// Where a lab of this prefix keeps its files. `/run` and not `/tmp`: only root can put a
/// symbolic link in the way.
pub(crate) fn folder(prefix: &str) -> PathBuf {
    Path::new(FOLDERS).join(prefix)
}

/// Where a lab of this prefix pins.
pub(crate) fn pins(prefix: &str) -> PathBuf {
    Path::new(PINS).join(prefix)
}

/// Waits for its owner's end, then removes the owner's lab.
#[derive(Debug)]
pub(crate) struct Janitor {
    child: Child,
}

impl Janitor {
    pub(crate) fn start(prefix: &str) -> Result<Self> {
        let mut command = script(prefix);
        // A process group of its own, so that a Ctrl-C at the terminal does not reach it.
        command
            .arg("wait")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0);
        let child = command
            .spawn()
            .context("the lab's janitor could not be started")?;
        Ok(Self { child })
    }

    /// Lets the janitor do its work now, and waits for it.
    pub(crate) fn work(&mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().is_ok_and(|status| status.success())
    }
}

/// Removes the lab of this prefix.
pub(crate) fn remove(prefix: &str) -> Result<()> {
    let status = script(prefix).status().context("sh could not be started")?;
    ensure!(
        status.success(),
        "the lab {prefix} could not be removed completely"
    );
    Ok(())
}

/// Removes what labs of processes that are no longer alive have left behind.
///
/// # Errors
/// When something is left that cannot be removed.
pub fn remove_stale() -> Result<()> {
    let mut stale: Vec<String> = [NAMESPACES, FOLDERS, PINS]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
        .filter_map(|entry| owned_prefix(entry.file_name().to_str()?))
        .filter(|(_, owner)| !is_alive(*owner))
        .map(|(prefix, _)| prefix)
        .collect();
    stale.sort();
    stale.dedup();
    stale.iter().try_for_each(|prefix| remove(prefix))
}

/// Whether a process of this number runs.
pub(crate) fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The prefix of a new lab of this process.
pub(crate) fn prefix_of(pid: u32, number: u32) -> String {
    format!("lb-{pid}-{number}")
}

/// The prefix that a name begins with, and the process it belongs to.
fn owned_prefix(name: &str) -> Option<(String, u32)> {
    let mut parts = name.strip_prefix("lb-")?.splitn(3, '-');
    let pid = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    Some((prefix_of(pid, number), pid))
}

fn script(prefix: &str) -> Command {
    let mut command = Command::new("sh");
    // By the environment, so that the list of processes stays readable.
    command.args(["-c", "eval \"$SCRIPT\"", "lb-lab-cleanup", prefix]);
    command.arg(folder(prefix)).arg(pins(prefix));
    command.env("SCRIPT", SCRIPT).stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::owned_prefix;

    #[test]
    fn only_names_of_labs_have_an_owner() {
        assert_eq!(
            owned_prefix("lb-12-3-client"),
            Some(("lb-12-3".to_owned(), 12))
        );
        assert_eq!(owned_prefix("lb-12-3"), Some(("lb-12-3".to_owned(), 12)));
        for name in ["lb", "lb-", "lb-web-1", "lblab-client", "other"] {
            assert_eq!(owned_prefix(name), None, "{name}");
        }
    }
}
