//! A blocking connection, for the examples.

use std::{
    error::Error,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::Arc,
};

use lb_mysql::{
    auth::client::{Action, Login},
    wire::{
        error::Refusal,
        packet::{self, Measure},
        response::MOST_LOGIN,
    },
};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

pub(crate) type Fallible<T> = Result<T, Box<dyn Error>>;

pub(crate) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) buffer: Vec<u8>,
    pub(crate) sequence: u8,
}

impl Connection {
    /// To an address, or to a Unix socket.
    pub(crate) fn open(address: &str) -> Fallible<Self> {
        if address.starts_with('/') {
            return Ok(Self::of(Box::new(UnixStream::connect(address)?)));
        }
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self::of(Box::new(stream)))
    }

    pub(crate) fn of(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            sequence: 0,
        }
    }

    pub(crate) fn fill(&mut self) -> Fallible<()> {
        let mut bytes = [0; 16 << 10];
        let length = self.stream.read(&mut bytes)?;
        if length == 0 {
            return Err("closed".into());
        }
        self.buffer.extend_from_slice(&bytes[..length]);
        Ok(())
    }

    pub(crate) fn receive(&mut self) -> Fallible<Vec<u8>> {
        loop {
            if let Measure::Whole(extent) =
                packet::measure(&self.buffer, self.sequence, MOST_LOGIN)?
            {
                let payload = packet::payload(&self.buffer[..extent.bytes]).into_owned();
                self.buffer.drain(..extent.bytes);
                self.sequence = extent.next_sequence;
                return Ok(payload);
            }
            self.fill()?;
        }
    }

    pub(crate) fn send(&mut self, payload: &[u8]) -> Fallible<()> {
        let mut out = Vec::new();
        packet::put(&mut out, &mut self.sequence, payload);
        self.stream.write_all(&out)?;
        Ok(self.stream.flush()?)
    }

    /// Answers the server until it has decided. Gives its decision.
    pub(crate) fn log_in(&mut self, mut login: Login) -> Fallible<Vec<u8>> {
        loop {
            let payload = self.receive()?;
            println!("  server: {}", shown(&payload));
            match login.feed(&payload)? {
                Action::Send(answer) => {
                    println!("  client: {} bytes", answer.len());
                    self.send(&answer)?;
                }
                Action::Read => {}
                Action::Done | Action::Refused => return Ok(payload),
            }
        }
    }
}

pub(crate) fn shown(payload: &[u8]) -> String {
    let bytes = payload.iter().take(100).map(|byte| match *byte {
        byte @ b' '..=b'~' => char::from(byte).to_string(),
        byte => format!("<{byte:02x}>"),
    });
    bytes.collect()
}

pub(crate) fn refused(payload: &[u8]) -> String {
    let words = |error: Refusal<'_>| {
        format!(
            "error {}: {}",
            error.code,
            String::from_utf8_lossy(error.message)
        )
    };
    Refusal::read(payload).map_or_else(|| "not MySQL".to_owned(), words)
}

/// TLS with a server that may be anyone.
pub(crate) fn secure(
    stream: Box<dyn Stream>,
) -> Fallible<StreamOwned<ClientConnection, Box<dyn Stream>>> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("server")?;
    let client = ClientConnection::new(Arc::new(config), name)?;
    Ok(StreamOwned::new(client, stream))
}

/// Trusts everyone.
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
        let algorithms = self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
