//! A running program of the lab, stopped by its own process number and waited for.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a program may take to stop by request.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running program; dropping it stops it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    left_running: bool,
}

impl Process {
    pub(crate) fn new(name: &str, child: Child, log: PathBuf, left_running: bool) -> Self {
        Self {
            name: name.to_owned(),
            child,
            log,
            left_running,
        }
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far, to stdout and stderr.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.nix_pid(), signal)
            .with_context(|| format!("{} cannot be sent {signal}", self.name))
    }

    /// Waits for its end, for at most this long.
    #[must_use]
    pub fn wait(&mut self, at_most: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it by request, by force when it does not listen, and waits for its end.
    ///
    /// # Errors
    /// When it can be neither stopped nor waited for.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if self.is_running() {
            self.signal(Signal::SIGTERM)?;
        }
        match self.wait(PATIENCE) {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }

    /// Ends it by force, as a crash would, and waits for its end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        let sentence = || format!("{} cannot be ended", self.name);
        self.child.kill().with_context(sentence)?;
        self.child.wait().with_context(sentence)
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.left_running
            && let Err(error) = self.stop()
        {
            eprintln!("{error:#}");
        }
    }
}
