//! `cargo xtask run` with arguments: lb on this host instead of in a lab.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Error, Result};

use crate::RunArguments;
use crate::build;
use crate::root;

/// Becomes `lb run` with the given arguments.
pub(crate) fn run(arguments: &RunArguments) -> Result<Infallible> {
    let lb = build::release_path();
    root::go_on_as_root("attaching to a network interface needs root")?;
    let mut command = Command::new(&lb);
    command.arg("run");
    if let Some(config) = &arguments.config {
        command.arg("--config").arg(config);
    }
    if let Some(interface) = &arguments.interface {
        command.arg("--interface").arg(interface);
    }
    command.args(&arguments.arguments);
    println!("{} run …", lb.display());
    Err(Error::new(command.exec()).context(format!("{} cannot be started", lb.display())))
}
