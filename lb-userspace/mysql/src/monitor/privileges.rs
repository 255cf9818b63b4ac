//! What the monitor's account has to be allowed, and what is said when it is not.

use crate::{gtid::Family, topology::Version};

/// An error that a server answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// Its number.
    pub number: u16,
    /// Its words.
    pub text: String,
}

/// Codes that mean "you may not".
const DENIED: &[u16] = &[1044, 1045, 1142, 1227];

/// The privilege to see what a server copies.
fn to_see(version: &Version) -> &'static str {
    match version.family {
        Family::MariaDb if version.number >= (10, 5, 2) => "SLAVE MONITOR",
        Family::MariaDb | Family::MySql => "REPLICATION CLIENT",
    }
}

/// The statements that make the least account for watching; on the primary, from where replicas
/// have it.
#[must_use]
pub fn grants(version: &Version, user: &str) -> Vec<String> {
    let privilege = to_see(version);
    let user = quoted(user);
    vec![
        format!("CREATE USER {user}@'%' IDENTIFIED BY '…'"),
        format!("GRANT {privilege} ON *.* TO {user}@'%'"),
    ]
}

/// What a switch-over needs beside [`grants`].
#[must_use]
pub fn switchover_grants(version: &Version, user: &str) -> Vec<String> {
    let user = quoted(user);
    let privileges = match version.family {
        // RELOAD is for RESET REPLICA; CONNECTION_ADMIN lets it in when all others are.
        Family::MySql if version.number >= (8, 0, 14) => {
            "SYSTEM_VARIABLES_ADMIN, REPLICATION_SLAVE_ADMIN, CONNECTION_ADMIN, RELOAD"
        }
        Family::MariaDb if version.number >= (10, 5, 2) => {
            "READ_ONLY ADMIN, REPLICATION SLAVE ADMIN, CONNECTION ADMIN, RELOAD"
        }
        Family::MySql | Family::MariaDb => "SUPER, RELOAD",
    };
    vec![format!("GRANT {privileges} ON *.* TO {user}@'%'")]
}

fn quoted(user: &str) -> String {
    format!("'{}'", user.replace('\\', "\\\\").replace('\'', "''"))
}

/// Why a server does not tell what it copies.
pub(super) fn sentence(version: &Version, error: &ServerError) -> String {
    let ServerError { number, text } = error;
    if DENIED.contains(number) {
        let privilege = to_see(version);
        format!(
            "the monitor's account may not see what it replicates: GRANT {privilege} ON *.* TO it \
             (error {number})"
        )
    } else {
        let line = text.lines().next().unwrap_or_default();
        let short: String = line.chars().take(200).collect();
        format!("it does not tell what it replicates: error {number}: {short}")
    }
}
