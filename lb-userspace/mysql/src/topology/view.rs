//! What all observations together say.

use std::{fmt, sync::Arc, time::Duration};

use super::{Channel, Identity, ReplicationError, Trouble, Version};
use crate::gtid::GtidSet;

/// A server's name in the config.
pub type Name = Arc<str>;

/// The cluster as it is judged now.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Rises with each change of the primary. A connection that was made for writes in an older
    /// epoch must not be written to.
    pub epoch: u64,
    /// Who takes writes.
    pub primary: Primary,
    /// Who was the primary in the epoch before, if there was one.
    pub former: Option<Name>,
    /// Servers that take writes as well and must not, by their place in the list.
    pub rivals: Vec<usize>,
    /// In the order of the config.
    pub servers: Vec<ServerView>,
    /// Whether something is about to change, so that asking all servers again at once is worth it.
    pub ask_again: bool,
}

impl View {
    /// The primary's place in the list.
    #[must_use]
    pub const fn primary(&self) -> Option<usize> {
        match self.primary {
            Primary::Server(index) => Some(index),
            Primary::Nobody(_) => None,
        }
    }

    /// Replicas that may be read from, by their place in the list, with their weights.
    pub fn readable(&self) -> impl Iterator<Item = (usize, u16)> {
        let all = self.servers.iter().enumerate();
        all.filter(|(index, _)| self.primary() != Some(*index))
            .filter_map(|(index, server)| match &server.reads {
                Reads::Yes { weight } => Some((index, *weight)),
                Reads::No(_) => None,
            })
    }
}

/// Who takes writes.
#[derive(Clone, Debug, PartialEq)]
pub enum Primary {
    /// The server at this place in the list.
    Server(usize),
    /// Nobody: writes wait.
    Nobody(NoPrimary),
}

/// Why nobody takes writes.
#[derive(Clone, Debug, PartialEq)]
pub enum NoPrimary {
    /// After the start, some server has not been asked yet.
    Starting,
    /// It is not reached.
    Lost(Name, Trouble),
    /// It is read-only, and nobody else takes writes.
    ReadOnly(Name),
    /// It refuses ordinary users.
    Offline(Name),
    /// It copies from another server now, which does not take writes.
    Demoted(Name),
    /// All are read-only, or not reached.
    NobodyTakesWrites,
    /// Several take writes, and it is not known which of them is right.
    Unclear(Vec<Name>),
    /// One takes writes, and there is a doubt about it.
    Doubtful(Name, Doubt),
    /// Servers of both families.
    TwoFamilies {
        /// One of them.
        one: (Name, Version),
        /// And one of the other family.
        other: (Name, Version),
    },
}

impl fmt::Display for NoPrimary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("not every server has been asked yet"),
            Self::Lost(name, trouble) => write!(f, "the primary {name} is not reached: {trouble}"),
            Self::ReadOnly(name) => {
                write!(
                    f,
                    "the primary {name} is read-only now, and no other takes writes"
                )
            }
            Self::Offline(name) => write!(f, "the primary {name} is in offline_mode"),
            Self::Demoted(name) => {
                write!(
                    f,
                    "{name}, the primary, is a replica now, of a server that takes no writes"
                )
            }
            Self::NobodyTakesWrites => {
                f.write_str("no server takes writes (read_only is on wherever one is reached)")
            }
            Self::Unclear(names) => write!(
                f,
                "{} take writes and do not replicate from each other, so that it is not clear which \
                 is the primary: set read_only on all but one, or role = \"primary\" in the config",
                listed(names)
            ),
            Self::Doubtful(name, doubt) => write!(f, "{name} takes writes, but {doubt}"),
            Self::TwoFamilies { one, other } => write!(
                f,
                "{} is {} and {} is {}: list servers of one family only",
                one.0, one.1, other.0, other.1
            ),
        }
    }
}

/// Names in a sentence.
pub(super) fn listed(names: &[Name]) -> String {
    match names {
        [] => "none".to_owned(),
        [only] => only.to_string(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Why a server that takes writes is not taken for the new primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It was the primary before another was, and has not been seen to join again.
    Deposed(Name),
    /// It took writes beside the primary, which is gone now, and lacks some of its transactions.
    Rival(Name),
    /// It took writes while it was a replica, so that this does not make it a primary.
    Careless(Name),
    /// Its replication from the primary was not ended, it broke.
    Broken(Name),
    /// It still copies from a server, which is not reached.
    StillReplica(Name),
    /// It shares no transaction with the primary.
    Stranger(Name),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deposed(primary) => write!(
                f,
                "it was the primary before {primary} and has not been its replica since: make it a \
                 replica, or set read_only on it for a moment if it is right"
            ),
            Self::Rival(primary) => write!(
                f,
                "it did so beside {primary}, and may lack transactions of {primary}: set read_only on \
                 it for a moment if it is right"
            ),
            Self::Careless(primary) => write!(
                f,
                "it did so as a replica of {primary} as well: set read_only on replicas, and end its \
                 replication (RESET REPLICA ALL) if it is right"
            ),
            Self::Broken(primary) => write!(
                f,
                "its replication from {primary} stopped with an error: end it (RESET REPLICA ALL) if \
                 it is right"
            ),
            Self::StillReplica(source) => write!(
                f,
                "it replicates from {source}, which is not reached: end its replication (STOP \
                 REPLICA, RESET REPLICA ALL) if it is right"
            ),
            Self::Stranger(primary) => {
                write!(
                    f,
                    "it shares no transaction with {primary}, the primary until now"
                )
            }
        }
    }
}

