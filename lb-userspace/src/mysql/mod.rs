//! Routing of MySQL sessions: from the config to a running proxy, and what it tells.
//!
//! What there is to know of MySQL is in the crate `lb-mysql`.

mod changing;
mod intercept;
mod lease;
mod reload;
pub mod seen;
mod settings;
mod status;
mod tls;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lb_mysql::proxy::{Proxy, Settings, StartError};
use tokio_rustls::rustls::ServerConfig;

pub use self::{
    changing::change_primary,
    reload::{Difference, difference},
    status::{of_proxy, status},
};
use crate::{
    config::model::mysql as model,
    dataplane::{self, Interceptor},
};

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
    /// Connections cannot be taken.
    #[error(transparent)]
    Intercept(#[from] dataplane::Error),
}

/// A proxy at work, and what brings connections into it.
pub struct Running {
    // Goes before the proxy does: connects have to reach the servers by then.
    interceptor: Mutex<Option<Interceptor>>,
    proxy: Proxy,
    /// The certificate that was made at the start, if one was.
    own_tls: Option<Arc<ServerConfig>>,
}

/// What a running proxy can go on with.
#[derive(Debug)]
pub struct Prepared(Settings);

impl Running {
    /// Reads what another config names, without changing anything: one that differs only in what
    /// [`difference`] takes for a change.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn prepare(&self, config: &model::Proxy) -> Result<Prepared, Error> {
        let mut settings = settings::settings(config)?;
        if let (None, Some(own)) = (&config.tls, &self.own_tls) {
            settings.tls = Some(Arc::clone(own));
        }
        Ok(Prepared(settings))
    }

    /// Goes on with that. Sessions stay.
    pub fn change(&self, Prepared(settings): Prepared) {
        self.proxy.change(settings);
    }

    /// The proxy itself.
    #[must_use]
    pub const fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    fn interceptor(&self) -> MutexGuard<'_, Option<Interceptor>> {
        self.interceptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets connections of this host go to the servers again.
    pub fn let_go(&self) {
        drop(self.interceptor().take());
    }
}

/// Starts the proxy. It listens when this returns.
///
/// # Errors
/// When a file cannot be read, an address is in use, or connections cannot be taken.
pub fn start(config: &model::Proxy) -> Result<Running, Error> {
    if config.intercept.is_some() {
        // Before anybody comes in.
        dataplane::check_intercept()?;
    }
    let settings = settings::settings(config)?;
    let own_tls = settings.tls.clone().filter(|_| config.tls.is_none());
    let proxy = Proxy::start(settings)?;
    let interceptor = intercept::start(config)?;
    Ok(Running {
        interceptor: Mutex::new(interceptor),
        proxy,
        own_tls,
    })
}
