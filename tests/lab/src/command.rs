//! Programs inside a namespace.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// A command that will run in the namespace. Unlike `ip netns exec` it leaves the mount namespace
/// alone, so that the program sees `/sys/fs/bpf`.
pub(crate) fn in_namespace(
    namespace: Arc<File>,
    program: impl AsRef<OsStr>,
    ends_with_us: bool,
) -> Command {
    let mut command = Command::new(program);
    let prepare = move || -> io::Result<()> {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
        if ends_with_us {
            // By request and not by force: nginx must get to stop its workers.
            set_pdeathsig(Signal::SIGTERM)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls and turns an error number
    // into an `io::Error`; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
    command
}
