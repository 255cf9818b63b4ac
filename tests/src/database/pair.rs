//! A primary and its replica.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use lb_lab::Lab;

use super::{Database, Family, PATIENCE};
use crate::scenario::await_until;

/// A primary and a read-only replica that follows it by GTID.
#[derive(Debug)]
pub struct Pair<'l> {
    /// It takes writes.
    pub primary: Database<'l>,
    /// It does not.
    pub replica: Database<'l>,
}

impl<'l> Pair<'l> {
    /// Starts both, each in its namespace and at its address, and waits until what the primary
    /// wrote is on the replica. Both may be in one namespace, on different ports.
    ///
    /// # Errors
    /// When one does not start, or does not follow.
    pub fn start(
        lab: &'l Lab,
        family: Family,
        primary: (&str, SocketAddr),
        replica: (&str, SocketAddr),
    ) -> Result<Self> {
        let read_only = match family {
            Family::MySql => "--super-read-only=ON",
            Family::MariaDb => "--read-only=ON",
        };
        let pair = Self {
            primary: Database::start(lab, family, 1, primary, &[])?,
            replica: Database::start(lab, family, 2, replica, &[read_only])?,
        };
        pair.primary.run(
            "CREATE USER copy@'%' IDENTIFIED BY 'copy'; GRANT REPLICATION SLAVE ON *.* TO \
             copy@'%'; CREATE DATABASE pair; CREATE TABLE pair.writes (number INT PRIMARY KEY)",
        )?;
        let address = pair.primary.address();
        let follow = family.follow(&address.ip().to_string(), address.port());
        pair.replica.run(&follow)?;
        pair.write(0)?;
        pair.await_copy(0)?;
        Ok(pair)
    }

    /// Writes a number to the primary; each only once.
    ///
    /// # Errors
    /// When the primary refuses it.
    pub fn write(&self, number: u32) -> Result<()> {
        let sql = format!("INSERT INTO pair.writes VALUES ({number})");
        self.primary.run(&sql).map(drop)
    }

    /// Waits until a number is on the replica.
    ///
    /// # Errors
    /// When it does not come.
    pub fn await_copy(&self, number: u32) -> Result<()> {
        let sql = format!("SELECT COUNT(*) FROM pair.writes WHERE number = {number}");
        await_until(PATIENCE, "the replica has it", || {
            let count = self.replica.run(&sql)?;
            ensure!(count.trim() == "1", "{count}");
            Ok(())
        })
    }

    /// Stops the replica's thread that applies what it copied.
    ///
    /// # Errors
    /// When the replica refuses it.
    pub fn stop_applying(&self) -> Result<()> {
        let (replica, _) = self.replica.family().applier();
        let sql = format!("STOP {replica} SQL_THREAD");
        self.replica.run(&sql).map(drop)
    }

    /// Lets it apply again, each change so many seconds after it was made.
    ///
    /// # Errors
    /// When the replica refuses it.
    pub fn apply_after(&self, seconds: u32) -> Result<()> {
        let (replica, delay) = self.replica.family().applier();
        let sql = format!("STOP {replica}; {delay}={seconds}; START {replica}");
        self.replica.run(&sql).map(drop)
    }
}
