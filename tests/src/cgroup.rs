//! A cgroup with this process in it, so that programs on it see nobody else.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A cgroup of version 2 that this process, and what it starts, is in until this is dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// Where this process was before.
    before: PathBuf,
}

impl Cgroup {
    /// Makes one and enters it.
    ///
    /// # Errors
    /// Without cgroup v2, or without the right to make one.
    pub fn enter() -> Result<Self> {
        let root = root()?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::"));
        let own = own.context("this process is in no cgroup of version 2")?;
        let cgroup = Self {
            path: root.join(format!("lb-test-{}", std::process::id())),
            before: root.join(own.trim_start_matches('/')),
        };
        fs::create_dir(&cgroup.path)
            .with_context(|| format!("{} cannot be made", cgroup.path.display()))?;
        move_to(&cgroup.path)?;
        Ok(cgroup)
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What the test started is gone by now.
        if let Err(error) = move_to(&self.before)
            .and_then(|()| fs::remove_dir(&self.path).context("it cannot be removed"))
        {
            eprintln!("{}: {error:#}", self.path.display());
        }
    }
}

fn move_to(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())
        .with_context(|| format!("this process cannot enter {}", cgroup.display()))
}

/// Where all of cgroup v2 is mounted.
fn root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let found = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let at = mount.split(' ').nth(4)?;
        kind.starts_with("cgroup2 ").then(|| PathBuf::from(at))
    });
    found.context("cgroup v2 is not mounted")
}
