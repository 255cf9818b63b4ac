//! What clients of the TCP socket are shown, if they are to come by HTTPS.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::config::model::KeyPair;

/// How often it is looked whether the files have changed, at most.
const LOOK: Duration = Duration::from_secs(1);

/// A certificate with its key, which follows its files.
pub(super) struct Identity {
    pair: KeyPair,
    acceptor: TlsAcceptor,
    stamps: [Option<SystemTime>; 2],
    looked: Instant,
}

/// Not the key itself.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.pair).finish()
    }
}

/// Why nothing can be encrypted.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {file} ({key}): {why}")]
pub struct Error {
    /// The key of the config that names it.
    key: &'static str,
    /// The file.
    file: PathBuf,
    /// What is wrong with it.
    why: String,
}

impl Identity {
    pub(super) fn read(pair: KeyPair) -> Result<Self, Error> {
        // Before they are read, so that a change meanwhile is seen.
        let stamps = stamps(&pair);
        Ok(Self {
            acceptor: acceptor(&pair)?,
            pair,
            stamps,
            looked: Instant::now(),
        })
    }

    /// For the next connection. Files that have changed are read; what is wrong with them is said
    /// once, and the pair that was goes on.
    pub(super) fn acceptor(&mut self) -> TlsAcceptor {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.look();
        }
        self.acceptor.clone()
    }

    fn look(&mut self) {
        let stamps = stamps(&self.pair);
        if stamps == self.stamps {
            return;
        }
        self.stamps = stamps;
        match acceptor(&self.pair) {
            Ok(acceptor) => {
                self.acceptor = acceptor;
                let file = self.pair.certificate.display();
                tracing::info!("the admin API shows the new certificate of {file}");
            }
            Err(error) => {
                tracing::warn!("the admin API goes on with its former certificate: {error}");
            }
        }
    }
}

fn stamps(pair: &KeyPair) -> [Option<SystemTime>; 2] {
    [&pair.certificate, &pair.key].map(|file| fs::metadata(file).ok()?.modified().ok())
}

fn acceptor(pair: &KeyPair) -> Result<TlsAcceptor, Error> {
    let wrong = |key, file: &Path, why: String| Error {
        key,
        file: file.to_owned(),
        why,
    };
    let of_certificate = |why| wrong("admin.tls_certificate", &pair.certificate, why);
    let of_key = |why| wrong("admin.tls_key", &pair.key, why);
    let text = fs::read(&pair.certificate)
        .map_err(|error: io::Error| of_certificate(error.to_string()))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| of_certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(of_certificate("there is no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(|error| of_key(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| of_key(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| of_key(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
