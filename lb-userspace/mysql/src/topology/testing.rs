//! What rows of observations and verdicts are made of. A row is a second.
//!
//! Observations: `a=rw` takes writes, `ro` does not; `<b` copies from b (`<b!` cannot connect,
//! `<b.` was stopped, `<b#` stopped with an error); `sql.` does not apply; `lag5`; `has:a1-5` (or
//! `has:0-1-5` of MariaDB) tells transactions; `id9` is another server; `off` is in offline_mode;
//! `mute` has no binary log; `down` is refused, `slow` is timed out. Verdicts: epoch, primary or
//! why there is none, rivals behind `~`, replicas that may be read from in brackets.

use std::time::Duration;

use super::*;
use crate::gtid::{Family, GtidSet, Uuid};

pub(super) fn settings(servers: &str) -> Settings {
    let servers = servers.split(' ').map(|words| {
        let mut words = words.split(':');
        let name = words.next().unwrap_or_default();
        let mut server = ServerSettings {
            name: name.into(),
            host: host(name),
            port: 3306,
            weight: 1,
            role: WantedRole::Auto,
            tls: false,
        };
        for word in words {
            match word {
                "primary" => server.role = WantedRole::Primary,
                "replica" => server.role = WantedRole::Replica,
                "tls" => server.tls = true,
                weight => server.weight = weight.parse().unwrap(),
            }
        }
        server
    });
    Settings {
        servers: servers.collect(),
        max_lag: Duration::from_secs(10),
        fall: 2,
        stale_after: Duration::from_secs(30),
    }
}

fn host(name: &str) -> String {
    format!("10.0.0.{}", name.as_bytes()[0] - b'a' + 1)
}

pub(super) fn uuid(name: u8) -> Uuid {
    Uuid::from_bytes([name; 16])
}

fn set(text: &str) -> GtidSet {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return GtidSet::parse(Family::MariaDb, text).unwrap();
    }
    let parts = text.split(',').map(|part| {
        let (name, numbers) = part.split_at(1);
        format!("{}:{numbers}", uuid(name.as_bytes()[0]))
    });
    let text: Vec<String> = parts.collect();
    GtidSet::parse(Family::MySql, &text.join(",")).unwrap()
}

/// One server's part of a row.
pub(super) fn seen(name: &str, words: &str, is_mariadb: bool) -> Result<Observation, Trouble> {
    let id = name.as_bytes()[0];
    let version = if is_mariadb {
        "10.11.19-MariaDB"
    } else {
        "9.7.4"
    };
    let identity = |id: u8| Identity {
        uuid: (!is_mariadb).then(|| uuid(id)),
        server_id: id.into(),
    };
    let mut seen = Observation {
        version: Version::parse(version),
        identity: identity(id),
        read_only: false,
        super_read_only: false,
        offline: false,
        logs: true,
        channels: Channels::Known(Vec::new()),
        executed: None,
    };
    let mut channels: Vec<Channel> = Vec::new();
    for word in words.split(' ') {
        match word {
            "rw" => {}
            "ro" => seen.read_only = true,
            "off" => seen.offline = true,
            "mute" => seen.logs = false,
            "down" => return Err(Trouble::Refused),
            "slow" => return Err(Trouble::TimedOut),
            "mariadb" => seen.version = Version::parse("10.11.19-MariaDB"),
            "untold" => seen.channels = Channels::Unknown("it may not be asked".to_owned()),
            "sql." => channels.last_mut().unwrap().sql_running = false,
            _ => {
                if let Some(source) = word.strip_prefix('<') {
                    channels.push(channel(source, &identity));
                } else if let Some(lag) = word.strip_prefix("lag") {
                    let lag = Duration::from_secs(lag.parse().unwrap());
                    channels.last_mut().unwrap().lag = Some(lag);
                } else if let Some(id) = word.strip_prefix("id") {
                    seen.identity = identity(id.parse().unwrap());
                } else {
                    seen.executed = Some(set(word.strip_prefix("has:").unwrap()));
                }
            }
        }
    }
    if !channels.is_empty() {
        seen.channels = Channels::Known(channels);
    }
    Ok(seen)
}

fn channel(source: &str, identity: &dyn Fn(u8) -> Identity) -> Channel {
    let error = || {
        Some(ReplicationError {
            number: 1236,
            text: "no such log".to_owned(),
        })
    };
    let (io, io_error) = match source.get(1..) {
        Some("!") => (IoThread::Connecting, error()),
        Some(".") => (IoThread::Stopped, None),
        Some("#") => (IoThread::Stopped, error()),
        _ => (IoThread::Running, None),
    };
    Channel {
        name: String::new(),
        host: host(source),
        port: 3306,
        source: Some(identity(source.as_bytes()[0])),
        lag: (io == IoThread::Running).then_some(Duration::ZERO),
        io,
        sql_running: true,
        delay: Duration::ZERO,
        io_error,
        sql_error: None,
        by_gtid: true,
        retrieved: None,
    }
}

pub(super) fn verdict(view: &View) -> String {
    let name = |index: usize| view.servers[index].name.to_string();
    let primary = match &view.primary {
        Primary::Server(index) => name(*index),
        Primary::Nobody(NoPrimary::Doubtful(_, doubt)) => word(doubt),
        Primary::Nobody(why) => word(why),
    };
    let rivals: String = view.rivals.iter().map(|rival| name(*rival)).collect();
    let rivals = if rivals.is_empty() {
        rivals
    } else {
        format!(" ~{rivals}")
    };
    let reads: String = view.readable().map(|(index, _)| name(index)).collect();
    format!("{} {primary}{rivals} [{reads}]", view.epoch)
}

fn word(what: &dyn std::fmt::Debug) -> String {
    let text = format!("{what:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

/// Plays rows, a second each, and gives all events.
pub(super) fn play(servers: &str, is_mariadb: bool, rows: &[(&str, &str)]) -> (Topology, String) {
    let mut topology = Topology::new(settings(servers), None);
    let told = go_on(&mut topology, is_mariadb, 0, rows);
    (topology, told)
}

pub(super) fn go_on(
    topology: &mut Topology,
    is_mariadb: bool,
    since: u64,
    rows: &[(&str, &str)],
) -> String {
    let mut told = String::new();
    let mut shown = String::new();
    for (second, (row, expected)) in (since + 1..).zip(rows) {
        let parts = row.split("; ").filter(|part| !part.is_empty());
        for (nth, part) in (0..).zip(parts) {
            let (name, words) = part.split_once('=').unwrap();
            let servers = &topology.view().servers;
            let index = servers.iter().position(|server| &*server.name == name);
            let now = Duration::from_millis(second * 1000 + nth);
            let events = topology.observe(now, index.unwrap(), seen(name, words, is_mariadb));
            for event in events {
                told.push_str(&format!("{event}\n"));
            }
        }
        let found = verdict(topology.view());
        shown.push_str(&format!("{row} -> {found}\n"));
        assert_eq!(found, *expected, "at the end of:\n{shown}\n{told}");
    }
    told
}

/// Plays rows as both families, and gives the events of MySQL's.
pub(super) fn rows(servers: &str, rows: &[(&str, &str)]) -> String {
    for is_mariadb in [true, false] {
        let (_, told) = play(servers, is_mariadb, rows);
        if !is_mariadb {
            return told;
        }
    }
    String::new()
}
