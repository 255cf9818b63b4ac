//! Certificates: one authority of the deployment's own, which clients, checks and servers trust.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::lab::Lab;

/// Days that a certificate of usual life is good for.
pub(super) const YEAR: u32 = 365;

/// Who signs.
#[derive(Debug, Clone)]
pub(super) struct Authority {
    folder: PathBuf,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Authority {
    pub(super) fn create(lab: &Lab) -> Result<Self> {
        let folder = lab.sub_folder("tls")?;
        let authority = Self { folder };
        openssl(
            &authority.folder,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem \
             -days 3650 -subj /CN=foobar -addext basicConstraints=critical,CA:TRUE \
             -addext keyUsage=critical,keyCertSign",
        )?;
        Ok(authority)
    }

    /// The certificate that those have who are to trust what it signs.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A new pair in files of this title, for these names (of hosts, or `IP:10.0.0.1`).
    pub(super) fn issue(&self, title: &str, names: &[&str], days: u32) -> Result<Pair> {
        let name = |name: &&str| match name.starts_with("IP:") {
            true => (*name).to_owned(),
            false => format!("DNS:{name}"),
        };
        let names: Vec<_> = names.iter().map(name).collect();
        fs::write(
            self.folder.join(format!("{title}.ext")),
            format!("subjectAltName={}\n", names.join(",")),
        )?;
        openssl(
            &self.folder,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {title}.key -out {title}.csr -subj /CN={title}"
            ),
        )?;
        openssl(
            &self.folder,
            &format!(
                "x509 -req -in {title}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} \
                 -extfile {title}.ext -out {title}.pem"
            ),
        )?;
        Ok(Pair {
            certificate: self.folder.join(format!("{title}.pem")),
            key: self.folder.join(format!("{title}.key")),
        })
    }
}

fn openssl(folder: &Path, words: &str) -> Result<()> {
    let output = Command::new("openssl")
        .args(words.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("openssl cannot be started: is the package installed?")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`openssl {words}` failed: {error}");
    Ok(())
}
