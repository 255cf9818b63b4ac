//! Backends from an etcd that speaks TLS only, and only with those who have a certificate.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use lb_tests::scenario::{Agent, await_until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::WEBS;
use crate::discovery::{Etcd, PATIENCE, Stage};

/// Writes an authority, a certificate of etcd's host, and one of a client; file names by kind.
fn write_certificates(stage: &Stage) -> Result<impl Fn(&str) -> PathBuf> {
    let folder = stage.lab.folder();
    let file = move |kind: &str| folder.join(format!("etcd-{kind}.pem"));
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(file("ca"), params.self_signed(&key)?.pem())?;
    let authority = Issuer::new(params, key);
    for (name, kind) in [("127.0.0.1", "server"), ("lb", "client")] {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![name.to_owned()])?;
        fs::write(file(kind), params.signed_by(&key, &authority)?.pem())?;
        fs::write(file(&format!("{kind}-key")), key.serialize_pem())?;
    }
    Ok(file)
}

#[test]
fn etcd_is_asked_by_tls_and_shown_a_certificate() -> Result<()> {
    let stage = Stage::set(2)?;
    let file = write_certificates(&stage)?;
    let word = |kind: &str| file(kind).display().to_string();
    let mut etcd = Etcd::here(&stage);
    etcd.url = "https://127.0.0.1:2379".to_owned();
    etcd.server_arguments = vec![
        "--client-cert-auth".to_owned(),
        format!("--trusted-ca-file={}", word("ca")),
        format!("--cert-file={}", word("server")),
        format!("--key-file={}", word("server-key")),
    ];
    etcd.client_arguments = vec![
        format!("--cacert={}", word("ca")),
        format!("--cert={}", word("client")),
        format!("--key={}", word("client-key")),
    ];
    let _process = etcd.start()?;
    etcd.put("web1", 1, ", \"port\": 8080")?;
    let lines = format!(
        "kind = \"etcd\"\nendpoints = [{:?}]\nprefix = \"/lb/web/\"\ntls_ca = {:?}\n",
        etcd.url,
        word("ca")
    );
    let known = format!(
        "{lines}tls_client_certificate = {:?}\ntls_client_key = {:?}\n",
        word("client"),
        word("client-key")
    );
    let agent = Agent::start(&stage.lab, &stage.config(&known))?;
    stage.expect(&WEBS[..1])?;
    // The watch is encrypted, too.
    etcd.put("web2", 2, ", \"port\": 8080")?;
    stage.expect(&WEBS[..2])?;
    drop(agent);

    let stranger = Agent::start(&stage.lab, &stage.config(&lines))?;
    await_until(PATIENCE, "a client without a certificate is told", || {
        let log = stranger.log();
        ensure!(log.contains("cannot ask etcd at https://127"), "{log}");
        Ok(())
    })
}
