//! What only root may do.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Error, Result, bail};

/// Set for a child that was started with sudo after everything was built.
const BUILT: &str = "LB_XTASK_BUILT";

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether set-up and build were done before this process became root.
pub(crate) fn is_built() -> bool {
    env::var_os(BUILT).is_some()
}

/// Goes on as root: returns at once when this is root, else starts the same command line again
/// with sudo. Building stays the user's, so that no file of root's is left in the target folder.
pub(crate) fn go_on_as_root(why: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    if is_built() {
        bail!("{why}, and sudo did not give it");
    }
    println!("{why}: going on with sudo");
    let mut command = Command::new("sudo");
    command.args(["env", &format!("{BUILT}=1")]);
    // sudo drops these.
    for key in ["CARGO_TARGET_DIR", "PATH", "HOME"] {
        if let Some(value) = env::var_os(key) {
            let mut assignment = std::ffi::OsString::from(format!("{key}="));
            assignment.push(value);
            command.arg(assignment);
        }
    }
    command
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1));
    Err(Error::new(command.exec()).context(format!("{why}, and sudo cannot be started")))
}
