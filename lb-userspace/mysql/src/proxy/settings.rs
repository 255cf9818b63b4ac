//! What the proxy is told. What [`super::Proxy::change`] names can change while it runs.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio_rustls::rustls::{ClientConfig, ServerConfig, pki_types::ServerName};

use super::Lease;
use crate::{
    auth::secrets::Secret,
    topology::plan::{ReplicationAccount, Times},
};

/// The settings of a proxy.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients come in.
    pub listen: Vec<SocketAddr>,
    /// The same, by a Unix socket.
    pub unix_socket: Option<PathBuf>,
    /// Who says by the PROXY protocol whom it has connected, and has to.
    pub proxy_protocol: Vec<Network>,
    /// Clients at a time.
    pub max_connections: usize,
    /// Whether passwords are learned from clients; otherwise only `users` get in.
    pub learns: bool,
    /// Users whose passwords are known.
    pub users: Vec<User>,
    /// TLS towards clients.
    pub tls: Option<Arc<ServerConfig>>,
    /// The servers.
    pub servers: Vec<Server>,
    /// Who gets reads.
    pub reads: Reads,
    /// How they are spread.
    pub read_scheduler: ReadScheduler,
    /// What a session is sure to see.
    pub consistency: Consistency,
    /// How long a replica is waited for.
    pub consistency_timeout: Duration,
    /// A replica that is further behind gets no reads.
    pub max_lag: Duration,
    /// How long a statement waits for a primary.
    pub primary_wait: Duration,
    /// How long somebody waits for a connection to a server whose connections are all in use.
    pub connection_wait: Duration,
    /// Whether idle connections are shared.
    pub pool: bool,
    /// Statements that take longer are logged.
    pub slow_statement: Option<Duration>,
    /// Kinds of statements that each thread counts; 0 for none.
    pub digests: usize,
    /// Whose eyes the servers are seen with.
    pub monitor: Monitor,
    /// How another server becomes the primary.
    pub failover: Failover,
    /// Threads; 0 for one a CPU.
    pub threads: usize,
}

/// How another server becomes the primary.
#[derive(Clone, Debug, Default)]
pub struct Failover {
    /// Who the former primary logs in as at the new one.
    pub replication: Option<ReplicationAccount>,
    /// How long it may take.
    pub times: Times,
    /// Whether that is done without being asked.
    pub automatic: Option<Automatic>,
}

/// A primary that is lost is replaced without being asked.
#[derive(Clone, Debug)]
pub struct Automatic {
    /// How long it has to be lost.
    pub wait: Duration,
    /// What keeps two proxies from promoting two servers.
    pub lease: Arc<dyn Lease>,
}

/// Addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// One of them.
    pub address: IpAddr,
    /// How many bits; up to 32 or 128.
    pub length: u8,
}

impl Network {
    /// Whether an address is one of them.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let length = u32::from(self.length);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = u32::from(own) ^ u32::from(other);
                differ.leading_zeros() >= length
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = u128::from(own) ^ u128::from(other);
                differ.leading_zeros() >= length
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// A server.
#[derive(Clone, Debug)]
pub struct Server {
    /// For people.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// How often its turn comes.
    pub weight: u16,
    /// What the config says it is.
    pub role: Role,
    /// TLS towards it.
    pub tls: Tls,
    /// Connections to it at a time, if there is a limit; what looks at it, or kills something there,
    /// comes on top.
    pub max_connections: Option<usize>,
}

/// A user whose password is known.
#[derive(Clone, Debug)]
pub struct User {
    /// Its name at the servers.
    pub name: String,
    /// Its password.
    pub secret: Secret,
    /// Clients of it at a time, if there is a limit.
    pub max_connections: Option<usize>,
}

/// What a server is said to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// What it turns out to be.
    #[default]
    Auto,
    /// The primary.
    Primary,
    /// A replica.
    Replica,
}

/// TLS towards a server.
#[derive(Clone, Debug)]
pub enum Tls {
    /// None.
    Off,
    /// Where the client came by it too, and the server has it.
    Prefer(Arc<ClientConfig>, ServerName<'static>),
    /// Always.
    Require(Arc<ClientConfig>, ServerName<'static>),
}

/// Who gets reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// The replicas; the primary when there is none to be had.
    #[default]
    Replicas,
    /// The replicas and the primary.
    All,
    /// The primary alone.
    Primary,
}

/// How reads are spread over those that get some; weights count with both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadScheduler {
    /// In turn.
    #[default]
    RoundRobin,
    /// To the one with the fewest statements under way.
    LeastConnections,
}

/// What a session is sure to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Nothing.
    Eventual,
    /// What it wrote itself.
    #[default]
    Session,
    /// What anybody wrote by this proxy.
    Global,
}

/// Who looks at the servers.
#[derive(Clone, Debug)]
pub struct Monitor {
    /// Its account.
    pub user: String,
    /// The account's password.
    pub password: Secret,
    /// From one look to the next.
    pub interval: Duration,
    /// An answer that takes longer is none.
    pub timeout: Duration,
    /// Failures in a row that make a server one that is down.
    pub fall: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_what_begins_as_they_do() {
        for (network, length, address, expected) in [
            ("10.0.0.0", 8, "10.255.0.1", true),
            ("10.0.0.0", 8, "11.0.0.1", false),
            ("10.0.0.0", 8, "::ffff:10.0.0.1", true),
            ("10.0.0.7", 32, "10.0.0.7", true),
            ("10.0.0.7", 32, "10.0.0.6", false),
            ("0.0.0.0", 0, "255.255.255.255", true),
            ("0.0.0.0", 0, "2001:db8::1", false),
            ("2001:db8::", 32, "2001:db8:ffff::1", true),
            ("2001:db8::", 32, "2001:db9::1", false),
            ("::", 0, "2001:db8::1", true),
            ("::", 0, "10.0.0.1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let network = Network {
                address: network.parse().unwrap(),
                length,
            };
            assert_eq!(network.has(address), expected, "{network:?} {address}");
        }
    }
}
