//! What was seen of a server.

use std::{fmt, time::Duration};

use crate::gtid::{Family, GtidSet, Uuid};

/// A server's version, as its greeting and `@@version` have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Whose.
    pub family: Family,
    /// Major, minor and patch.
    pub number: (u16, u16, u16),
}

impl Version {
    /// From a text such as `9.7.4-2` or `5.5.5-10.11.19-MariaDB-log`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let family = if text.contains("MariaDB") {
            Family::MariaDb
        } else {
            Family::MySql
        };
        // MariaDB's greeting begins with a version that old clients take for a replication partner.
        let own = match (family, text.strip_prefix("5.5.5-")) {
            (Family::MariaDb, Some(own)) => own,
            (Family::MariaDb | Family::MySql, _) => text,
        };
        let mut parts = own.split(|c: char| !c.is_ascii_digit());
        let mut part = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        let number = (part(), part(), part());
        Self { family, number }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.number;
        write!(f, "{} {major}.{minor}.{patch}", self.family)
    }
}

/// Which server it is, wherever it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `server_uuid`, which MySQL has.
    pub uuid: Option<Uuid>,
    /// `server_id`.
    pub server_id: u32,
}

impl Identity {
    /// Whether both are the same server: by UUID where both have one, else by id.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self.uuid, other.uuid) {
            (Some(one), Some(other)) => one == other,
            (Some(_) | None, _) => self.server_id == other.server_id,
        }
    }
}

/// A server that answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// What it is.
    pub version: Version,
    /// Which it is.
    pub identity: Identity,
    /// Whether it refuses writes of ordinary users.
    pub read_only: bool,
    /// Whether it refuses everybody's.
    pub super_read_only: bool,
    /// Whether it refuses ordinary users altogether (`offline_mode`).
    pub offline: bool,
    /// Whether it has a binary log, without which nobody can copy from it.
    pub logs: bool,
    /// What it copies from other servers.
    pub channels: Channels,
    /// Transactions that it has; nothing without GTIDs.
    pub executed: Option<GtidSet>,
}

impl Observation {
    /// Where it copies from, as far as that is known.
    #[must_use]
    pub fn channels(&self) -> &[Channel] {
        match &self.channels {
            Channels::Known(channels) => channels,
            Channels::Unknown(_) => &[],
        }
    }
}

/// What a server copies from others.
#[derive(Clone, Debug, PartialEq)]
pub enum Channels {
    /// All of it; nothing where it is no replica.
    Known(Vec<Channel>),
    /// It does not tell; a sentence says why.
    Unknown(String),
}

/// One server that a replica copies from.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its name, mostly empty.
    pub name: String,
    /// The source's host, as the replica knows it.
    pub host: String,
    /// And its port.
    pub port: u16,
    /// Which server that is; known once it was connected.
    pub source: Option<Identity>,
    /// What fetches changes.
    pub io: IoThread,
    /// Whether what applies them runs.
    pub sql_running: bool,
    /// How far behind it is by its own account.
    pub lag: Option<Duration>,
    /// How far behind it is told to be.
    pub delay: Duration,
    /// What stopped the fetching, or keeps it from connecting.
    pub io_error: Option<ReplicationError>,
    /// What stopped the applying.
    pub sql_error: Option<ReplicationError>,
    /// Whether it finds its place in the source's log by GTID.
    pub by_gtid: bool,
    /// Transactions that it fetched, applied or not; nothing without GTIDs.
    pub retrieved: Option<GtidSet>,
}

/// The thread that fetches changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoThread {
    /// Connected.
    Running,
    /// It tries to.
    Connecting,
    /// It does not.
    Stopped,
}

/// Why replication does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationError {
    /// The server's number for it.
    pub number: u32,
    /// The server's words.
    pub text: String,
}

impl fmt::Display for ReplicationError {
    /// Its first line: the words of servers may be long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.text.lines().next().unwrap_or_default();
        let short = line
            .char_indices()
            .nth(200)
            .map_or(line, |(end, _)| &line[..end]);
        write!(f, "error {}: {short}", self.number)
    }
}

/// Why there is no observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    TimedOut,
    /// The connection ended; by whom or why, in a few words.
    Lost(String),
    /// It did not let the monitor in; the server's words.
    Login(String),
    /// It answered with an error, or nonsense.
    Answer(String),
}

impl Trouble {
    /// Whether it can be nothing but a server that is not there.
    pub(super) const fn is_certain(&self) -> bool {
        match self {
            Self::Refused => true,
            Self::TimedOut | Self::Lost(_) | Self::Login(_) | Self::Answer(_) => false,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("nobody listens there"),
            Self::TimedOut => f.write_str("it does not answer in time"),
            Self::Lost(why) => write!(f, "the connection was lost: {why}"),
            Self::Login(why) => write!(f, "it does not let the monitor in: {why}"),
            Self::Answer(why) => write!(f, "its answer is of no use: {why}"),
        }
    }
}
