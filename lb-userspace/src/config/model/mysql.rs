//! `[mysql]` as it is meant.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub use super::KeyPair;
use super::{EtcdServers, Prefix};

/// Where clients connect, and how their statements are routed.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Where clients connect by TCP.
    pub listen: Vec<SocketAddr>,
    /// And by a Unix socket. One of both is there.
    pub unix_socket: Option<PathBuf>,
    /// Who says by the PROXY protocol whom it has connected.
    pub proxy_protocol: Vec<Prefix>,
    /// Clients at a time.
    pub max_connections: u32,
    /// How clients are judged.
    pub authentication: Authentication,
    /// What clients are shown, if it is not made at the start.
    pub tls: Option<KeyPair>,
    /// How reads are spread.
    pub read_scheduler: ReadScheduler,
    /// Who gets reads.
    pub reads: Reads,
    /// How new a read has to be.
    pub consistency: Consistency,
    /// How long a read waits for that.
    pub consistency_timeout: Duration,
    /// How far behind a replica may be.
    pub max_lag: Duration,
    /// Whether connections to servers are shared.
    pub pool: bool,
    /// How long somebody waits for a connection to a server that is full.
    pub connection_wait: Duration,
    /// How long writes wait for a primary.
    pub primary_wait: Duration,
    /// Whose connections to the servers are taken into the proxy, if anybody's.
    pub intercept: Option<Intercept>,
    /// Statements that take longer are logged.
    pub slow_statement: Option<Duration>,
    /// Kinds of statements that each thread counts.
    pub statement_digests: u32,
    /// Who asks the servers.
    pub monitor: Monitor,
    /// How the primary is replaced.
    pub failover: Failover,
    /// In the order of the file; at least one.
    pub servers: Vec<Server>,
    /// Users whose passwords are known.
    pub users: Vec<User>,
}

/// Connections to servers are taken into the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intercept {
    /// Of whose processes; those of all, unless it is said.
    pub cgroup: Option<PathBuf>,
}

/// How clients are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// As the servers judge them.
    Learn,
    /// By the list of users.
    List,
}

/// How reads are spread over servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadScheduler {
    /// One after the other, interleaved by weight.
    RoundRobin,
    /// To the one with the fewest for its weight.
    LeastConnections,
}

/// Who gets reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Replicas, and the primary only when none is eligible.
    Replicas,
    /// The primary as well.
    All,
    /// The primary only.
    Primary,
}

/// How new a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// As new as it is.
    Eventual,
    /// Not older than the session's own writes.
    Session,
    /// Not older than anybody's.
    Global,
}

/// Who asks the servers, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Monitor {
    /// Who logs in.
    pub user: String,
    /// Where the password is, if there is one.
    pub password_file: Option<PathBuf>,
    /// Time from one question to the next.
    pub interval: Duration,
    /// An answer that takes longer is none.
    pub timeout: Duration,
    /// So many missing in a row make a server one that is down.
    pub fall: u32,
}

/// How the primary is replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct Failover {
    /// Without being asked.
    pub automatic: Option<Automatic>,
    /// Who the former primary logs in as at the new one.
    pub replication: Option<User>,
    /// How long open transactions may take to end.
    pub hold: Duration,
    /// How long the candidate may take to catch up.
    pub catch_up: Duration,
}

/// A replica is promoted by whoever holds a lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Automatic {
    /// How long a primary has to be lost.
    pub wait: Duration,
    /// Where etcd is.
    pub servers: EtcdServers,
    /// What the lease's key begins with.
    pub prefix: String,
}

/// A database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Unique.
    pub name: String,
    /// Unique.
    pub address: SocketAddr,
    /// 0 to 256; 0 gets no reads.
    pub weight: u16,
    /// Its role.
    pub role: Role,
    /// Whether connections to it are encrypted.
    pub tls: ServerTls,
    /// What it is shown, if it asks.
    pub client: Option<KeyPair>,
    /// Connections to it at a time, if there is a limit.
    pub max_connections: Option<u32>,
}

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What it is found to be.
    Auto,
    /// The only one that is ever written to.
    Primary,
    /// Never written to.
    Replica,
}

/// A word for how connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    Off,
    /// Where it can be.
    Prefer,
    /// Always.
    Require,
}

/// How connections to a server are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerTls {
    /// Not at all.
    Off,
    /// Where it can be, whoever it is.
    Prefer,
    /// Always, and it has to prove who it is.
    Require {
        /// A PEM file of those who may have signed its certificate.
        ca: PathBuf,
        /// The name it has to be for.
        name: Option<String>,
    },
}

/// A user and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name at the servers.
    pub name: String,
    /// Where the password is.
    pub password_file: PathBuf,
    /// Clients of it at a time, if there is a limit.
    pub max_connections: Option<u32>,
}
