//! Statements that wait until a server has a set of transactions, or ask whether it has.

use std::time::Duration;

use super::{Family, GtidSet};

/// What came of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The server has them.
    Reached,
    /// It has not yet.
    TimedOut,
    /// It cannot wait, because it is no replica or has no GTIDs.
    Impossible,
}

impl GtidSet {
    /// A statement that waits on a replica until it has these, for so long at most; its one value
    /// is for [`waited`]. There is nothing to wait for when the set is empty.
    ///
    /// To MySQL no time means for ever, so that a millisecond is the least.
    #[must_use]
    pub fn wait_statement(&self, most: Duration) -> Option<String> {
        let seconds = most.max(Duration::from_millis(1)).as_secs_f64();
        let function = match self {
            _ if self.is_empty() => return None,
            Self::MySql(_) => "WAIT_FOR_EXECUTED_GTID_SET",
            Self::MariaDb(_) => "MASTER_GTID_WAIT",
        };
        // Only hexadecimal digits, letters and punctuation: there is nothing to be quoted.
        Some(format!("SELECT {function}('{self}', {seconds:.3})"))
    }
}

/// A statement that asks at once whether a server has these, with an answer as that of waiting.
/// MariaDB has none that holds for a primary as well, so this is the one that waits for no time.
#[must_use]
pub fn has_statement(set: &GtidSet) -> Option<String> {
    match set {
        _ if set.is_empty() => None,
        GtidSet::MySql(_) => Some(format!(
            "SELECT 1 - GTID_SUBSET('{set}', @@GLOBAL.gtid_executed)"
        )),
        GtidSet::MariaDb(_) => Some(format!("SELECT MASTER_GTID_WAIT('{set}', 0)")),
    }
}

/// A statement that asks for all that a server has, as a primary.
#[must_use]
pub const fn position_statement(family: Family) -> &'static str {
    match family {
        Family::MySql => "SELECT @@GLOBAL.gtid_executed",
        Family::MariaDb => "SELECT @@GLOBAL.gtid_binlog_pos",
    }
}

/// What the value means that such a statement gives; `None` is NULL.
#[must_use]
pub fn waited(value: Option<&[u8]>) -> Waited {
    match value {
        Some(b"0") => Waited::Reached,
        Some(b"1" | b"-1") => Waited::TimedOut,
        Some(_) | None => Waited::Impossible,
    }
}
