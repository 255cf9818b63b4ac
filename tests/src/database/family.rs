//! What differs between MySQL and MariaDB.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use lb_lab::Lab;

/// Where `cargo xtask setup` unpacks MySQL.
const MYSQL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/mysql");

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Oracle's.
    MySql,
    /// MariaDB's.
    MariaDb,
}

impl Family {
    /// Whether it is there. One that is not to be had on this machine is a reason to do without;
    /// the test says so.
    ///
    /// # Errors
    /// When nobody has looked for it yet.
    pub fn is_there(self) -> Result<bool> {
        if self.server().is_file() {
            return Ok(true);
        }
        if self == Self::MySql && Path::new(MYSQL).join("not-offered").exists() {
            eprintln!("skipped: MySQL is not to be had on this machine");
            return Ok(false);
        }
        bail!(
            "{} is missing: `cargo xtask setup` brings it",
            self.server().display()
        )
    }

    /// For names of files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
        }
    }

    /// The server's program.
    #[must_use]
    pub fn server(self) -> PathBuf {
        match self {
            Self::MySql => Path::new(MYSQL).join("bin/mysqld"),
            Self::MariaDb => PathBuf::from("/usr/sbin/mariadbd"),
        }
    }

    /// The client's program.
    #[must_use]
    pub fn client(self) -> PathBuf {
        match self {
            Self::MySql => Path::new(MYSQL).join("bin/mysql"),
            Self::MariaDb => PathBuf::from("mariadb"),
        }
    }

    /// MySQL's Router.
    #[must_use]
    pub fn router() -> PathBuf {
        Path::new(MYSQL).join("bin/mysqlrouter")
    }

    /// What keeps its programs from files of the machine's. Those of MySQL have it already.
    #[must_use]
    pub const fn first_options(self) -> &'static [&'static str] {
        match self {
            Self::MySql => &[],
            Self::MariaDb => &["--no-defaults"],
        }
    }

    /// Options of every server: it can be a primary and a replica by GTID, is small, and does not
    /// care to survive a power cut.
    pub(super) fn options(self) -> Vec<String> {
        let own: &[&str] = match self {
            Self::MySql => &[
                "--mysqlx=OFF",
                "--gtid-mode=ON",
                "--enforce-gtid-consistency=ON",
                "--session-track-gtids=OWN_GTID",
                "--log-bin-trust-function-creators=ON",
                "--innodb-redo-log-capacity=64M",
                "--innodb-doublewrite=OFF",
            ],
            Self::MariaDb => &["--log-slave-updates=ON", "--gtid-strict-mode=ON"],
        };
        let common = [
            "--user=root",
            "--log-bin=log",
            "--relay-log=relay",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=0",
            "--sync-binlog=0",
        ];
        let all = own.iter().chain(&common);
        all.map(|&option| option.to_owned()).collect()
    }

    /// Makes the data of a new server. The first of a lab is made and kept; the others are copies,
    /// as that is much faster.
    pub(super) fn make_data(self, lab: &Lab, namespace: &str, place: &Path) -> Result<()> {
        let kept = lab.folder().join(format!("{}-data", self.word()));
        if !kept.exists() {
            self.initialize(lab, namespace, &kept)?;
        }
        let (from, to) = (kept.display().to_string(), place.display().to_string());
        lab.run(namespace, "cp", &["-a", &from, &to]).map(drop)
    }

    fn initialize(self, lab: &Lab, namespace: &str, place: &Path) -> Result<()> {
        let data = format!("--datadir={}", place.display());
        // Servers remove others' temporary tables when they start.
        let temporary = format!("--tmpdir={}", lab.folder().display());
        match self {
            Self::MySql => {
                let program = self.server().display().to_string();
                let words = [
                    "--user=root",
                    "--initialize-insecure",
                    "--innodb-redo-log-capacity=64M",
                    "--innodb-flush-log-at-trx-commit=0",
                    "--innodb-doublewrite=OFF",
                    &data,
                    &temporary,
                ];
                lab.run(namespace, &program, &words)?;
                // Each server makes a name of its own.
                fs::remove_file(place.join("auto.cnf"))?;
            }
            Self::MariaDb => {
                let words = [
                    "--no-defaults",
                    "--user=root",
                    "--skip-test-db",
                    "--auth-root-authentication-method=normal",
                    &data,
                    &temporary,
                ];
                lab.run(namespace, "mariadb-install-db", &words)?;
            }
        }
        Ok(())
    }

    /// Statements that begin to copy from a primary.
    #[must_use]
    pub fn follow(self, host: &str, port: u16) -> String {
        match self {
            Self::MySql => format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, \
                 SOURCE_USER='copy', SOURCE_PASSWORD='copy', SOURCE_AUTO_POSITION=1, \
                 SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=86400, GET_SOURCE_PUBLIC_KEY=1; \
                 START REPLICA"
            ),
            Self::MariaDb => format!(
                "CHANGE MASTER TO MASTER_HOST='{host}', MASTER_PORT={port}, MASTER_USER='copy', \
                 MASTER_PASSWORD='copy', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1; \
                 START SLAVE"
            ),
        }
    }

    /// The words for what begins and ends the applying of changes, and for a delay of it.
    pub(super) const fn applier(self) -> (&'static str, &'static str) {
        match self {
            Self::MySql => ("REPLICA", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY"),
            Self::MariaDb => ("SLAVE", "CHANGE MASTER TO MASTER_DELAY"),
        }
    }
}
