//! The way to etcd's JSON gateway: HTTP, plain or encrypted.

use std::sync::Arc;

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

use crate::config::model::{EtcdServers, EtcdTls};

/// Seconds until a silent peer is asked for a sign of life, and between two questions; and how many
/// go unanswered before it counts as gone.
const KEEP_ALIVE: (u32, u32, u32) = (5, 2, 3);

/// To one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    /// Its URL.
    pub(super) endpoint: &'a str,
    tls: Option<&'a EtcdTls>,
}

impl<'a> Way<'a> {
    /// To each of them, one after the other.
    pub(crate) fn to_all(servers: &'a EtcdServers) -> impl Iterator<Item = Self> {
        let tls = servers.tls.as_ref();
        servers
            .endpoints
            .iter()
            .map(move |endpoint| Self { endpoint, tls })
    }

    /// To the first of them.
    pub(super) fn first(servers: &'a EtcdServers) -> Self {
        Self {
            endpoint: servers.endpoints.first().map_or("", String::as_str),
            tls: servers.tls.as_ref(),
        }
    }

    /// Sends a question; what comes back is the beginning of the answer.
    pub(super) async fn post(self, path: &str, body: &Value) -> Result<Incoming, String> {
        self.try_to_post(path, body)
            .await
            .map_err(|why| format!("cannot ask etcd at {}: {why}", self.endpoint))
    }

    async fn try_to_post(self, path: &str, body: &Value) -> Result<Incoming, String> {
        let (is_encrypted, authority) = match self.endpoint.split_once("://") {
            Some((scheme, rest)) => (scheme == "https", rest.trim_end_matches('/')),
            None => (false, self.endpoint),
        };
        let stream = TcpStream::connect(authority).await.map_err(words)?;
        notice_death(&stream).map_err(words)?;
        let request = Request::post(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(words)?;
        let response = if is_encrypted {
            let tls = self.tls.ok_or("tls_ca is missing")?;
            let connector = TlsConnector::from(Arc::new(client(tls)?));
            let name = ServerName::try_from(host(authority).to_owned()).map_err(words)?;
            let stream = connector.connect(name, stream).await.map_err(words)?;
            send(TokioIo::new(stream), request).await
        } else {
            send(TokioIo::new(stream), request).await
        };
        let response = response.map_err(words)?;
        if response.status() != StatusCode::OK {
            return Err(words(response.status()));
        }
        Ok(response.into_body())
    }
}

/// The host of `HOST:PORT`; an IPv6 address without its brackets.
fn host(authority: &str) -> &str {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

async fn send(
    stream: impl Read + Write + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(stream).await?;
    // It ends when the answer was read, or dropped.
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// What this side asks of etcd, and shows it. The files are read each time: connections are few, and a
/// renewed certificate counts at once.
fn client(tls: &EtcdTls) -> Result<ClientConfig, String> {
    let of_file = |key: &str, why: String| format!("{key}: {why}");
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&tls.ca)
        .map_err(|error| of_file("tls_ca", words(error)))?
        .filter_map(Result::ok);
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        let why = format!("{} has no certificate in it", tls.ca.display());
        return Err(of_file("tls_ca", why));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(words)?
        .with_root_certificates(roots);
    let Some(own) = &tls.own else {
        return Ok(builder.with_no_client_auth());
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&own.certificate)
        .map_err(|error| of_file("tls_client_certificate", words(error)))?
        .collect();
    let chain = chain.map_err(|error| of_file("tls_client_certificate", words(error)))?;
    let key = PrivateKeyDer::from_pem_file(&own.key)
        .map_err(|error| of_file("tls_client_key", words(error)))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| of_file("tls_client_certificate", words(error)))
}

/// Has the kernel find out that a silent peer is gone: a watch says nothing for hours.
fn notice_death(stream: &TcpStream) -> nix::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEP_ALIVE.0)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEP_ALIVE.1)?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEP_ALIVE.2)
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn words(error: impl ToString) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_a_certificate_has_to_have_is_the_host() {
        for (authority, name) in [
            ("etcd.example:2379", "etcd.example"),
            ("10.0.0.5:2379", "10.0.0.5"),
            ("[2001:db8::5]:2379", "2001:db8::5"),
        ] {
            assert_eq!(host(authority), name);
            ServerName::try_from(name).unwrap();
        }
    }
}
