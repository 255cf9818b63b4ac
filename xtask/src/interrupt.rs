//! Ctrl-C and termination as a flag, so that what is up is taken down in order.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static ASKED_TO_STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn remember(_: c_int) {
    ASKED_TO_STOP.store(true, Ordering::Relaxed);
}

/// From now on Ctrl-C, SIGTERM and SIGHUP only set the flag.
pub(crate) fn catch() -> Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(remember),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else, which is allowed at any
        // point of the program.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Whether somebody asked this process to stop.
pub(crate) fn is_asked() -> bool {
    ASKED_TO_STOP.load(Ordering::Relaxed)
}

/// An error when somebody asked this process to stop.
pub(crate) fn check() -> Result<()> {
    if is_asked() {
        bail!("interrupted");
    }
    Ok(())
}
