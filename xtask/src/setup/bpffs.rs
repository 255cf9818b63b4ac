//! The file system that maps and programs are pinned in.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount as mount_at};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::console;
use crate::root;

const PLACE: &str = "/sys/fs/bpf";

pub(super) fn is_mounted() -> bool {
    statfs(Path::new(PLACE)).is_ok_and(|state| state.filesystem_type() == BPF_FS_MAGIC)
}

/// What is there, or what is missing.
pub(super) fn state() -> std::result::Result<String, String> {
    if is_mounted() {
        Ok("bpffs is mounted".to_owned())
    } else {
        Err("bpffs is not mounted".to_owned())
    }
}

pub(super) fn mount() -> Result<()> {
    let began = Instant::now();
    ensure!(
        root::is_root(),
        "bpffs is not mounted, and only root may: run `sudo mount -t bpf bpf {PLACE}`, then this again"
    );
    mount_at(
        Some("bpf"),
        PLACE,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("bpffs cannot be mounted at {PLACE}"))?;
    console::done(format!("bpffs mounted at {PLACE}"), began);
    Ok(())
}
