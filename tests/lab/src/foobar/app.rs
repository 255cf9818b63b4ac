//! An app host: nginx with TLS, PHP-FPM and the application.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::lab::Lab;
use crate::nginx::{Nginx, NginxConfig};
use crate::process::Process;

use super::certificate::Pair;
use super::{NAME, network, patience};

/// The application.
const SOURCE: &str = include_str!("../../../foobar-app/index.php");

/// Where nginx answers whoever is on the host.
const LOCAL: &str = "127.0.0.1:8080";

/// How large the file is that is there to be downloaded.
pub(super) const DOWNLOAD_BYTES: usize = 100 << 20;

/// An app host.
#[derive(Debug)]
pub struct AppHost {
    /// Its name, which is that of its namespace.
    pub name: String,
    /// Its web server.
    pub nginx: Nginx,
    fpm: Process,
}

impl AppHost {
    pub(super) fn start(lab: &Lab, number: u8, pair: &Pair) -> Result<Self> {
        let name = format!("app{number}");
        let folder = lab.sub_folder(&format!("php-{name}"))?;
        fs::write(folder.join("index.php"), SOURCE)?;
        let fpm = start_fpm(lab, &name, &folder)?;
        let nginx = Nginx::start(
            lab,
            NginxConfig {
                more: site(number, pair, &folder),
                namespace: name.clone(),
                name: name.clone(),
                listen: vec![LOCAL.parse()?],
            },
        )?;
        let download = fs::File::create(folder.join("download.bin"))?;
        download.set_len(DOWNLOAD_BYTES as u64)?;
        Ok(Self { name, nginx, fpm })
    }

    /// What its PHP-FPM wrote so far.
    #[must_use]
    pub fn fpm_log(&self) -> String {
        self.fpm.log()
    }
}

/// nginx's lines for the site.
fn site(number: u8, pair: &Pair, folder: &Path) -> String {
    let address = network::app(number);
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let folder = folder.display();
    format!(
        r#"
    server {{
        listen {address}:80;
        server_name {NAME};
        location / {{ return 301 https://$host$request_uri; }}
    }}
    server {{
        listen {address}:443 ssl http2;
        server_name {NAME};
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        add_header Strict-Transport-Security "max-age=31536000" always;
        add_header X-Backend app{number} always;
        root {folder};
        location = /download.bin {{ }}
        location / {{
            fastcgi_pass unix:{folder}/socket;
            fastcgi_read_timeout 15s;
            fastcgi_param SCRIPT_FILENAME {folder}/index.php;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param APP_HOST app{number};
        }}
    }}
"#
    )
}

fn start_fpm(lab: &Lab, name: &str, folder: &Path) -> Result<Process> {
    let config = folder.join("fpm.conf");
    let text = format!(
        "[global]
daemonize = no
error_log = /dev/stderr
[www]
user = root
group = root
listen = {folder}/socket
pm = static
pm.max_children = 2
catch_workers_output = yes
",
        folder = folder.display()
    );
    fs::write(&config, text)?;
    let mut command = lab.command(name, fpm_program()?)?;
    command
        .args(["--nodaemonize", "--allow-to-run-as-root", "--fpm-config"])
        .arg(config);
    let mut fpm = lab.spawn(&format!("php-fpm-{name}"), command)?;
    let socket = folder.join("socket");
    patience::await_until(patience::LONG, "PHP-FPM listens", || {
        ensure!(fpm.is_running() && socket.exists(), "it does not");
        Ok(())
    })
    .with_context(|| fpm.log())?;
    Ok(fpm)
}

/// Its name has PHP's version in it.
fn fpm_program() -> Result<PathBuf> {
    let entries = fs::read_dir("/usr/sbin").into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with("php-fpm")
        })
        .collect();
    found.sort();
    found
        .pop()
        .context("there is no php-fpm: is the package installed?")
}