/// A server as it is judged now.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerView {
    /// What it is called.
    pub name: Name,
    /// What it is.
    pub role: Role,
    /// Whether it is reached.
    pub health: Health,
    /// Whether it may be read from.
    pub reads: Reads,
    /// How far a replica is behind, as far as that is known.
    pub lag: Option<Duration>,
    /// Whether it refuses writes, when it was seen last.
    pub read_only: Option<bool>,
    /// Whether it refuses the writes of everybody, whatever he may do, when it was seen last.
    pub refuses_all: bool,
    /// Whether it has a binary log, when it was seen last.
    pub logs: Option<bool>,
    /// What it is, when it was seen last.
    pub version: Option<Version>,
    /// Which it is, when it was seen last.
    pub identity: Option<Identity>,
    /// What it has, when it was seen last.
    pub executed: Option<GtidSet>,
    /// Transactions that it wrote itself and the primary does not have: it differs from the
    /// primary. Only MySQL's GTIDs tell.
    pub own: Option<GtidSet>,
    /// The server of the list that it copies from, by its place there.
    pub source: Option<usize>,
    /// How it does; where it copies from nobody in the list, how it copies from others.
    pub channel: Option<Channel>,
}

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes the writes.
    Primary,
    /// It copies from another.
    Replica,
    /// Neither, or it is not known.
    Unknown,
}

impl Role {
    /// As in `lb mysql status`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It has not been asked yet.
    Checking,
    /// It answers.
    Up,
    /// It failed to, but not often enough.
    Failing(Trouble),
    /// It does not.
    Down(Trouble),
}

impl Health {
    /// As in `lb mysql status`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Up | Self::Failing(_) => "up",
            Self::Down(_) => "down",
        }
    }
}

/// Whether a server may be read from.
#[derive(Clone, Debug, PartialEq)]
pub enum Reads {
    /// With this share.
    Yes {
        /// Its weight.
        weight: u16,
    },
    /// Not, and why.
    No(NoReads),
}

/// Why a server may not be read from.
#[derive(Clone, Debug, PartialEq)]
pub enum NoReads {
    /// It has not been asked yet.
    Checking,
    /// It is not reached.
    Down(Trouble),
    /// It refuses ordinary users.
    Offline,
    /// Its weight is 0.
    NoWeight,
    /// It is further behind than allowed.
    Lag(Duration),
    /// It applies nothing.
    ApplierStopped(Option<ReplicationError>),
    /// It fetches nothing.
    FetcherStopped(Option<ReplicationError>),
    /// It cannot connect to its source.
    FetcherConnecting(Option<ReplicationError>),
    /// It is no replica and not the primary.
    NoReplica,
    /// It takes writes beside the primary.
    Rival,
    /// It copies from a server that is not in the list.
    ForeignSource(String),
    /// It copies from another than the primary.
    OtherPrimary(Name),
    /// Something is wrong between it and the primary.
    Source(Name, Box<NoReads>),
    /// It does not tell what it copies.
    Untold(String),
    /// It is the same as another in the list.
    SameAs(Name),
    /// It is of the other family than the primary.
    OtherFamily(Version),
    /// It is not clear who the primary is.
    Unclear,
}

impl fmt::Display for NoReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |f: &mut fmt::Formatter<'_>, what: &str, error: &Option<ReplicationError>| {
            f.write_str(what)?;
            match error {
                Some(error) => write!(f, ": {error}"),
                None => Ok(()),
            }
        };
        match self {
            Self::Checking => f.write_str("it has not been asked yet"),
            Self::Down(trouble) => trouble.fmt(f),
            Self::Offline => f.write_str("it is in offline_mode"),
            Self::NoWeight => f.write_str("its weight is 0"),
            Self::Lag(lag) => write!(f, "it is {:.1} s behind", lag.as_secs_f64()),
            Self::ApplierStopped(error) => with(f, "its SQL thread is stopped", error),
            Self::FetcherStopped(error) => with(f, "its IO thread is stopped", error),
            Self::FetcherConnecting(error) => with(f, "it does not reach its source", error),
            Self::NoReplica => f.write_str("it replicates from nobody and is not the primary"),
            Self::Rival => f.write_str("it takes writes beside the primary"),
            Self::ForeignSource(source) => {
                write!(f, "it replicates from {source}, which is not in the list")
            }
            Self::OtherPrimary(source) => {
                write!(f, "it replicates from {source}, which is not the primary")
            }
            Self::Source(source, why) => write!(f, "it replicates from {source}, of which: {why}"),
            Self::Untold(why) => f.write_str(why),
            Self::SameAs(other) => write!(
                f,
                "it has the same identity as {other}: list a server once (a copied data directory \
                 needs its own server_uuid and server_id)"
            ),
            Self::OtherFamily(version) => {
                write!(f, "it is {version}, of another family than the primary")
            }
            Self::Unclear => f.write_str("it is not clear who the primary is"),
        }
    }
}
