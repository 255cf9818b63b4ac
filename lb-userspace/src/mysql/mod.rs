//! Routing of MySQL sessions: from the config to a running proxy, and what it tells.
//!
//! What there is to know of MySQL is in the crate `lb-mysql`.

mod settings;
mod status;
mod tls;

use std::{io, path::PathBuf};

use lb_mysql::proxy::{Proxy, StartError};

pub use self::status::status;
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

/// Starts the proxy. It listens when this returns.
///
/// # Errors
/// When a file cannot be read, or an address is in use.
pub fn start(config: &model::Proxy) -> Result<Proxy, Error> {
    Ok(Proxy::start(settings::settings(config)?)?)
}
