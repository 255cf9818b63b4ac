//! What the monitor asks each server, and what the answers mean.
//!
//! Two statements: one for the server's own state, which needs no privilege, one for what it copies
//! from others, which needs one ([`grants`]). There is no socket here: [`questions`] gives the SQL,
//! [`observation`] takes the rows.
//!
//! `performance_schema` has finer lags, and needs another privilege for them. They are not asked
//! for: what is missing of the primary's GTIDs tells more (`topology::history`), and the seconds of
//! the status are only for servers without GTIDs and for delays.

mod channel;
mod privileges;
mod state;
mod table;

#[cfg(test)]
mod tests;

pub use self::{
    privileges::{ServerError, grants, switchover_grants},
    table::Table,
};
use crate::{
    gtid::{Family, GtidSet, MariaDbSet},
    topology::{Channels, Observation, Version},
};

/// The SQL that a server is asked, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Questions {
    /// Its own state: one row.
    pub state: &'static str,
    /// What it copies from others: a row for each source.
    pub channels: &'static str,
}

/// What to ask a server of a version; its greeting tells which.
#[must_use]
pub fn questions(version: &Version) -> Questions {
    match version.family {
        Family::MySql => Questions {
            state: state::MYSQL,
            channels: if version.number >= (8, 0, 22) {
                "SHOW REPLICA STATUS"
            } else {
                "SHOW SLAVE STATUS"
            },
        },
        Family::MariaDb => Questions {
            state: state::MARIADB,
            channels: "SHOW ALL SLAVES STATUS",
        },
    }
}

/// The longest command that the server takes, in bytes, by what it answered about its state.
#[must_use]
pub fn most_packet(state: &Table) -> Option<usize> {
    state::most_packet(state)
}

/// What the answers say.
///
/// # Errors
/// When they are no answers to [`questions`]; a sentence says what is wrong.
pub fn observation(
    version: &Version,
    state: &Table,
    channels: Result<&Table, &ServerError>,
) -> Result<Observation, String> {
    let state = state::read(version, state)?;
    let channels = match channels {
        Ok(table) => Channels::Known(channel::read(table)?),
        Err(error) => Channels::Unknown(privileges::sentence(version, error)),
    };
    let executed = match state.executed {
        state::Executed::None => None,
        state::Executed::MySql(set) => Some(GtidSet::MySql(set)),
        state::Executed::MariaDb { log, applied } => {
            Some(GtidSet::MariaDb(positions(&channels, log, &applied)))
        }
    };
    Ok(Observation {
        version: version.clone(),
        identity: state.identity,
        read_only: state.read_only,
        super_read_only: state.super_read_only,
        offline: state.offline,
        logs: state.logs,
        channels,
        executed,
    })
}

/// Where a MariaDB server is. Its own log counts for a replica only in domains that it does not
/// copy: a write by mistake would stand there with a number that the primary gives to something
/// else.
fn positions(channels: &Channels, mut log: MariaDbSet, applied: &MariaDbSet) -> MariaDbSet {
    match channels {
        Channels::Known(channels) if !channels.is_empty() => applied.clone().filled_from(&log),
        Channels::Known(_) | Channels::Unknown(_) => {
            log.union(applied);
            log
        }
    }
}
