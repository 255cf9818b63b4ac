//! What the config says.

use std::{net::IpAddr, time::Duration};

use super::Name;

/// A role that the config asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WantedRole {
    /// What it is found to be.
    #[default]
    Auto,
    /// The primary, and no other ever.
    Primary,
    /// Never the primary.
    Replica,
}

/// A server of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Unique.
    pub name: Name,
    /// Its address, as it may also stand in `SHOW REPLICA STATUS`.
    pub host: String,
    /// And its port.
    pub port: u16,
    /// Its share of reads; 0 is none.
    pub weight: u16,
    /// Its role.
    pub role: WantedRole,
    /// Whether all connections to it have to be encrypted, those of replicas too.
    pub tls: bool,
}

impl ServerSettings {
    /// Whether it is reached there.
    pub(super) fn is_at(&self, host: &str, port: u16) -> bool {
        let bare = |host: &str| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<IpAddr>().map(|ip| ip.to_canonical()).ok()
        };
        let is_same_host = match (bare(&self.host), bare(host)) {
            (Some(one), Some(other)) => one == other,
            (Some(_) | None, _) => self.host.eq_ignore_ascii_case(host),
        };
        is_same_host && self.port == port
    }
}

/// All servers, and when one is good enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// In the order of the file.
    pub servers: Vec<ServerSettings>,
    /// A replica that is further behind is not read from.
    pub max_lag: Duration,
    /// So many failures in a row make a server one that is gone, unless one is beyond doubt.
    pub fall: u32,
    /// What was seen so long ago does not count any more.
    pub stale_after: Duration,
}

/// The primary that a former agent knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its name in the config.
    pub name: String,
    /// Its UUID or `server_id`, as [`super::Topology::remembered`] gave it.
    pub identity: String,
    /// The epoch.
    pub epoch: u64,
}
