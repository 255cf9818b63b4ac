//! The tarball: unpacked, its binary runs anywhere, and steers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_tests::scenario::{Agent, Farm, Mode, Outcome, expect_cycle, names};
use object::read::elf::{ElfFile64, ProgramHeader as _};

use crate::package;

fn unpacked(into: &Path) -> Result<PathBuf> {
    let file = package(".tar.gz")?;
    Outcome::of(
        Command::new("tar")
            .arg("-xzf")
            .arg(&file)
            .arg("-C")
            .arg(into),
    )?
    .expect_success()?;
    let mut entries = std::fs::read_dir(into)?;
    let folder = entries.next().context("the tarball is empty")??.path();
    ensure!(entries.next().is_none(), "more than one folder");
    Ok(folder)
}

#[test]
fn the_binary_needs_nothing() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let folder = unpacked(temporary.path())?;
    let bytes = std::fs::read(folder.join("lb"))?;
    let file = ElfFile64::<object::Endianness>::parse(&*bytes)?;
    let asks_for_a_linker = file
        .elf_program_headers()
        .iter()
        .any(|header| header.p_type(object::Endianness::Little) == object::elf::PT_INTERP);
    ensure!(!asks_for_a_linker, "it is linked dynamically");

    // In a root with nothing else in it.
    let root = tempfile::tempdir()?;
    std::fs::copy(folder.join("lb"), root.path().join("lb"))?;
    std::fs::copy(folder.join("lb.toml"), root.path().join("lb.toml"))?;
    let alone = |arguments: &[&str]| {
        let mut command = Command::new("chroot");
        Outcome::of(command.arg(root.path()).arg("/lb").args(arguments))?.expect_success()
    };
    ensure!(alone(&["--version"])?.starts_with("lb "));
    let said = alone(&["check", "--config", "/lb.toml"])?;
    ensure!(said.contains("1 service, 2 backends, ok"), "{said}");
    Ok(())
}

#[test]
fn the_binary_steers() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let folder = unpacked(temporary.path())?;
    let lab = Farm::wired(Mode::Native, 3)?;
    let _servers = Farm::nginx(&lab)?;
    let config = Farm::config(&lab, Mode::Native).service(Farm::web(3));
    let command = lab.command("lb", folder.join("lb"))?;
    let _agent = Agent::start_by(&lab, &config, command)?;
    let address = std::net::SocketAddr::new(lb_lab::VIP4.into(), 80);
    expect_cycle(&names(&lab, address, 6)?, &["web1", "web2", "web3"])
}

#[test]
fn the_usual_parts_are_there() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let folder = unpacked(temporary.path())?;
    for name in [
        "LICENSE",
        "docs/config.md",
        "docs/THIRD-PARTY-LICENCES",
        "man/lb.1",
        "completions/bash",
        "systemd/lb.service",
        "systemd/app-host.conf",
        "systemd/sysusers.conf",
    ] {
        ensure!(folder.join(name).is_file(), "{name} is missing");
    }
    Ok(())
}
