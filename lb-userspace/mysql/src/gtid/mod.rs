//! Names of transactions, and sets of them, as MySQL and MariaDB each have theirs.
//!
//! MySQL counts the transactions of every server (and tag) by themselves; a set is intervals of
//! numbers. MariaDB has one sequence for each domain, and a set is a position in each: whoever is
//! at 17 has all that came before.

mod error;
mod mariadb;
mod mysql;
mod tracker;
mod uuid;
mod wait;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::{
    error::GtidError,
    mariadb::{MariaDbGtid, MariaDbSet},
    mysql::{Interval, MySqlGtid, MySqlSet},
    tracker::{LAST_GTID, from_tracker},
    uuid::{Tag, Uuid},
    wait::{Waited, has_statement, position_statement, waited},
};

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Oracle's MySQL, and what descends from it, such as Percona's.
    MySql,
    /// MariaDB.
    MariaDb,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        })
    }
}

/// A set of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GtidSet {
    /// Of MySQL.
    MySql(MySqlSet),
    /// Of MariaDB.
    MariaDb(MariaDbSet),
}

impl GtidSet {
    /// No transaction.
    #[must_use]
    pub const fn empty(family: Family) -> Self {
        match family {
            Family::MySql => Self::MySql(MySqlSet::new()),
            Family::MariaDb => Self::MariaDb(MariaDbSet::new()),
        }
    }

    /// From the servers' spelling.
    ///
    /// # Errors
    /// When it is none; the message says at which byte.
    pub fn parse(family: Family, text: &str) -> Result<Self, GtidError> {
        let mut set = Self::empty(family);
        set.add_text(text)?;
        Ok(set)
    }

    /// Adds what is written in the servers' spelling. A wrong text changes nothing.
    ///
    /// # Errors
    /// As [`GtidSet::parse`].
    pub fn add_text(&mut self, text: &str) -> Result<(), GtidError> {
        match self {
            Self::MySql(set) => set.add_text(text),
            Self::MariaDb(set) => set.add_text(text),
        }
    }

    /// Whose it is.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::MySql(_) => Family::MySql,
            Self::MariaDb(_) => Family::MariaDb,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        match self {
            Self::MySql(set) => set.is_empty(),
            Self::MariaDb(set) => set.is_empty(),
        }
    }

    /// Whether all of the other is in it. A set of the other family is only if it is empty.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(own), Self::MySql(other)) => own.contains(other),
            (Self::MariaDb(own), Self::MariaDb(other)) => own.contains(other),
            (Self::MySql(_), Self::MariaDb(_)) | (Self::MariaDb(_), Self::MySql(_)) => {
                other.is_empty()
            }
        }
    }

    /// Whether something is in both, so that they come from one history.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(own), Self::MySql(other)) => own.meets(other),
            (Self::MariaDb(own), Self::MariaDb(other)) => own.meets(other),
            (Self::MySql(_), Self::MariaDb(_)) | (Self::MariaDb(_), Self::MySql(_)) => false,
        }
    }

    /// Adds all of the other. A set of the other family adds nothing.
    pub fn union(&mut self, other: &Self) {
        match (self, other) {
            (Self::MySql(own), Self::MySql(other)) => own.union(other),
            (Self::MariaDb(own), Self::MariaDb(other)) => own.union(other),
            (Self::MySql(_), Self::MariaDb(_)) | (Self::MariaDb(_), Self::MySql(_)) => {}
        }
    }

    /// Adds what is missing between the first and the last transaction of each server, so that
    /// the set takes no more memory than one interval for each: a replica that has all of this has
    /// all that was in it before.
    pub fn fill(&mut self) {
        match self {
            Self::MySql(set) => set.fill(),
            Self::MariaDb(_) => {}
        }
    }

    /// What is in it and not in the other. Of MariaDB: the positions that the other has not
    /// reached.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::MySql(own), Self::MySql(other)) => Self::MySql(own.without(other)),
            (Self::MariaDb(own), Self::MariaDb(other)) => Self::MariaDb(own.without(other)),
            (Self::MySql(_), Self::MariaDb(_)) | (Self::MariaDb(_), Self::MySql(_)) => self.clone(),
        }
    }
}

/// As the servers write it, on one line. MySQL's own line breaks behind commas are left out.
impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(set) => set.fmt(f),
            Self::MariaDb(set) => set.fmt(f),
        }
    }
}
