//! Waiting for what comes soon.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long anything of the deployment may take to start or to be noticed.
pub(super) const LONG: Duration = Duration::from_secs(20);

const NAP: Duration = Duration::from_millis(20);

/// Tries until it works, and then gives what it gave.
///
/// # Errors
/// With what the last try said, when the time is over.
pub(super) fn await_until<T>(
    at_most: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + at_most;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| {
                    format!("waited {} s in vain for: {what}", at_most.as_secs())
                });
            }
            Err(_) => thread::sleep(NAP),
        }
    }
}
