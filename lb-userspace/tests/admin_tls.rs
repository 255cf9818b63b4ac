//! The admin API by HTTPS: who has the authority reads it, plain HTTP gets nothing, and a renewed
//! certificate is shown without a restart.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use lb_userspace::{
    admin::{Pieces, Server, StatusSource},
    config::model::{Admin, KeyPair},
    flow_list::Query,
    status::Status,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, Stream, crypto::ring, pki_types::CertificateDer,
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct Source;

impl StatusSource for Source {
    fn status(&self) -> Status {
        unreachable!("nobody asks for it")
    }

    fn flows(&self, _: &Query) -> Result<Box<dyn Pieces>, String> {
        Err("there are no flows here".to_owned())
    }

    fn capture(&self, _: &lb_userspace::capture::Query) -> Result<Box<dyn Pieces>, String> {
        Err("nothing can be captured here".to_owned())
    }

    fn why(&self, _: &lb_userspace::why::Query) -> Result<lb_userspace::why::Answer, String> {
        Err("nothing can be asked here".to_owned())
    }
}

/// Writes a pair that a new authority has signed, and gives the authority's certificate.
fn write_pair(folder: &Path) -> CertificateDer<'static> {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["lb1".to_owned()]).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("certificate"), own.pem()).unwrap();
    fs::write(folder.join("key"), key.serialize_pem()).unwrap();
    authority.der().clone()
}

/// The fields are dropped in this order.
struct Stage {
    _server: Server,
    _runtime: Runtime,
    address: SocketAddr,
    authority: CertificateDer<'static>,
    folder: TempDir,
}

fn admin(folder: &Path) -> Admin {
    Admin {
        socket: folder.join("lb.sock"),
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        token_file: None,
        tls: Some(KeyPair {
            certificate: folder.join("certificate"),
            key: folder.join("key"),
        }),
    }
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = write_pair(folder.path());
        let runtime = Runtime::new().unwrap();
        let mut server = Server::new(&admin(folder.path())).unwrap();
        let source: Arc<dyn StatusSource> = Arc::new(Source);
        runtime.block_on(async { server.serve(source).unwrap() });
        Self {
            address: server.tcp_address().unwrap(),
            _server: server,
            _runtime: runtime,
            authority,
            folder,
        }
    }

    fn get(&self, authority: &CertificateDer<'static>) -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client =
            ClientConnection::new(Arc::new(config), "lb1".try_into().unwrap()).unwrap();
        let mut socket = connect(self.address);
        let mut stream = Stream::new(&mut client, &mut socket);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: lb1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn it_is_read_by_https_and_by_nothing_else() {
    let stage = Stage::new();
    let answer = stage.get(&stage.authority).unwrap();
    assert!(answer.contains("{\"alive\":true}"), "{answer}");

    let mut plain = connect(stage.address);
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: lb1\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.contains("HTTP") && !text.contains("alive"), "{text}");
}

#[test]
fn one_that_does_not_shake_hands_keeps_nobody_waiting() {
    let stage = Stage::new();
    let _silent: Vec<_> = (0..6).map(|_| connect(stage.address)).collect();
    let answer = stage.get(&stage.authority).unwrap();
    assert!(answer.contains("{\"alive\":true}"), "{answer}");
}

#[test]
fn a_renewed_certificate_is_shown_and_a_broken_one_is_not() {
    let stage = Stage::new();
    let renewed = write_pair(stage.folder.path());
    let begin = Instant::now();
    while stage.get(&renewed).is_err() {
        assert!(begin.elapsed() < PATIENCE, "the old one is shown");
    }
    assert!(stage.get(&stage.authority).is_err());

    fs::write(stage.folder.path().join("key"), "no key").unwrap();
    // It looks once a second, and there is nothing to see of it.
    thread::sleep(Duration::from_millis(1100));
    stage.get(&renewed).unwrap();
}

#[test]
fn files_that_are_of_no_use_are_told() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path());
    let sentence = |file: &str, text: &str| {
        fs::write(folder.path().join(file), text).unwrap();
        let error = Server::new(&admin(folder.path())).unwrap_err();
        write_pair(folder.path());
        error.to_string()
    };
    for (file, text, words) in [
        (
            "certificate",
            "",
            "(admin.tls_certificate): there is no certificate in it",
        ),
        ("key", "", "(admin.tls_key): "),
        (
            "key",
            &rcgen::KeyPair::generate().unwrap().serialize_pem(),
            "(admin.tls_key): ",
        ),
    ] {
        let said = sentence(file, text);
        assert!(said.contains(words), "{said}");
    }
}
