//! Real web servers checked over TLS: one with a good certificate, one whose certificate has ended,
//! one whose certificate is another's.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_lab::{Nginx, Routed};
use lb_tests::scenario::{Agent, Farm, Mode, names};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::web;

const DEADLINE: Duration = Duration::from_secs(10);
const TLS_PORT: u16 = 8443;
const NAME: &str = "web.example";

type Authority = Issuer<'static, KeyPair>;

/// One who signs certificates; its own is in the file `ca.pem` of the lab.
fn authority(lab: &Routed) -> Result<Authority> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(lab.folder().join("ca.pem"), params.self_signed(&key)?.pem())?;
    Ok(Issuer::new(params, key))
}

/// Writes a certificate and its key, and gives nginx's lines to serve with them.
fn tls_server(
    lab: &Routed,
    authority: &Authority,
    number: u8,
    name: &str,
    last_year: i32,
) -> Result<String> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(last_year, 12, 31);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    let file = |kind: &str| lab.folder().join(format!("{kind}{number}.pem"));
    fs::write(file("certificate"), certificate.pem())?;
    fs::write(file("key"), key.serialize_pem())?;
    let [v4, _] = Routed::server_addresses(number);
    Ok(format!(
        "    server {{
        listen {v4}:{TLS_PORT} ssl;
        server_name {NAME};
        ssl_certificate {};
        ssl_certificate_key {};
        location = /healthz {{ return 200 \"$host\\n\"; }}
    }}",
        file("certificate").display(),
        file("key").display()
    ))
}

#[test]
fn certificates_decide_and_their_end_is_shown() -> Result<()> {
    let lab = Farm::wired(Mode::Generic, 3)?;
    let authority = authority(&lab)?;
    let shown = [(NAME, 2100), (NAME, 2020), ("other.example", 2100)];
    let servers = (1..=3)
        .zip(shown)
        .map(|(number, (name, year))| {
            let more = tls_server(&lab, &authority, number, name, year)?;
            lab.start_nginx_with(number, 8080, more)
        })
        .collect::<Result<Vec<Nginx>>>()?;
    let ca_file = lab.folder().join("ca.pem");
    let service = Farm::web(3).check_port(TLS_PORT).check_lines(format!(
        "kind = \"https\"\npath = \"/healthz\"\nsni = \"{NAME}\"\nca_file = \"{}\"",
        ca_file.display()
    ));
    let agent = Agent::start(&lab, &Farm::config(&lab, Mode::Generic).service(service))?;
    let says = |backend: &str, health: &str, words: &str, end: u64| {
        let what = format!("{backend} is {health}");
        agent.await_backend(DEADLINE, ("web", backend), &what, |backend| {
            ensure!(backend.text("health")? == health, "{backend:?}");
            let last_check = backend.text("last_check")?;
            ensure!(last_check.contains(words), "{backend:?}");
            let ends = backend.number("certificate_expires")?;
            ensure!(ends == end, "{backend:?}");
            Ok(())
        })
    };
    let [past, far] = [2020, 2100].map(|year| date_time_ymd(year, 12, 31).unix_timestamp() as u64);
    says("web1", "up", "HTTP 200 in ", far)?;
    says("web1", "up", " ms, certificate ends in ", far)?;
    says("web2", "down", "the certificate ended ", past)?;
    says(
        "web3",
        "down",
        "the certificate is not for web.example",
        far,
    )?;
    let names = names(&lab, web(), 4)?;
    ensure!(names == ["web1"; 4], "{names:?}");

    // An authority that signed none of them: no more than a file that takes another's place.
    let next = lab.folder().join("next.pem");
    let key = KeyPair::generate()?;
    let stranger = CertificateParams::new(Vec::new())?.self_signed(&key)?;
    fs::write(&next, stranger.pem())?;
    fs::rename(&next, &ca_file).context("ca_file is replaced")?;
    says(
        "web1",
        "down",
        "the certificate is not signed by one of those in ",
        far,
    )?;
    drop(servers);
    Ok(())
}
