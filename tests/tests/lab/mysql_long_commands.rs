//! Commands that are long: those that the primary takes arrive, and those that it does not are
//! refused as it does it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_mysql::wire::Capabilities;
use lb_mysql::wire::packet::Header;
use lb_tests::database::Family;
use lb_tests::scenario::await_until;

use crate::mysql_bed::{Bed, PRIMARY, PROXY, log_in, one_host};

const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// What becomes of a long insert, and of what it has inserted.
fn insert(port: u16, schema: &str, length: usize) -> Result<Vec<String>> {
    let mut client = log_in(port, Some(schema), Capabilities::NONE)?;
    client.query("CREATE TABLE long_values (id INT PRIMARY KEY, v LONGBLOB)")?;
    let value = "x".repeat(length);
    let mut told = vec![client.query(&format!("INSERT INTO long_values VALUES (1, '{value}')"))?];
    let id = client.prepare("INSERT INTO long_values VALUES (2, ?)")?;
    let id = id.map_err(anyhow::Error::msg)?;
    let data = [&[0x18][..], &id.to_le_bytes(), &[0, 0], value.as_bytes()].concat();
    client.say(&data)?;
    told.push(client.execute(id, (0, true), &[Some("")])?);
    told.push(client.query("SELECT id, LENGTH(v), CRC32(v) FROM long_values ORDER BY id")?);
    told.push(client.query("DROP TABLE long_values")?);
    Ok(told)
}

/// What is answered to a command of that length of which only the beginning comes, and whether the
/// rest is waited for.
fn refused(port: u16, length: usize) -> Result<(String, bool)> {
    let client = log_in(port, None, Capabilities::NONE)?;
    let mut stream = client.into_stream();
    stream.set_read_timeout(Some(Duration::from_millis(700)))?;
    let sequence = 0;
    stream.write_all(&Header { length, sequence }.bytes())?;
    stream.write_all(b"\x03SELECT 1")?;
    let mut said = Vec::new();
    let mut chunk = [0; 512];
    loop {
        match stream.read(&mut chunk) {
            Ok(read) if read > 0 => said.extend_from_slice(&chunk[..read]),
            ended => {
                let is_open = ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
                return Ok((said.escape_ascii().to_string(), is_open));
            }
        }
    }
}

fn long_commands(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let bed = Bed::start(&lab, family)?;
    bed.pair
        .primary
        .run("CREATE DATABASE direct; CREATE DATABASE routed")?;
    lab.within("db", || {
        for length in [MIB, 20 * MIB] {
            let direct = insert(PRIMARY, "direct", length)?;
            let routed = insert(PROXY, "routed", length)?;
            ensure!(direct == routed, "{length}: {direct:?} and {routed:?}");
        }
        anyhow::Ok(())
    })??;
    // New sessions have it.
    bed.pair
        .primary
        .run(&format!("SET GLOBAL max_allowed_packet = {MIB}"))?;
    lab.within("db", || {
        for length in [MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB] {
            let direct = refused(PRIMARY, length)?;
            await_until(PATIENCE, "the proxy refuses the same", || {
                let routed = refused(PROXY, length)?;
                ensure!(direct == routed, "{length}: {direct:?} and {routed:?}");
                Ok(())
            })?;
        }
        anyhow::Ok(())
    })?
}

#[test]
fn mysql_long_commands_are_as_at_the_primary() -> Result<()> {
    long_commands(Family::MySql)
}

#[test]
fn mariadb_long_commands_are_as_at_the_primary() -> Result<()> {
    long_commands(Family::MariaDb)
}
