//! Health checks: thousands of backends, asked over and over from few threads.
//!
//! A [`Monitor`] asks and reports; what a report means for the data path is its reader's business.
//! Every backend has a task of its own, so a slow server delays nobody else's check.

mod agent;
mod lane;
mod machine;
mod monitor;
mod passive;
mod probe;

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use self::{
    agent::AgentWord,
    lane::{Busy, Lane},
    machine::Machine,
    monitor::Monitor,
    passive::{Finding, Handshakes, Verdict, Witness},
};
use crate::config::model::HealthCheck;

/// What is known of a backend from its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Nothing yet.
    Checking,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

impl Health {
    /// The word for status, logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Names a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendKey {
    /// Name of its service.
    pub service: Arc<str>,
    /// Its own name.
    pub backend: Arc<str>,
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.backend)
    }
}

/// A backend to check.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub key: BackendKey,
    /// Where it is asked; the check's own port, if it has one, goes first.
    pub address: SocketAddr,
    /// The service, where the check goes through it to the backend.
    pub through: Option<SocketAddr>,
    /// How.
    pub check: HealthCheck,
    /// What was known before; then the first result does not decide alone.
    pub initial: Option<Health>,
}

impl Target {
    /// Whether another one is the same backend, checked in the same way.
    fn is_checked_as(&self, other: &Self) -> bool {
        (&self.key, self.address, self.through, &self.check)
            == (&other.key, other.address, other.through, &other.check)
    }
}

/// What a check gave. There is one for every check, also when nothing changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The backend.
    pub key: BackendKey,
    /// Which of the monitor's targets of that name it is about: see [`Monitor::is_current`].
    pub target: u64,
    /// What is known of it now.
    pub health: Health,
    /// Whether this one passed; nothing where this machine could not ask.
    pub passed: Option<bool>,
    /// Whether that is news. The first report of a backend without [`Target::initial`] always is,
    /// unless this machine could not ask.
    pub changed: bool,
    /// For people: "HTTP 200 in 1.2 ms", "connect refused", "timed out after 1.0 s".
    pub detail: String,
    /// How long the check took.
    pub took: Duration,
    /// When the certificate that the backend showed ends, also where that is why the check failed.
    pub certificate_ends: Option<SystemTime>,
    /// How many seconds the backend's replication is behind, where the check asks for it, also where
    /// that is why it failed.
    pub lag: Option<f64>,
    /// What the backend's agent asked for so far, if it has one that was heard. That it is down is
    /// in `health` already.
    pub agent: Option<AgentWord>,
}
