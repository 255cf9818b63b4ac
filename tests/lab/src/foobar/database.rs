//! The databases: MariaDB on both app hosts, the primary on app1 and its replica on app2, by GTID
//! and encrypted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::lab::Lab;
use crate::process::Process;

use super::certificate::{Authority, YEAR};
use super::{network, patience};

/// A server; dropping it stops it.
#[derive(Debug)]
pub struct Database {
    /// Its name in the proxies' config.
    pub name: String,
    /// The app host that it is on.
    pub namespace: String,
    number: u8,
    folder: PathBuf,
    options: Vec<String>,
    process: Process,
}

/// What is on the primary before anybody comes: the application's table and account, and those who
/// watch and copy. All but the application have to come encrypted; it talks to the proxy on its
/// own host, whose connections to the servers are encrypted.
const CONTENT: &str = "
CREATE USER copy@'10.50.0.%' IDENTIFIED BY 'copy' REQUIRE SSL;
GRANT REPLICATION SLAVE ON *.* TO copy@'10.50.0.%';
CREATE USER lbmon@'10.50.0.%' IDENTIFIED BY 'lbmon' REQUIRE SSL;
GRANT SLAVE MONITOR, READ_ONLY ADMIN, REPLICATION SLAVE ADMIN, CONNECTION ADMIN, RELOAD ON *.*
    TO lbmon@'10.50.0.%';
CREATE DATABASE foobar CHARACTER SET utf8mb4;
CREATE TABLE foobar.users (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100) NOT NULL,
    email VARCHAR(200) NOT NULL);
CREATE USER foobar@'10.50.0.%' IDENTIFIED BY 'foobar' REQUIRE SSL;
GRANT SELECT, INSERT ON foobar.* TO foobar@'10.50.0.%'";

/// Starts both and waits until the replica has what the primary has.
pub(super) fn start_pair(lab: &Lab, authority: &Authority) -> Result<Vec<Database>> {
    let template = lab.folder().join("mariadb");
    let words = [
        "--no-defaults",
        "--user=root",
        "--skip-test-db",
        "--auth-root-authentication-method=normal",
        &format!("--datadir={}", template.display()),
        &format!("--tmpdir={}", lab.folder().display()),
    ];
    lab.run("app1", "mariadb-install-db", &words)?;
    let servers = (1..=2)
        .map(|number| Database::start(lab, authority, number, &template))
        .collect::<Result<Vec<_>>>()?;
    let [primary, replica] = servers.as_slice() else {
        unreachable!("there are two")
    };
    primary.run(lab, "SET GLOBAL read_only = OFF")?;
    primary.run(lab, CONTENT)?;
    replica.run(lab, &follow(1, authority))?;
    patience::await_until(patience::LONG, "the replica has it all", || {
        let seen = replica.run(lab, "SELECT COUNT(*) FROM mysql.user WHERE user = 'foobar'")?;
        ensure!(seen.trim() == "1", "{seen}");
        Ok(())
    })?;
    Ok(servers)
}

/// Statements by which a server copies from this one, from what it has applied on.
pub(super) fn follow(number: u8, authority: &Authority) -> String {
    format!(
        "CHANGE MASTER TO MASTER_HOST='{}', MASTER_USER='copy', MASTER_PASSWORD='copy', \
         MASTER_SSL=1, MASTER_SSL_CA='{}', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1; \
         START SLAVE",
        network::app(number),
        authority.certificate().display()
    )
}

impl Database {
    fn start(lab: &Lab, authority: &Authority, number: u8, template: &Path) -> Result<Self> {
        let (name, namespace) = (format!("db{number}"), format!("app{number}"));
        let address = network::app(number).to_string();
        let pair = authority.issue(&name, &[&name, &format!("IP:{address}")], YEAR)?;
        let folder = lab.sub_folder(&name)?;
        let data = folder.join("data");
        lab.run(
            &namespace,
            "cp",
            &[
                "-a",
                &template.display().to_string(),
                &data.display().to_string(),
            ],
        )?;
        let file = |name: &str| folder.join(name).display().to_string();
        let options = vec![
            "--no-defaults".to_owned(),
            "--user=root".to_owned(),
            format!("--datadir={}", data.display()),
            format!("--tmpdir={}", folder.display()),
            format!("--socket={}", file("socket")),
            format!("--pid-file={}", file("pid")),
            format!("--bind-address={address}"),
            "--port=3306".to_owned(),
            format!("--server-id={number}"),
            // Nobody writes to a server that has come back, until somebody wants it.
            "--read-only=ON".to_owned(),
            "--log-bin=log".to_owned(),
            "--relay-log=relay".to_owned(),
            "--log-slave-updates=ON".to_owned(),
            "--gtid-strict-mode=ON".to_owned(),
            "--binlog-format=ROW".to_owned(),
            "--slave-net-timeout=4".to_owned(),
            format!("--ssl-ca={}", authority.certificate().display()),
            format!("--ssl-cert={}", pair.certificate.display()),
            format!("--ssl-key={}", pair.key.display()),
            "--skip-name-resolve".to_owned(),
            "--performance-schema=OFF".to_owned(),
            "--innodb-buffer-pool-size=24M".to_owned(),
            "--innodb-log-file-size=8M".to_owned(),
            "--key-buffer-size=1M".to_owned(),
        ];
        let process = launch(lab, &name, &namespace, &options)?;
        let mut database = Self {
            name,
            namespace,
            number,
            folder,
            options,
            process,
        };
        database.await_answer(lab)?;
        Ok(database)
    }

    /// Runs statements as `root` by its socket, and gives the rows, fields set off by tabs.
    ///
    /// # Errors
    /// When the server refuses one, or is not there.
    pub fn run(&self, lab: &Lab, sql: &str) -> Result<String> {
        let socket = format!("--socket={}", self.folder.join("socket").display());
        let words = ["--no-defaults", "-uroot", &socket, "-NBe", sql];
        lab.run(&self.namespace, "mariadb", &words)
    }

    /// Its `server_id`, by which the application says who answered it.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Starts it again with the data that it has.
    ///
    /// # Errors
    /// When it does not answer; the message has its log.
    pub fn start_again(&mut self, lab: &Lab) -> Result<()> {
        self.process = launch(lab, &self.name, &self.namespace, &self.options)?;
        self.await_answer(lab)
    }

    fn await_answer(&mut self, lab: &Lab) -> Result<()> {
        patience::await_until(patience::LONG, "the database answers", || {
            if !self.process.is_running() {
                return Ok(false);
            }
            self.run(lab, "SELECT 1").map(|_| true)
        })
        .and_then(|runs| {
            ensure!(runs, "{} has ended", self.name);
            Ok(())
        })
        .with_context(|| self.process.log())
    }
}

fn launch(lab: &Lab, name: &str, namespace: &str, options: &[String]) -> Result<Process> {
    let mut command = lab.command(namespace, "/usr/sbin/mariadbd")?;
    command.args(options).stdin(Stdio::null());
    lab.spawn(name, command)
}

/// The passwords that agents read, as files.
pub(super) fn write_passwords(lab: &Lab) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;

    let folder = lab.sub_folder("passwords")?;
    for name in ["lbmon", "copy", "foobar"] {
        let file = folder.join(name);
        fs::write(&file, format!("{name}\n"))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    }
    Ok(folder)
}
