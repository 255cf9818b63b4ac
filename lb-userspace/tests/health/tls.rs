//! Checks over TLS: which certificates are taken, and what is said of the others.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use lb_userspace::{
    config::model::{CheckKind, Get, HealthCheck, StatusCodes, Tls, Trust},
    health::{Health, Monitor},
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use crate::{SECOND, check, first, target};

const NAME: &str = "web.example";
const DAY: Duration = Duration::from_secs(86_400);

/// One who signs certificates, and the file that says so.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Shown {
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Self { folder, issuer }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate that ends after so many days and an hour, which may be in the past.
    fn sign(&self, names: &[&str], days: i64) -> Shown {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let end = now.unwrap().as_secs() as i64 + days * 86_400 + 3600;
        params.not_before = date_time_ymd(2000, 1, 1);
        let midnight = date_time_ymd(1970, 1, 1);
        params.not_after = midnight + Duration::from_secs(end as u64);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Shown { certificate, key }
    }

    fn trust(&self) -> Trust {
        Trust::File(self.file())
    }
}

/// An HTTPS server that shows this.
async fn server(shown: &Shown) -> SocketAddr {
    let key = PrivateKeyDer::try_from(shown.key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![shown.certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let asked = stream.get_ref().1.server_name().map(str::to_owned);
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
                // What the request names is what TLS asked for.
                let expected = match &asked {
                    Some(name) => format!("host: {name}:{}\r\n", address.port()),
                    None => format!("host: {address}\r\n"),
                };
                let status = if request.contains(&expected) {
                    200
                } else {
                    400
                };
                let answer = format!("HTTP/1.1 {status} .\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

fn https(sni: Option<&str>, trust: Trust) -> HealthCheck {
    let get = Get {
        path: "/".to_owned(),
        host: None,
        expect_status: StatusCodes(vec![200..=399]),
    };
    let sni = sni.map(str::to_owned);
    HealthCheck {
        timeout: 5 * SECOND,
        ..check(CheckKind::Https(
            get,
            Tls {
                sni,
                trust,
                may_be_nameless: false,
            },
        ))
    }
}

#[tokio::test]
async fn a_good_certificate_is_taken_and_its_end_is_told() {
    let authority = Authority::new();
    for (names, sni) in [([NAME], Some(NAME)), (["127.0.0.1"], None)] {
        let address = server(&authority.sign(&names, 30)).await;
        let report = first(target("a", address, https(sni, authority.trust()))).await;
        assert_eq!(report.health, Health::Up, "{}", report.detail);
        assert!(
            report.detail.starts_with("HTTP 200 in "),
            "{}",
            report.detail
        );
        assert!(
            report.detail.ends_with(" ms, certificate ends in 30 days"),
            "{}",
            report.detail
        );
        let left = report
            .certificate_ends
            .unwrap()
            .duration_since(SystemTime::now());
        assert!((29 * DAY..31 * DAY).contains(&left.unwrap()));
    }
}

#[tokio::test]
async fn a_bad_certificate_fails_the_check_with_the_reason() {
    let (ours, other) = (Authority::new(), Authority::new());
    let file = ours.file();
    for (shown, sni, reason) in [
        (
            ours.sign(&["other.example"], 30),
            Some(NAME),
            "the certificate is not for web.example".to_owned(),
        ),
        (
            ours.sign(&[NAME], 30),
            None,
            "the certificate is not for 127.0.0.1; name what it is for with sni".to_owned(),
        ),
        (
            ours.sign(&[NAME], -4),
            Some(NAME),
            "the certificate ended 3 days ago".to_owned(),
        ),
        (
            other.sign(&[NAME], 30),
            Some(NAME),
            format!(
                "the certificate is not signed by one of those in {}",
                file.display()
            ),
        ),
    ] {
        let address = server(&shown).await;
        let report = first(target("a", address, https(sni, ours.trust()))).await;
        assert_eq!(report.health, Health::Down, "{}", report.detail);
        assert_eq!(report.detail, reason);
        assert!(report.certificate_ends.is_some(), "{reason}");
        // Whoever does not care takes all of them.
        let report = first(target("a", address, https(sni, Trust::Anyone))).await;
        assert_eq!(report.health, Health::Up, "{}", report.detail);
        assert!(report.certificate_ends.is_some(), "{reason}");
    }
}

#[tokio::test]
async fn what_this_machine_trusts_is_read_and_read_anew() {
    let authority = Authority::new();
    let address = server(&authority.sign(&[NAME], 30)).await;
    let file = authority.file();
    let good = std::fs::read(&file).unwrap();
    let report = first(target("a", address, https(Some(NAME), Trust::System))).await;
    let words = &report.detail;
    assert!(
        words == "the certificate is not signed by one that this system trusts"
            || words.starts_with("not checked: this system has no file"),
        "{words}"
    );

    std::fs::remove_file(&file).unwrap();
    let (reports, mut reported) = mpsc::channel(16);
    let https = https(Some(NAME), authority.trust());
    let _monitor = Monitor::start(vec![target("a", address, https)], reports);
    let report = reported.recv().await.unwrap();
    assert_eq!((report.health, report.changed), (Health::Checking, false));
    let missing = "no such file or directory";
    assert_eq!(
        report.detail,
        format!("not checked: ca_file {}: {missing}", file.display())
    );
    for (content, health) in [
        (good, Health::Up),
        (
            std::fs::read(Authority::new().file()).unwrap(),
            Health::Down,
        ),
    ] {
        replace(&file, &content);
        loop {
            let report = reported.recv().await.unwrap();
            if report.health == health {
                break;
            }
        }
    }
}

/// As one should: another file takes its place.
fn replace(file: &Path, content: &[u8]) {
    let next = file.with_extension("next");
    std::fs::write(&next, content).unwrap();
    std::fs::rename(&next, file).unwrap();
}

#[tokio::test]
async fn what_is_not_tls_is_told_and_costs_little() {
    for (says, reason) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "the answer is not TLS",
        ),
        (b"", "closed during the TLS handshake"),
        (
            b"\x15\x03\x03\x00\x02\x02\x28",
            "the server refused the TLS handshake: HandshakeFailure",
        ),
        // A handshake message of 16 MiB begins, and never ends.
        (
            b"\x16\x03\x03\x40\x00\x02\xff\xff\xff",
            "the answer is not TLS",
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut hello = [0; 2048];
                    let _ = stream.read(&mut hello).await;
                    let _ = stream.write_all(says).await;
                    if says.len() == 9 {
                        while stream.write_all(&[0; 4096]).await.is_ok() {}
                    }
                });
            }
        });
        let start = std::time::Instant::now();
        let report = first(target("a", address, https(None, Trust::Anyone))).await;
        assert_eq!(report.health, Health::Down);
        assert_eq!(report.detail, reason, "{says:?}");
        assert!(start.elapsed() < 8 * SECOND, "{:?}", start.elapsed());
        assert_eq!(report.certificate_ends, None);
    }
}
