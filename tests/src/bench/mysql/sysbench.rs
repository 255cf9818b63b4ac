//! sysbench, and what it says.

use std::time::Duration;

use anyhow::{Context, Result};
use lb_lab::Lab;

/// What a load is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Eight threads, each one row by its key, in text.
    Text,
    /// The same by prepared statements.
    Prepared,
    /// Eight threads that read and write, in text, each statement by itself.
    ReadWrite,
    /// As [`Load::Text`] by one thread.
    OneThread,
}

impl Load {
    pub(super) const ALL: [Self; 4] =
        [Self::Text, Self::Prepared, Self::ReadWrite, Self::OneThread];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Text => "point select, text, 8 threads",
            Self::Prepared => "point select, prepared, 8 threads",
            Self::ReadWrite => "read_write, text, 8 threads",
            Self::OneThread => "point select, text, 1 thread",
        }
    }

    /// What the splitting proxy has to reach of what there is without one.
    pub(super) const fn least_of_direct(self) -> Option<f64> {
        match self {
            Self::Text => Some(0.40),
            Self::Prepared => Some(0.35),
            Self::ReadWrite => Some(0.85),
            Self::OneThread => None,
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Text => &["--threads=8", "--db-ps-mode=disable", "oltp_point_select"],
            Self::Prepared => &["--threads=8", "oltp_point_select"],
            // With inserts and deletes its threads would collide.
            Self::ReadWrite => &[
                "--threads=8",
                "--db-ps-mode=disable",
                "--skip-trx=on",
                "--delete_inserts=0",
                "oltp_read_write",
            ],
            Self::OneThread => &["--threads=1", "--db-ps-mode=disable", "oltp_point_select"],
        }
    }
}

const COMMON: [&str; 7] = [
    "--db-driver=mysql",
    "--mysql-host=127.0.0.1",
    "--mysql-user=app",
    "--mysql-password=app",
    "--mysql-db=sbtest",
    "--tables=4",
    "--table-size=10000",
];

/// Makes the tables.
pub(super) fn prepare(lab: &Lab, port: u16) -> Result<()> {
    let port = format!("--mysql-port={port}");
    let own = [&port, "--threads=4", "oltp_read_write", "prepare"];
    let words = [&COMMON[..], &own].concat();
    lab.run("db", "sysbench", &words).map(drop)
}

/// Statements per second.
pub(super) fn run(lab: &Lab, port: u16, load: Load, span: Duration) -> Result<f64> {
    let (port, time) = (
        format!("--mysql-port={port}"),
        format!("--time={}", span.as_secs().max(1)),
    );
    let own = [port.as_str(), &time];
    let words = [&COMMON[..], &own, load.arguments(), &["run"]].concat();
    let text = lab.run("db", "sysbench", &words)?;
    rate(&text).with_context(|| format!("sysbench said\n{text}"))
}

/// From `queries:    12345  (4115.00 per sec.)`.
fn rate(text: &str) -> Option<f64> {
    let lines = text.lines().map(str::trim);
    let mut found = lines.filter_map(|line| line.strip_prefix("queries:"));
    let (_, behind) = found.next()?.split_once('(')?;
    behind.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn the_rate_is_found() {
        let text = "SQL statistics:\n    queries performed:\n        read: 70\n    queries:     \
                    123456 (4115.20 per sec.)\n";
        assert_eq!(rate(text), Some(4115.2));
        assert_eq!(rate("FATAL: no"), None);
    }
}
