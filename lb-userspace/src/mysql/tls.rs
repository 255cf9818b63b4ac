//! TLS of both sides.

use std::{path::Path, sync::Arc};

use lb_mysql::proxy::Tls;
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};

use super::Error;
use crate::config::model::mysql as model;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What clients are shown: the config's certificate, or one made now, as servers do it.
pub(super) fn towards_clients(pair: Option<&model::KeyPair>) -> Result<Arc<ServerConfig>, Error> {
    let (chain, key) = match pair {
        Some(pair) => (
            certificates("mysql.tls_certificate", &pair.certificate)?,
            key("mysql.tls_key", &pair.key)?,
        ),
        None => own_certificate()?,
    };
    let wrong = |error: tokio_rustls::rustls::Error| match pair {
        Some(pair) => Error::Contents {
            key: "mysql.tls_key",
            path: pair.key.clone(),
            why: error.to_string(),
        },
        None => Error::Certificate(error.to_string()),
    };
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(wrong)?;
    Ok(Arc::new(config))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn own_certificate() -> Result<Pair, Error> {
    let made = rcgen::generate_simple_self_signed(["lb".to_owned()])
        .map_err(|error| Error::Certificate(error.to_string()))?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| Error::Certificate(error.to_owned()))?;
    Ok((vec![made.cert.der().clone()], key))
}

/// How a server is reached.
pub(super) fn towards_server(server: &model::Server) -> Result<Tls, Error> {
    let by_address = || ServerName::IpAddress(server.address.ip().into());
    match &server.tls {
        model::ServerTls::Off => Ok(Tls::Off),
        model::ServerTls::Prefer => {
            let config = client(server, Arc::new(Anyone(provider())))?;
            Ok(Tls::Prefer(config, by_address()))
        }
        model::ServerTls::Require { ca, name } => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates("mysql.server.tls_ca", ca)?);
            let wrong = |why: String| Error::Contents {
                key: "mysql.server.tls_ca",
                path: ca.clone(),
                why,
            };
            let verifier =
                tokio_rustls::rustls::client::WebPkiServerVerifier::builder_with_provider(
                    Arc::new(roots),
                    provider(),
                )
                .build()
                .map_err(|error| wrong(error.to_string()))?;
            let name = match name {
                Some(name) => ServerName::try_from(name.clone())
                    .map_err(|_| wrong(format!("{name:?} is no name of a server")))?,
                None => by_address(),
            };
            Ok(Tls::Require(client(server, verifier)?, name))
        }
    }
}

fn client(
    server: &model::Server,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Arc<ClientConfig>, Error> {
    let wrong = |error: tokio_rustls::rustls::Error| Error::Certificate(error.to_string());
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match &server.client {
        Some(pair) => config
            .with_client_auth_cert(
                certificates("mysql.server.tls_certificate", &pair.certificate)?,
                key("mysql.server.tls_key", &pair.key)?,
            )
            .map_err(wrong)?,
        None => config.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |why: String| Error::Contents {
        key,
        path: file.to_owned(),
        why,
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|error| wrong(error.to_string()))?
        .collect();
    let all = all.map_err(|error| wrong(error.to_string()))?;
    if all.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(all)
}

fn key(key: &'static str, file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| Error::Contents {
        key,
        path: file.to_owned(),
        why: error.to_string(),
    })
}

/// Takes any certificate: against those who listen, not against those who answer in a server's
/// place.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, tokio_rustls::rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
