//! The matrix on the kernel that this runs on: as the first process of an emulated machine, or in
//! a network namespace of its own. `cargo xtask test kernels` starts it and reads what it prints.

use std::{fs::File, path::Path};

use anyhow::{Context, Result};
use lb_tests::guest::{MARK, VARIANTS, Veth, all_rows, try_agent, try_decap, try_variant};
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        reboot::{RebootMode, reboot},
        utsname::uname,
    },
};
use serde_json::{Value, json};

const MODULE: &str = "/veth.ko";

fn main() -> Result<()> {
    let is_init = std::process::id() == 1;
    let result = if is_init {
        become_init()
    } else {
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace needs root")
    };
    let result = result.and_then(|()| run());
    if let Err(error) = &result {
        say(&json!({ "error": format!("{error:#}") }));
    }
    if is_init {
        reboot(RebootMode::RB_POWER_OFF)?;
    }
    result
}

fn become_init() -> Result<()> {
    for (kind, path) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("bpf", "/sys/fs/bpf"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
    ] {
        mount(Some(kind), path, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting {path}"))?;
    }
    if Path::new(MODULE).exists() {
        finit_module(&File::open(MODULE)?, c"", ModuleInitFlags::empty())
            .with_context(|| format!("loading {MODULE}"))?;
    }
    Ok(())
}

fn run() -> Result<()> {
    let release = uname()?.release().to_string_lossy().into_owned();
    say(&json!({ "release": release }));
    let veth = Veth::make()?;
    let rows = all_rows();
    // Some of them only, for a look at one.
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    for variant in VARIANTS {
        if is_wanted(variant.0) {
            say(&try_variant(variant, &rows, &veth));
        }
    }
    if is_wanted("decap") {
        say(&try_decap(&veth));
    }
    if is_wanted("agent") {
        say(&try_agent());
    }
    say(&json!({ "done": true }));
    Ok(())
}

fn say(line: &Value) {
    println!("{MARK}{line}");
}
