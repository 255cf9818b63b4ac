//! The servers, and what stands in front of them: all run all the time.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_lab::{Lab, Process};

use super::sysbench;
use crate::database::{Client, Database, Family, Pair};
use crate::scenario::{await_until, binary};

const PRIMARY: u16 = 3301;
const REPLICAS: [u16; 2] = [3302, 3303];
const PATIENCE: Duration = Duration::from_secs(60);
/// MySQL Router takes this port and the six after it.
const ROUTER: u16 = 3330;

/// What a client goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Nothing.
    Direct,
    /// HAProxy in tcp mode, to the primary.
    Haproxy,
    /// MySQL Router's transparent split.
    Router,
    /// `lb`, with reads on both replicas.
    Split,
    /// `lb`, with the primary alone.
    PrimaryOnly,
}

impl Peer {
    pub(super) const ALL: [Self; 5] = [
        Self::Direct,
        Self::Haproxy,
        Self::Router,
        Self::Split,
        Self::PrimaryOnly,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Haproxy => "HAProxy tcp",
            Self::Router => "MySQL Router split",
            Self::Split => "lb split",
            Self::PrimaryOnly => "lb, primary only",
        }
    }

    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Direct => PRIMARY,
            Self::Haproxy => 3310,
            // Behind its ports for writes, reads, both by the X protocol.
            Self::Router => ROUTER + 4,
            Self::Split => 3320,
            Self::PrimaryOnly => 3321,
        }
    }
}

/// Servers and proxies.
pub(super) struct Bed<'l> {
    processes: Vec<(Peer, Process)>,
    problems: Vec<(Peer, String)>,
    replica: Database<'l>,
    pair: Pair<'l>,
}

impl<'l> Bed<'l> {
    pub(super) fn start(lab: &'l Lab, peers: &[Peer]) -> Result<Self> {
        ensure!(
            Family::MySql.is_there()?,
            "MySQL is needed to be measured with"
        );
        let place = |port: u16| ("db", ([127, 0, 0, 1], port).into());
        let family = Family::MySql;
        let pair = Pair::start(lab, family, place(PRIMARY), place(REPLICAS[0]))?;
        let replica = Database::start(
            lab,
            family,
            3,
            place(REPLICAS[1]),
            &["--super-read-only=ON"],
        )?;
        replica.run(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={PRIMARY}, \
             SOURCE_USER='copy', SOURCE_PASSWORD='copy', SOURCE_AUTO_POSITION=1, \
             GET_SOURCE_PUBLIC_KEY=1; START REPLICA"
        ))?;
        pair.primary.run(
            "SET GLOBAL max_connections = 1000; CREATE USER app@'%' IDENTIFIED BY 'app'; GRANT \
             ALL ON *.* TO app@'%'; CREATE USER watcher@'%' IDENTIFIED BY 'watch'; GRANT \
             REPLICATION CLIENT ON *.* TO watcher@'%'; CREATE USER router@'%' IDENTIFIED BY \
             'router'; GRANT ALL ON *.* TO router@'%'; CREATE DATABASE sbtest",
        )?;
        for server in [&pair.replica, &replica] {
            server.run("SET GLOBAL max_connections = 1000")?;
        }
        lab.within("db", || {
            Client::open(pair.primary.address(), "app", "app").map(drop)
        })??;
        if peers.len() == Peer::ALL.len() {
            sysbench::prepare(lab, PRIMARY)?;
        }
        pair.write(1)?;
        for server in [&pair.replica, &replica] {
            await_until(PATIENCE, "a replica has everything", || {
                let count = server.run("SELECT COUNT(*) FROM pair.writes WHERE number = 1")?;
                ensure!(count.trim() == "1", "{count}");
                Ok(())
            })?;
        }
        let servers = [&pair.primary, &pair.replica, &replica];
        // sysbench's client and Router log in fast only, which takes that each server has seen
        // the password once.
        for server in servers {
            lab.within("db", || {
                Client::open(server.address(), "app", "app").map(drop)
            })??;
        }
        let mut processes = Vec::new();
        let mut problems = Vec::new();
        for peer in peers.iter().copied() {
            let started = match peer {
                Peer::Direct => continue,
                Peer::Haproxy => haproxy(lab),
                Peer::Router => router(lab, &servers),
                Peer::Split => lb(lab, "split", peer, &[PRIMARY, REPLICAS[0], REPLICAS[1]]),
                Peer::PrimaryOnly => lb(lab, "alone", peer, &[PRIMARY]),
            };
            match started.and_then(|process| answers(lab, peer, process)) {
                Ok(process) => processes.push((peer, process)),
                Err(error) => problems.push((peer, format!("{error:#}"))),
            }
        }
        Ok(Self {
            processes,
            problems,
            replica,
            pair,
        })
    }

    /// Why a peer is not there.
    pub(super) fn problem(&self, peer: Peer) -> Option<String> {
        let mut problems = self.problems.iter();
        let found = problems.find(|(other, _)| *other == peer);
        found.map(|(_, problem)| problem.clone())
    }

    /// Connections that the servers have had at once at most, together.
    pub(super) fn most_connections(&self) -> Result<f64> {
        let mut all = 0.0;
        for server in [&self.pair.primary, &self.pair.replica, &self.replica] {
            let said = server.run("SHOW GLOBAL STATUS LIKE 'Max_used_connections'")?;
            let number = said.split_whitespace().last();
            all += number.context("no number")?.parse::<f64>()?;
        }
        Ok(all)
    }

    /// The process number of a peer.
    pub(super) fn pid(&self, peer: Peer) -> Option<u32> {
        let mut processes = self.processes.iter();
        let found = processes.find(|(other, _)| *other == peer);
        found.map(|(_, process)| process.pid())
    }
}

