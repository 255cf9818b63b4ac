//! What a server copies from others.

use std::time::Duration;

use super::table::{Row, Table};
use crate::{
    gtid::{Family, GtidSet, Uuid},
    topology::{Channel, Identity, IoThread, ReplicationError},
};

/// A row for each source; the names of columns are those of MySQL since 8.0.22, or those before,
/// which MariaDB keeps.
pub(super) fn read(table: &Table) -> Result<Vec<Channel>, String> {
    let rows = (0..table.rows.len()).filter_map(|index| table.row(index));
    rows.map(|row| one(&row)).collect()
}

fn one(row: &Row<'_>) -> Result<Channel, String> {
    let port = row.number(&["Source_Port", "Master_Port"])?;
    let port = u16::try_from(port.unwrap_or_default());
    let seconds = |names: &[&str]| Ok::<_, String>(row.number(names)?.map(Duration::from_secs));
    let uuid = row.text_if_any(&["Source_UUID", "Master_UUID"]);
    let uuid = uuid.and_then(|text| Uuid::parse(text.as_bytes()));
    let server_id = row.number(&["Source_Server_Id", "Master_Server_Id"])?;
    let server_id = u32::try_from(server_id.unwrap_or_default()).unwrap_or_default();
    // Old versions have no delays.
    let delay = seconds(&["SQL_Delay"]).unwrap_or_default();
    Ok(Channel {
        name: row
            .text_if_any(&["Channel_Name", "Connection_name"])
            .unwrap_or_default()
            .to_owned(),
        host: row.text(&["Source_Host", "Master_Host"])?.to_owned(),
        port: port.map_err(|_| "the source's port is out of range".to_owned())?,
        source: (uuid.is_some() || server_id != 0).then_some(Identity { uuid, server_id }),
        io: match row.text(&["Replica_IO_Running", "Slave_IO_Running"])? {
            "Yes" => IoThread::Running,
            "No" => IoThread::Stopped,
            // "Connecting", and MariaDB's "Preparing".
            _ => IoThread::Connecting,
        },
        sql_running: row.text(&["Replica_SQL_Running", "Slave_SQL_Running"])? == "Yes",
        lag: seconds(&["Seconds_Behind_Source", "Seconds_Behind_Master"])?,
        delay: delay.unwrap_or_default(),
        io_error: error(row, "Last_IO_Errno", "Last_IO_Error")?,
        sql_error: error(row, "Last_SQL_Errno", "Last_SQL_Error")?,
        by_gtid: is_by_gtid(row),
        retrieved: retrieved(row)?,
    })
}

fn error(row: &Row<'_>, number: &str, text: &str) -> Result<Option<ReplicationError>, String> {
    let number = row.number(&[number])?.unwrap_or_default();
    if number == 0 {
        return Ok(None);
    }
    Ok(Some(ReplicationError {
        number: u32::try_from(number).unwrap_or(u32::MAX),
        text: row.text(&[text]).unwrap_or_default().to_owned(),
    }))
}

fn retrieved(row: &Row<'_>) -> Result<Option<GtidSet>, String> {
    for (family, name) in [
        (Family::MySql, "Retrieved_Gtid_Set"),
        (Family::MariaDb, "Gtid_IO_Pos"),
    ] {
        if let Some(text) = row.text_if_any(&[name]) {
            let set = GtidSet::parse(family, text);
            return set.map(Some).map_err(|error| format!("{name}: {error}"));
        }
    }
    Ok(None)
}

fn is_by_gtid(row: &Row<'_>) -> bool {
    match row.text_if_any(&["Using_Gtid"]) {
        Some(word) => !word.eq_ignore_ascii_case("no"),
        None => row.is_on(&["Auto_Position"]).unwrap_or_default(),
    }
}
