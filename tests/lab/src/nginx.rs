//! A real web server in a namespace, with a configuration, logs and a process number of its own.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::process::Process;

/// How long nginx may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server of the lab is to be.
#[derive(Debug, Clone)]
pub struct NginxConfig {
    /// Its name, which it gives in the header `X-Backend` and in the body of `/`.
    pub name: String,
    /// The namespace it runs in.
    pub namespace: String,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Further lines of the `http` block.
    pub more: String,
}

/// A running nginx; dropping it stops it. It answers `/` with its name, `/healthz` with 200,
/// `/client` with the address it sees, and all else with files of [`Nginx::root`].
#[derive(Debug)]
pub struct Nginx {
    config: NginxConfig,
    folder: PathBuf,
    process: Process,
}

impl Nginx {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When nginx is not installed or does not answer in time; the message has its log.
    pub fn start(lab: &Lab, config: NginxConfig) -> Result<Self> {
        let folder = lab.sub_folder(&format!("nginx-{}", config.name))?;
        fs::create_dir_all(folder.join("www"))?;
        fs::write(folder.join("nginx.conf"), configuration(&config, &folder)?)?;
        let process = launch(lab, &config, &folder)?;
        let mut nginx = Self {
            config,
            folder,
            process,
        };
        nginx.wait_until_it_answers(lab)?;
        Ok(nginx)
    }

    /// Stops it and waits for its end, as when a server is shut down.
    ///
    /// # Errors
    /// When it cannot be stopped.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop().map(drop)
    }

    /// Starts it again after [`Nginx::stop`].
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub fn start_again(&mut self, lab: &Lab) -> Result<()> {
        self.process = launch(lab, &self.config, &self.folder)?;
        self.wait_until_it_answers(lab)
    }

    /// The folder whose files it serves.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.join("www")
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The running program.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    fn wait_until_it_answers(&mut self, lab: &Lab) -> Result<()> {
        let address = *self
            .config
            .listen
            .first()
            .context("nginx is to listen nowhere")?;
        let deadline = Instant::now() + PATIENCE;
        let connects = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok();
        while self.process.is_running() && Instant::now() < deadline {
            if lab.within(&self.config.namespace, connects)? {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!(
            "nginx {} does not answer on {address}: {}",
            self.config.name,
            self.process.log()
        )
    }
}

fn launch(lab: &Lab, config: &NginxConfig, folder: &Path) -> Result<Process> {
    // Not everybody has the folder of daemons on the search path.
    let daemon = Path::new("/usr/sbin/nginx");
    let program = if daemon.is_file() {
        daemon
    } else {
        Path::new("nginx")
    };
    let mut command = lab.command(&config.namespace, program)?;
    command
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"));
    // Without `-e` it would open the machine's own log before it reads the configuration.
    command.arg("-e").arg(folder.join("error.log"));
    lab.spawn(&format!("nginx-{}", config.name), command)
        .context("is the package nginx-light installed?")
}

fn configuration(config: &NginxConfig, folder: &Path) -> Result<String> {
    let folder = folder.display();
    let (name, more) = (&config.name, &config.more);
    let mut listen = String::new();
    for address in &config.listen {
        writeln!(listen, "        listen {address} backlog=16384;")?;
    }
    Ok(format!(
        r#"daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
user root;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_max_body_size 64m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type text/plain;
    add_header X-Backend {name} always;
    server {{
{listen}        root {folder}/www;
        location = / {{ return 200 "{name}\n"; }}
        location = /healthz {{ return 200 "ok\n"; }}
        location = /client {{ return 200 "$remote_addr\n"; }}
    }}
{more}
}}
"#
    ))
}