/// Waits until a peer lets in, and until one that splits reads from both replicas.
fn answers(lab: &Lab, peer: Peer, process: Process) -> Result<Process> {
    let splits = matches!(peer, Peer::Router | Peer::Split);
    let mut seen = Vec::new();
    let outcome = await_until(PATIENCE, "it lets clients in", || {
        let sql = "SELECT /* lb:replica */ @@port";
        let address = ([127, 0, 0, 1], peer.port()).into();
        let answer = lab.within("db", || Client::open(address, "app", "app")?.row(sql))??;
        let port: u16 = answer[0].as_deref().context("a port")?.parse()?;
        seen.push(port);
        let is_whole = REPLICAS.iter().all(|port| seen.contains(port));
        ensure!(!splits || is_whole, "{seen:?}");
        Ok(())
    });
    outcome.with_context(|| process.log())?;
    Ok(process)
}

fn write(lab: &Lab, name: &str, text: &str) -> Result<String> {
    let path = lab.folder().join(name);
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

fn haproxy(lab: &Lab) -> Result<Process> {
    let text = format!(
        "global\n  nbthread 2\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
         timeout client 1h\n  timeout server 1h\nlisten mysql\n  bind 127.0.0.1:{}\n  server one \
         127.0.0.1:{PRIMARY}\n",
        Peer::Haproxy.port()
    );
    let path = write(lab, "haproxy.cfg", &text)?;
    let daemon = Path::new("/usr/sbin/haproxy");
    let program = if daemon.is_file() {
        daemon
    } else {
        Path::new("haproxy")
    };
    let mut command = lab.command("db", program)?;
    command.args(["-db", "-f", &path]);
    lab.spawn("haproxy", command)
}

fn lb(lab: &Lab, name: &str, peer: Peer, servers: &[u16]) -> Result<Process> {
    let password = write(lab, "watcher", "watch\n")?;
    let socket = lab.folder().join(format!("{name}.sock"));
    let mut text = format!(
        "[admin]\nsocket = \"{}\"\n[mysql]\nlisten = [\"127.0.0.1:{}\"]\n[mysql.monitor]\nuser = \
         \"watcher\"\npassword_file = \"{password}\"\n",
        socket.display(),
        peer.port()
    );
    for port in servers {
        write!(
            text,
            "[[mysql.server]]\nname = \"s{port}\"\naddress = \"127.0.0.1:{port}\"\n"
        )?;
    }
    let path = write(lab, &format!("{name}.toml"), &text)?;
    let mut command = lab.command("db", binary()?)?;
    command.args(["run", "--config", &path]);
    lab.spawn(name, command)
}

/// MySQL Router splits only in front of a cluster, so that the primary gets the metadata of one.
fn router(lab: &Lab, servers: &[&Database<'_>]) -> Result<Process> {
    const METADATA: &str = include_str!("metadata.sql");
    let primary = servers.first().context("no server")?;
    primary.run(METADATA)?;
    for (index, server) in servers.iter().enumerate() {
        let uuid = server.run("SELECT @@server_uuid")?;
        let role = if index == 0 { "PRIMARY" } else { "SECONDARY" };
        let address = server.address();
        primary.run(&format!(
            "INSERT INTO mysql_innodb_cluster_metadata.instances VALUES ({}, '11111111-1111-1111-\
             1111-111111111111', '{address}', '{}', '{address}', '{{}}', '{{}}', '', '{role}')",
            index + 1,
            uuid.trim()
        ))?;
    }
    let folder = lab.folder().join("router");
    let words = [
        "--bootstrap",
        &format!("router@{}", primary.address()),
        "--directory",
        &folder.display().to_string(),
        "--user=root",
        "--conf-base-port",
        &ROUTER.to_string(),
        "--account",
        "router",
        "--account-create",
        "never",
        "--report-host",
        "localhost",
        "--disable-rest",
    ];
    let mut command = lab.command("db", Family::router())?;
    let mut child = command
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // It asks twice for the same password.
    let mut input = child.stdin.take().context("no input")?;
    input.write_all(b"router\nrouter\n")?;
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "mysqlrouter --bootstrap: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let file = folder.join("mysqlrouter.conf");
    // As the others have it: nothing is encrypted.
    let text = fs::read_to_string(&file)?;
    // But it offers TLS to clients: else it does not learn their passwords, and does not split.
    let text = text.replace("server_ssl_mode=PREFERRED", "server_ssl_mode=DISABLED");
    fs::write(&file, text)?;
    let mut command = lab.command("db", Family::router())?;
    command.args(["--config", &file.display().to_string()]);
    lab.spawn("router", command)
}
