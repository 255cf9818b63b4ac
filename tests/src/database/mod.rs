//! Real database servers in namespaces of a lab: Oracle's MySQL, as `cargo xtask setup` unpacked
//! it, and MariaDB, as Debian installs it. Each has a folder of its own in the lab's.
//!
//! An account `root` without password is reached by the socket only; whoever needs others makes
//! them. A [`Pair`] is a primary and its replica, by GTID.

mod client;
mod family;
mod pair;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use lb_lab::{Lab, Process};

pub use client::{Answer, Client, Outcome, Refused, Value};
pub use family::Family;
pub use pair::Pair;

use crate::scenario::await_until;

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database server; dropping it kills it.
#[derive(Debug)]
pub struct Database<'l> {
    lab: &'l Lab,
    family: Family,
    namespace: String,
    address: SocketAddr,
    folder: PathBuf,
    options: Vec<String>,
    process: Option<Process>,
}

impl<'l> Database<'l> {
    /// Starts one in a namespace, at an address and with further options, and waits until it
    /// answers. Its number tells it from other servers, also in replication.
    ///
    /// # Errors
    /// When it does not start; the message has its log.
    pub fn start(
        lab: &'l Lab,
        family: Family,
        number: u8,
        (namespace, address): (&str, SocketAddr),
        options: &[&str],
    ) -> Result<Self> {
        let folder = lab.folder().join(format!("{}-{number}", family.word()));
        fs::create_dir(&folder)?;
        family.make_data(lab, namespace, &folder.join("data"))?;
        let mut own = family.options();
        own.push(format!("--server-id={number}"));
        own.extend(options.iter().map(|&option| option.to_owned()));
        let mut database = Self {
            lab,
            family,
            namespace: namespace.to_owned(),
            address,
            folder,
            options: own,
            process: None,
        };
        database.start_again()?;
        Ok(database)
    }

    /// Starts it anew with the data that it has, and waits until it answers.
    ///
    /// # Errors
    /// As [`Database::start`].
    pub fn start_again(&mut self) -> Result<()> {
        // Two must not use the same data.
        self.kill()?;
        let file = |name: &str| self.folder.join(name).display().to_string();
        let mut command = self.lab.command(&self.namespace, self.family.server())?;
        command
            .args(self.family.first_options())
            .arg(format!("--datadir={}", file("data")))
            // A server that starts removes others' temporary tables where it has its own.
            .arg(format!("--tmpdir={}", self.folder.display()))
            .arg(format!("--socket={}", file("socket")))
            .arg(format!("--pid-file={}", file("pid")))
            .arg(format!("--bind-address={}", self.address.ip()))
            .arg(format!("--port={}", self.address.port()))
            .args(&self.options);
        let title = self.folder.file_name().unwrap_or_default();
        let process = self.lab.spawn(&title.to_string_lossy(), command)?;
        let process = self.process.insert(process);
        let (lab, namespace, family) = (self.lab, &*self.namespace, self.family);
        let socket = self.folder.join("socket");
        await_until(PATIENCE, "the database answers", || {
            if !process.is_running() {
                return Ok(None);
            }
            query(lab, namespace, family, &socket, "SELECT 1").map(Some)
        })
        .and_then(|answer| answer.context("it has ended"))
        .with_context(|| process.log())
        .map(drop)
    }

    /// Runs statements as `root`, and gives the rows without heads, their fields set off by tabs.
    ///
    /// # Errors
    /// When the server refuses one.
    pub fn run(&self, sql: &str) -> Result<String> {
        let socket = self.folder.join("socket");
        query(self.lab, &self.namespace, self.family, &socket, sql)
    }

    /// Runs a statement as `root`, and gives what the client writes: a line with the names of the
    /// columns, and a line for each row, fields set off by tabs, NULL for what is none.
    ///
    /// # Errors
    /// When the server refuses it, or is not there.
    pub fn table(&self, sql: &str) -> Result<String> {
        let socket = format!("--socket={}", self.socket().display());
        let own = ["-uroot", &socket, "-Be", sql];
        let words = [self.family.first_options(), &own].concat();
        let client = self.family.client();
        let program = client.to_string_lossy();
        self.lab.run(&self.namespace, &program, &words)
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        match &mut self.process {
            Some(process) => process.kill().map(drop),
            None => Ok(()),
        }
    }

    /// Ends it by request.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn stop(&mut self) -> Result<()> {
        match &mut self.process {
            Some(process) => process.stop().map(drop),
            None => Ok(()),
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A file of its data, such as `ca.pem` of the certificates that MySQL makes for itself.
    #[must_use]
    pub fn data(&self, name: &str) -> PathBuf {
        self.folder.join("data").join(name)
    }

    /// Its socket, where `root` needs no password.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Whose server it is.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }
}

/// Its data goes with the lab, so that there is nothing to wait for.
impl Drop for Database<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

fn query(lab: &Lab, namespace: &str, family: Family, socket: &Path, sql: &str) -> Result<String> {
    let client = family.client();
    let socket = format!("--socket={}", socket.display());
    let own = ["-uroot", &socket, "-NBe", sql];
    let words = [family.first_options(), &own].concat();
    lab.run(namespace, &client.to_string_lossy(), &words)
}
