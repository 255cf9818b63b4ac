//! TLS towards a backend: whom to trust, and what is wrong with what it showed.

use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
        SignatureScheme,
        client::{
            Resumption, WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    },
};

use super::{
    CertificateEnd, Connection, certificate, failed::Failed, failed::system_words, line::bounded,
};
use crate::config::model::{Tls, Trust};

/// Where systems keep the certificates they trust; the first that is there counts.
const SYSTEM_FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Says whether a certificate is to be trusted; nothing does where any is taken.
pub(super) type Verifier = Option<Arc<Roots>>;

/// The certificates of a file.
#[derive(Debug)]
pub(super) struct Roots {
    verifier: Arc<WebPkiServerVerifier>,
    /// A server may show one of them as its own, signed by itself.
    own: Vec<CertificateDer<'static>>,
}

/// Files of certificates that have been read, until they change.
#[derive(Debug)]
pub(super) struct Trusted {
    provider: Arc<CryptoProvider>,
    files: Mutex<HashMap<PathBuf, (Version, Arc<Roots>)>>,
}

/// Tells one state of a file from another.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    inode: (u64, u64),
    length: u64,
    changed: (i64, i64),
}

impl Default for Trusted {
    fn default() -> Self {
        Self {
            provider: Arc::new(ring::default_provider()),
            files: Mutex::default(),
        }
    }
}

impl Trusted {
    /// The verifier for those who are to be trusted. Whoever cannot be read is not the backend's
    /// fault.
    pub(super) fn verifier(&self, trust: &Trust) -> Result<Verifier, Failed> {
        let file = match trust {
            Trust::Anyone => return Ok(None),
            Trust::File(file) => file.as_path(),
            Trust::System => SYSTEM_FILES
                .iter()
                .map(Path::new)
                .find(|file| file.is_file())
                .ok_or_else(|| {
                    Failed::not_asked(
                        "this system has no file of certificates to trust; name one with ca_file",
                    )
                })?,
        };
        self.read(file)
            .map(Some)
            .map_err(|why| Failed::not_asked(format_args!("ca_file {}: {why}", file.display())))
    }

    fn read(&self, file: &Path) -> Result<Arc<Roots>, String> {
        let found = fs::metadata(file).map_err(|error| system_words(&error))?;
        let version = Version {
            inode: (found.dev(), found.ino()),
            length: found.len(),
            changed: (found.mtime(), found.mtime_nsec()),
        };
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, roots)) = files.get(file)
            && *known == version
        {
            return Ok(Arc::clone(roots));
        }
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(file)
            .map_err(|error| format!("it cannot be read: {error}"))?;
        let own: Vec<_> = certificates.filter_map(Result::ok).collect();
        roots.add_parsable_certificates(own.iter().cloned());
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| "it has no certificate in it".to_owned())?;
        let roots = Arc::new(Roots { verifier, own });
        files.insert(file.to_owned(), (version, Arc::clone(&roots)));
        Ok(roots)
    }
}

/// Does the handshake, and notes when the certificate ends.
pub(super) async fn handshake(
    stream: Connection,
    address: SocketAddr,
    (tls, verifier, protocols): (&Tls, Verifier, &[&str]),
    ends: &CertificateEnd,
) -> Result<TlsStream<Connection>, Failed> {
    let name = match &tls.sni {
        Some(name) => ServerName::try_from(name.clone())
            .map_err(|_| Failed::not_asked("sni is not the name of a host"))?,
        None => ServerName::IpAddress(address.ip().into()),
    };
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Failed::not_asked)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Witness {
            verifier,
            may_be_nameless: tls.may_be_nameless,
            provider,
            ends: Arc::clone(ends),
        }))
        .with_no_client_auth();
    // A session that is taken up again shows no certificate.
    config.resumption = Resumption::disabled();
    let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
    config.alpn_protocols = protocols.collect();
    let connector = TlsConnector::from(Arc::new(config));
    connector
        .connect(name, stream)
        .await
        .map_err(|error| Failed::because(in_words(&error, tls, address)))
}

/// Notes what it sees, whatever becomes of it.
#[derive(Debug)]
struct Witness {
    verifier: Verifier,
    may_be_nameless: bool,
    provider: Arc<CryptoProvider>,
    ends: CertificateEnd,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(end) = certificate::end(certificate) {
            let _ = self.ends.set(end);
        }
        let Some(roots) = &self.verifier else {
            return Ok(ServerCertVerified::assertion());
        };
        let found =
            (roots.verifier).verify_server_cert(certificate, intermediates, name, ocsp, now);
        match found {
            // The chain is looked at before the name.
            Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                presented,
                ..
            })) if self.may_be_nameless && presented.is_empty() => {
                Ok(ServerCertVerified::assertion())
            }
            // A certificate of its own says by its key who it is.
            Err(Error::InvalidCertificate(
                CertificateError::Other(_) | CertificateError::UnknownIssuer,
            )) if roots
                .own
                .iter()
                .any(|own| own.as_ref() == certificate.as_ref())
                && certificate::end(certificate).is_some_and(|end| end > SystemTime::now()) =>
            {
                Ok(ServerCertVerified::assertion())
            }
            found => found,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.verifier {
            Some(roots) => (roots.verifier).verify_tls12_signature(message, certificate, signature),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.verifier {
            Some(roots) => (roots.verifier).verify_tls13_signature(message, certificate, signature),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Why a handshake failed.
fn in_words(error: &io::Error, tls: &Tls, address: SocketAddr) -> String {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref());
    if let Some(cause) = cause {
        return tls_words(cause, tls, address);
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "closed during the TLS handshake".to_owned();
    }
    format!("the TLS handshake failed: {}", system_words(error))
}

fn tls_words(cause: &Error, tls: &Tls, address: SocketAddr) -> String {
    if let Error::InvalidMessage(_) | Error::InappropriateMessage { .. } = cause {
        "the answer is not TLS".to_owned()
    } else if let Error::AlertReceived(alert) = cause {
        format!("the server refused the TLS handshake: {alert:?}")
    } else if let Error::InvalidCertificate(reason) = cause {
        certificate_words(reason, tls, address)
    } else if let Error::NoCertificatesPresented = cause {
        "the server showed no certificate".to_owned()
    } else {
        format!("the TLS handshake failed: {}", bounded(&cause.to_string()))
    }
}

fn certificate_words(reason: &CertificateError, tls: &Tls, address: SocketAddr) -> String {
    use CertificateError as Why;
    if let Why::ExpiredContext { not_after, .. } = reason {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(not_after.as_secs());
        format!("the {}", certificate::in_words(end, SystemTime::now()))
    } else if let Why::NotValidYet | Why::NotValidYetContext { .. } = reason {
        "the certificate is not valid yet".to_owned()
    } else if let Why::UnknownIssuer | Why::BadSignature = reason {
        // A signature is bad where one of the same name signed it.
        match &tls.trust {
            Trust::File(file) => format!(
                "the certificate is not signed by one of those in {}",
                file.display()
            ),
            Trust::System | Trust::Anyone => {
                "the certificate is not signed by one that this system trusts".to_owned()
            }
        }
    } else if let Why::NotValidForName | Why::NotValidForNameContext { .. } = reason {
        match &tls.sni {
            Some(name) => format!("the certificate is not for {name}"),
            None => format!(
                "the certificate is not for {}; name what it is for with sni",
                address.ip()
            ),
        }
    } else {
        format!(
            "the certificate is refused: {}",
            bounded(&reason.to_string())
        )
    }
}
