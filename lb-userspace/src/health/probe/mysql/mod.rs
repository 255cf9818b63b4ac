//! A login to a MySQL or MariaDB server, and what it says of its role and of its lag.

mod login;
mod wire;

use std::{fs, io::Read as _, net::SocketAddr, path::Path, time::Duration};

use lb_mysql::{auth::Secret, wire::command::Command};
use tokio::time::{Instant, timeout_at};

use self::wire::{Packets, Refused, Rows, Stream};
use super::{
    Answer, Connection, Seen, Tools,
    failed::{Failed, system_words},
    line::bounded,
};
use crate::config::model::{Mysql, Require};

/// A password is no longer than that.
const LONGEST_PASSWORD: u64 = 4096;
/// Time to say goodbye, so that the server does not count a connection that broke.
const GOODBYE: Duration = Duration::from_millis(50);
/// The words for replication that older servers do not know.
const SYNTAX_ERROR: u16 = 1064;

/// Logs in and asks.
pub(super) async fn check(
    stream: Connection,
    address: SocketAddr,
    mysql: &Mysql,
    tools: &Tools,
    seen: &Seen,
    deadline: Instant,
) -> Result<Answer, Failed> {
    let password = match &mysql.password_file {
        Some(file) => read_password(file)?,
        None => Secret::empty(),
    };
    let mut packets = login::log_in(
        stream,
        address,
        mysql,
        password,
        tools,
        &seen.certificate_end,
    )
    .await?;
    let answer = ask(&mut packets, mysql, seen).await;
    packets.sequence = 0;
    let goodbye = async {
        packets.send(&[Command::Quit as u8]).await?;
        // COM_QUIT has no answer but the end, and whoever hears of that by a reset might count it.
        packets.receive().await
    };
    let _ = timeout_at(deadline.min(Instant::now() + GOODBYE), goodbye).await;
    answer
}

/// Anew each time, so that a new password needs no reload.
fn read_password(file: &Path) -> Result<Secret, Failed> {
    let cannot = |error| {
        Failed::not_asked(format_args!(
            "password_file {}: {}",
            file.display(),
            system_words(&error)
        ))
    };
    let mut password = Vec::new();
    let opened = fs::File::open(file).map_err(cannot)?;
    let mut start = opened.take(LONGEST_PASSWORD);
    start.read_to_end(&mut password).map_err(cannot)?;
    let end = password.iter().position(|byte| b"\r\n\0".contains(byte));
    password.truncate(end.unwrap_or(password.len()));
    Ok(Secret::new(password))
}

async fn ask(
    packets: &mut Packets<Box<dyn Stream>>,
    mysql: &Mysql,
    seen: &Seen,
) -> Result<Answer, Failed> {
    let rows = packets.query("SELECT @@global.read_only").await?;
    let value = rows.rows.first().and_then(|row| row.first()?.as_deref());
    let is_replica = match value {
        Some(value) => !["0", "OFF"].contains(&value.to_ascii_uppercase().as_str()),
        None => return Err(wire::not_mysql()),
    };
    let role = if is_replica { "replica" } else { "primary" };
    match mysql.require {
        Require::Primary if is_replica => {
            return Err(Failed::because("the server is read-only, and no primary"));
        }
        Require::Replica if !is_replica => {
            return Err(Failed::because(
                "the server is not read-only, and no replica",
            ));
        }
        Require::Any | Require::Primary | Require::Replica => {}
    }
    let Some(most) = mysql.max_lag else {
        return Ok(Answer::good(format!("MySQL {role}")));
    };
    let lag = lag(packets).await?;
    if let Some(lag) = lag {
        let _ = seen.lag.set(lag);
    }
    match lag {
        Some(lag) if lag > most.as_secs_f64() => Err(Failed::because(format!(
            "replication is {lag} s behind, and max_lag_seconds is {}",
            most.as_secs_f64()
        ))),
        Some(lag) => Ok(Answer::good(format!("MySQL {role} {lag} s behind"))),
        None if is_replica => Err(Failed::because(
            "the server is read-only and replicates from nobody, so that its lag is not known",
        )),
        None => Ok(Answer::good(format!("MySQL {role}"))),
    }
}

/// How far replication is behind, in seconds; of several sources the one that is furthest.
async fn lag(packets: &mut Packets<Box<dyn Stream>>) -> Result<Option<f64>, Failed> {
    let rows = match packets.query("SHOW REPLICA STATUS").await {
        Err(Refused::Server(error)) if error.code == SYNTAX_ERROR => {
            packets.query("SHOW SLAVE STATUS").await?
        }
        other => other?,
    };
    let lags = rows.rows.iter().map(|row| lag_of(&rows, row));
    let lags: Vec<f64> = lags.collect::<Result<_, _>>()?;
    Ok(lags.into_iter().reduce(f64::max))
}

fn lag_of(rows: &Rows, row: &[Option<String>]) -> Result<f64, Failed> {
    let value = rows.value(row, &["Seconds_Behind_Source", "Seconds_Behind_Master"]);
    let lag = value.flatten().and_then(|text| text.parse().ok());
    lag.ok_or_else(|| {
        let errors = ["Last_IO_Error", "Last_SQL_Error"];
        let why = errors
            .iter()
            .filter_map(|name| rows.value(row, &[name]).flatten())
            .find(|text| !text.is_empty());
        let why = why.map(|text| format!(": {}", bounded(text)));
        Failed::because(format!(
            "replication has stopped{}",
            why.unwrap_or_default()
        ))
    })
}
