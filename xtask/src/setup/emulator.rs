//! The machine emulator that other kernels are tested in: the distribution's package, or, where that
//! cannot stand beside what the machine has (a `qemu-utils` of a newer release, say), unpacked into
//! the project's folder of tools.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use lb_toolchain::{tools_dir, workspace_root};

use super::packages;
use super::unpacked::{self, Bundle, Program};

const PROGRAM: &str = "qemu-system-x86_64";

const BUNDLE: Bundle = Bundle {
    title: "qemu",
    packages: &["qemu-system-x86"],
    unwanted: &[],
    libraries: &[],
    preparation: "export QEMU_MODULE_DIR=$(echo \"$root\"/usr/lib/*-linux-gnu/qemu)\n",
    programs: &[Program {
        name: PROGRAM,
        file: "usr/bin/qemu-system-x86_64",
        options: "-L \"$root/usr/share/qemu\" -L \"$root/usr/share/seabios\"",
    }],
};

/// Where it is, if it is there.
pub(crate) fn path() -> Option<PathBuf> {
    let own = folder().join("bin").join(PROGRAM);
    packages::find(PROGRAM).or_else(|| own.is_file().then_some(own))
}

fn folder() -> PathBuf {
    tools_dir(&workspace_root()).join("qemu")
}

/// What is there, or what is missing.
pub(super) fn state() -> std::result::Result<String, String> {
    path()
        .map(|path| path.display().to_string())
        .ok_or_else(|| format!("package {} is not installed", BUNDLE.packages[0]))
}

/// Installs it, or unpacks it where it cannot stand beside what is there.
pub(super) fn install() -> Result<()> {
    let list: Vec<String> = BUNDLE.packages.iter().map(ToString::to_string).collect();
    let has_apt = packages::find("apt-get").is_some();
    if has_apt && !packages::fit(&list)? {
        return unpack();
    }
    packages::install(&list)
}

fn unpack() -> Result<()> {
    let mirror = unpacked::mirror()?.context("no mirror of Debian is in use")?;
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no release")?;
    BUNDLE.unpack(&mirror, suite, &folder())
}
