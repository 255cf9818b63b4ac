//! Routing of MySQL sessions: from the config to a running proxy, and what it tells.
//!
//! What there is to know of MySQL is in the crate `lb-mysql`.

mod changing;
mod lease;
mod settings;
mod status;
mod tls;

use std::{io, path::PathBuf};

use lb_mysql::proxy::{Proxy, StartError};

pub use self::{changing::change_primary, status::status};
use crate::config::model::mysql as model;

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that the config names.
    #[error("{key}: cannot read {}: {source}", path.display())]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{key}: {}: {why}", path.display())]
    Contents {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for clients of MySQL: {0}")]
    Certificate(String),
    /// Listening, threads.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// The key that the proxy cannot follow yet, if there is one.
#[must_use]
pub fn not_yet(config: &model::Proxy) -> Option<&'static str> {
    let rows = [
        (config.intercept, "mysql.intercept"),
        (
            config.read_scheduler == model::ReadScheduler::LeastConnections,
            "mysql.read_scheduler = \"least-connections\"",
        ),
        (
            config.slow_statement.is_some(),
            "mysql.slow_statement_seconds",
        ),
        (
            config
                .servers
                .iter()
                .any(|one| one.max_connections.is_some()),
            "mysql.server.max_connections",
        ),
        (
            config.users.iter().any(|one| one.max_connections.is_some()),
            "mysql.user.max_connections",
        ),
    ];
    let mut rows = rows.into_iter();
    rows.find(|(is_set, _)| *is_set).map(|(_, key)| key)
}

/// Starts the proxy. It listens when this returns.
///
/// # Errors
/// When a file cannot be read, or an address is in use.
pub fn start(config: &model::Proxy) -> Result<Proxy, Error> {
    Ok(Proxy::start(settings::settings(config)?)?)
}
