//! The tarball: one folder that runs from wherever it is unpacked.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::tree::Tree;
use super::{Contents, architecture, put_documents, source};

/// Makes it, and returns where it is.
pub(super) fn make(contents: &Contents, stage: &Path, out: &Path) -> Result<PathBuf> {
    let (_, machine) = architecture()?;
    let name = format!("lb-{}-{machine}-linux", contents.version);
    let tree = Tree::new(stage.join(&name))?;
    tree.copy_program(&contents.lb, "lb")?;
    for licence in ["LICENSE", "LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"] {
        tree.copy(&source(licence), licence)?;
    }
    for (file, place) in [
        ("lb.service", "systemd/lb.service"),
        ("app-host.conf", "systemd/app-host.conf"),
        ("sysusers.conf", "systemd/sysusers.conf"),
        ("lb.toml", "lb.toml"),
    ] {
        tree.copy(&source("lb-userspace/packaging").join(file), place)?;
    }
    let monitoring = source("lb-userspace/packaging/monitoring");
    tree.copy_all(&monitoring, "monitoring")?;
    tree.copy_all(&contents.generated, ".")?;
    put_documents(&tree, contents, "docs")?;
    let file = out.join(format!("{name}.tar.gz"));
    pack(stage, &name, contents.time, &file)?;
    Ok(file)
}

fn pack(stage: &Path, name: &str, time: u64, file: &Path) -> Result<()> {
    let mut tar = Command::new("tar")
        .current_dir(stage)
        .args(["--create", "--format=gnu", "--sort=name", "--owner=root:0"])
        .args(["--group=root:0", "--numeric-owner"])
        .arg(format!("--mtime=@{time}"))
        .arg(name)
        .stdout(Stdio::piped())
        .spawn()
        .context("`tar` cannot be started")?;
    let packed = tar.stdout.take().context("tar has no output")?;
    let gzip = Command::new("gzip")
        .args(["--no-name", "-9"])
        .stdin(packed)
        .stdout(File::create(file)?)
        .status()
        .context("`gzip` cannot be started")?;
    let tar = tar.wait()?;
    ensure!(
        tar.success() && gzip.success(),
        "packing {} failed: tar {tar}, gzip {gzip}",
        file.display()
    );
    Ok(())
}
