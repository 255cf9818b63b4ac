//! The server's own state.

use super::table::Table;
use crate::{
    gtid::{Family, MariaDbSet, MySqlSet, Uuid},
    topology::{Identity, Version},
};

/// All of MySQL since 5.7. Not `SHOW VARIABLES`, which cuts sets of GTIDs off.
pub(super) const MYSQL: &str = "SELECT @@GLOBAL.read_only AS read_only, \
     @@GLOBAL.super_read_only AS super_read_only, @@GLOBAL.innodb_read_only AS innodb_read_only, \
     @@GLOBAL.offline_mode AS offline_mode, @@GLOBAL.server_id AS server_id, \
     @@GLOBAL.server_uuid AS server_uuid, @@GLOBAL.gtid_mode AS gtid_mode, \
     @@GLOBAL.gtid_executed AS gtid_executed, \
     @@GLOBAL.log_bin AS log_bin, @@GLOBAL.max_allowed_packet AS max_allowed_packet";

/// All of MariaDB since 10.0.
pub(super) const MARIADB: &str = "SELECT @@GLOBAL.read_only AS read_only, \
     @@GLOBAL.innodb_read_only AS innodb_read_only, @@GLOBAL.server_id AS server_id, \
     @@GLOBAL.gtid_binlog_pos AS gtid_binlog_pos, @@GLOBAL.gtid_slave_pos AS gtid_slave_pos, \
     @@GLOBAL.log_bin AS log_bin, @@GLOBAL.max_allowed_packet AS max_allowed_packet";

/// Bytes of a command that it takes.
pub(super) fn most_packet(table: &Table) -> Option<usize> {
    let bytes = table.row(0)?.number(&["max_allowed_packet"]).ok()??;
    usize::try_from(bytes).ok()
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) read_only: bool,
    pub(super) super_read_only: bool,
    pub(super) offline: bool,
    pub(super) logs: bool,
    pub(super) identity: Identity,
    pub(super) executed: Executed,
}

#[derive(Clone, Debug)]
pub(super) enum Executed {
    None,
    MySql(MySqlSet),
    MariaDb {
        log: MariaDbSet,
        applied: MariaDbSet,
    },
}

pub(super) fn read(version: &Version, table: &Table) -> Result<State, String> {
    let row = table.row(0).ok_or("the answer has no row")?;
    // A file system that is read-only refuses whatever the other variables say.
    let is_stuck = row.is_on(&["innodb_read_only"])?;
    let read_only = row.is_on(&["read_only"])? || is_stuck;
    let logs = row.is_on(&["log_bin"])?;
    let server_id = row.number(&["server_id"])?.unwrap_or_default();
    let server_id = u32::try_from(server_id).map_err(|_| "server_id is out of range".to_owned())?;
    let set = |what: &str, error: crate::gtid::GtidError| format!("{what}: {error}");
    match version.family {
        Family::MySql => {
            let uuid = row.text(&["server_uuid"])?;
            let uuid = Uuid::parse(uuid.as_bytes()).ok_or("server_uuid is no UUID")?;
            let mode = row.text(&["gtid_mode"])?;
            let executed = if mode.eq_ignore_ascii_case("off") || mode.is_empty() {
                Executed::None
            } else {
                let mut executed = MySqlSet::new();
                executed
                    .add_text(row.text(&["gtid_executed"])?)
                    .map_err(|error| set("gtid_executed", error))?;
                Executed::MySql(executed)
            };
            Ok(State {
                read_only,
                super_read_only: row.is_on(&["super_read_only"])? || is_stuck,
                offline: row.is_on(&["offline_mode"])?,
                logs,
                identity: Identity {
                    uuid: Some(uuid),
                    server_id,
                },
                executed,
            })
        }
        Family::MariaDb => {
            let (mut log, mut applied) = (MariaDbSet::new(), MariaDbSet::new());
            log.add_text(row.text(&["gtid_binlog_pos"])?)
                .map_err(|error| set("gtid_binlog_pos", error))?;
            applied
                .add_text(row.text(&["gtid_slave_pos"])?)
                .map_err(|error| set("gtid_slave_pos", error))?;
            Ok(State {
                read_only,
                super_read_only: is_stuck,
                offline: false,
                logs,
                identity: Identity {
                    uuid: None,
                    server_id,
                },
                executed: Executed::MariaDb { log, applied },
            })
        }
    }
}
