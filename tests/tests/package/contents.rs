//! What Debian's policy asks of a package, as far as it can be seen from outside.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_tests::scenario::Outcome;

use crate::package;

fn unpacked() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    Outcome::of(
        Command::new("dpkg-deb")
            .arg("--raw-extract")
            .arg(package(".deb")?)
            .arg(folder.path()),
    )?
    .expect_success()?;
    Ok(folder)
}

#[test]
fn every_file_is_roots_and_has_the_usual_mode() -> Result<()> {
    let list = Outcome::of(
        Command::new("dpkg-deb")
            .arg("--contents")
            .arg(package(".deb")?),
    )?;
    let list = list.expect_success()?;
    ensure!(list.lines().count() > 20, "{list}");
    for line in list.lines() {
        let mut words = line.split_whitespace();
        let (mode, owner) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let name = line.split_whitespace().last().unwrap_or("");
        let wanted = if name.ends_with('/') {
            "drwxr-xr-x"
        } else if name == "./usr/bin/lb" {
            "-rwxr-xr-x"
        } else {
            "-rw-r--r--"
        };
        ensure!(mode == wanted && owner == "root/root", "{line}");
        ensure!(!name.starts_with("./usr/local"), "{line}");
    }
    Ok(())
}

#[test]
fn the_usual_parts_are_there() -> Result<()> {
    let folder = unpacked()?;
    let at = |name: &str| folder.path().join(name);
    for name in [
        "usr/bin/lb",
        "usr/lib/systemd/system/lb.service",
        "usr/lib/sysusers.d/lb.conf",
        "usr/share/man/man1/lb.1.gz",
        "usr/share/man/man1/lb-run.1.gz",
        "usr/share/bash-completion/completions/lb",
        "usr/share/zsh/vendor-completions/_lb",
        "usr/share/fish/vendor_completions.d/lb.fish",
        "usr/share/doc/lb/copyright",
        "usr/share/doc/lb/changelog.gz",
        "usr/share/doc/lb/config.md",
        "usr/share/doc/lb/containers.md",
        "usr/share/doc/lb/THIRD-PARTY-LICENCES",
        "usr/share/doc/lb/examples/foobar.toml",
    ] {
        ensure!(at(name).is_file(), "{name} is missing");
    }
    let configs = fs::read_to_string(at("DEBIAN/conffiles"))?;
    ensure!(configs == "/etc/lb/lb.toml\n", "{configs}");
    let licences = fs::read_to_string(at("usr/share/doc/lb/THIRD-PARTY-LICENCES"))?;
    for name in [
        "aya ",
        "tokio ",
        "aya-ebpf ",
        "Apache License",
        "Permission is hereby",
    ] {
        ensure!(licences.contains(name), "the licences do not have {name:?}");
    }
    // Not what only tests are made of.
    ensure!(!licences.contains("\nproptest "), "proptest is inside");
    for script in ["postinst", "prerm", "postrm"] {
        let script = at("DEBIAN").join(script);
        Outcome::of(Command::new("sh").arg("-n").arg(&script))?.expect_success()?;
        let text = fs::read_to_string(script)?;
        ensure!(text.starts_with("#!/bin/sh\nset -e\n"), "{text}");
    }
    pages_are_fine(&at("usr/share/man/man1"))
}

fn pages_are_fine(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let page = entry?.path();
        let text = Outcome::of(Command::new("gzip").arg("-dc").arg(&page))?.expect_success()?;
        ensure!(text.contains(".TH ") && text.contains(".SH NAME"), "{text}");
    }
    Ok(())
}

#[test]
fn fields_and_sums_are_right() -> Result<()> {
    let folder = unpacked()?;
    let control = fs::read_to_string(folder.path().join("DEBIAN/control"))?;
    let field = |name: &str| {
        let found = control.lines().find_map(|line| line.strip_prefix(name));
        found.with_context(|| format!("no {name} in {control}"))
    };
    ensure!(field("Package: ")? == "lb");
    ensure!(["amd64", "arm64"].contains(&field("Architecture: ")?));
    // live-build has a program of the same name.
    ensure!(field("Conflicts: ")? == "live-build");
    let size: u64 = field("Installed-Size: ")?.parse()?;
    ensure!((1_000..60_000).contains(&size), "{size} kB");
    Outcome::of(Command::new("md5sum").current_dir(folder.path()).args([
        "--quiet",
        "--strict",
        "--check",
        "DEBIAN/md5sums",
    ]))?
    .expect_success()?;
    Ok(())
}

#[test]
fn nothing_of_the_building_machine_is_inside() -> Result<()> {
    let folder = unpacked()?;
    let program = fs::read(folder.path().join("usr/bin/lb"))?;
    let home = std::env::var("HOME")?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("no folder above")?;
    let mut strange = BTreeSet::new();
    for needle in [format!("{home}/.cargo"), root.display().to_string()] {
        if program
            .windows(needle.len())
            .any(|window| window == needle.as_bytes())
        {
            strange.insert(needle);
        }
    }
    ensure!(strange.is_empty(), "the program names {strange:?}");
    Ok(())
}
