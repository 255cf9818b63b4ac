//! `[firewall]` as it is meant.

use std::{fmt, path::PathBuf, sync::Arc};

use lb_common::{abi::Protocol, firewall::Action};

use super::Prefix;

/// Who may send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Sources whose packets are dropped.
    pub deny: Lists,
    /// Sources that shorter prefixes do not apply to.
    pub allow: Lists,
    /// Whether it only counts.
    pub dry_run: bool,
    /// Whether this host is locked down: `default = "deny"`.
    pub locked: bool,
    /// Its ports that anybody may begin to talk to.
    pub host_ports: Vec<HostPort>,
    /// What each source may begin and send, if anything of it is limited.
    pub rate: Option<Rate>,
}

/// A port of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// In host order.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(formatter, "{protocol}/{}", self.port)
    }
}

/// What each source may begin and send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// New connections.
    pub new_connections: Option<Bucket>,
    /// Packets to services.
    pub packets: Option<Bucket>,
    /// Flows at a time; 0 is no limit.
    pub flows: u32,
    /// For how long a source is denied that exceeds one of them; 0 is not at all.
    pub deny_seconds: u32,
    /// Bits of IPv4 that make a source.
    pub prefix_v4: u8,
    /// Bits of IPv6.
    pub prefix_v6: u8,
}

/// A limit of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// So many in a second.
    pub per_second: u32,
    /// So many at once.
    pub burst: u32,
}

impl Firewall {
    /// Whether it asks for anything: else the program need not look at sources.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.deny.is_used() || self.allow.is_used()
    }
}

/// Who may use a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Sources that may not.
    pub deny: Lists,
    /// Sources that may, and if any are named nobody else.
    pub allow: Lists,
    /// What was set at run time, which goes before both. It is in no file.
    pub set: Vec<(Prefix, Action)>,
}

impl Access {
    /// Whether it asks for anything.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.deny.is_used() || self.allow.is_used() || !self.set.is_empty()
    }

    /// Whether only those that are allowed may. A file without a prefix allows nobody.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        self.allow.is_used()
    }
}

/// Prefixes of the config and of files that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// In the order of the file.
    pub prefixes: Vec<Prefix>,
    /// Files with more.
    pub files: Vec<PathBuf>,
    /// What stood in them when they were read.
    pub listed: Arc<Vec<Prefix>>,
}

impl Lists {
    /// Whether anything is named.
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.prefixes.is_empty() || !self.files.is_empty()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.prefixes.iter().chain(self.listed.iter()).copied()
    }
}
