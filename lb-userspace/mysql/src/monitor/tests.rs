//! What real servers answered, as their clients wrote it down, and what it means.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::topology::{Channel, IoThread};

/// What a client writes with `--batch`.
fn table(text: &str) -> Table {
    let mut lines = text.lines().map(|line| line.split('\t'));
    let names = lines.next().unwrap_or_else(|| "".split('\t'));
    Table {
        names: names.map(str::to_owned).collect(),
        rows: lines
            .map(|values| {
                values
                    .map(|value| (value != "NULL").then(|| value.as_bytes().to_vec()))
                    .collect()
            })
            .collect(),
    }
}

macro_rules! sample {
    ($name:literal) => {
        table(include_str!(concat!("samples/", $name, ".tsv")))
    };
}

fn mysql() -> Version {
    Version::parse("9.7.4-2")
}

fn mariadb() -> Version {
    Version::parse("5.5.5-10.11.19-MariaDB-0+deb12u1-log")
}

fn seen(version: &Version, channels: &Table) -> Channel {
    let state = match version.family {
        Family::MySql => sample!("mysql-9.7-replica-state"),
        Family::MariaDb => sample!("mariadb-10.11-replica-state"),
    };
    let seen = observation(version, &state, Ok(channels)).unwrap();
    assert!(seen.read_only);
    let [channel] = seen.channels() else {
        panic!("{seen:?}");
    };
    channel.clone()
}

#[test]
fn versions_are_read_from_greetings() {
    for (text, family, number, written) in [
        ("9.7.4-2", Family::MySql, (9, 7, 4), "MySQL 9.7.4"),
        ("8.0.36-28", Family::MySql, (8, 0, 36), "MySQL 8.0.36"),
        ("5.7.44-log", Family::MySql, (5, 7, 44), "MySQL 5.7.44"),
        (
            "5.5.5-10.11.19-MariaDB-0+deb12u1-log",
            Family::MariaDb,
            (10, 11, 19),
            "MariaDB 10.11.19",
        ),
        (
            "11.8.9-MariaDB",
            Family::MariaDb,
            (11, 8, 9),
            "MariaDB 11.8.9",
        ),
        ("nonsense", Family::MySql, (0, 0, 0), "MySQL 0.0.0"),
    ] {
        let version = Version::parse(text);
        assert_eq!((version.family, version.number), (family, number), "{text}");
        assert_eq!(version.to_string(), written);
    }
    assert_eq!(questions(&mysql()).channels, "SHOW REPLICA STATUS");
    let old = Version::parse("8.0.21");
    assert_eq!(questions(&old).channels, "SHOW SLAVE STATUS");
    assert_eq!(questions(&mariadb()).channels, "SHOW ALL SLAVES STATUS");
}

#[test]
fn a_primary_is_no_replica() {
    let state = sample!("mysql-9.7-primary-state");
    let seen = observation(&mysql(), &state, Ok(&Table::default())).unwrap();
    assert!(!seen.read_only && !seen.super_read_only && !seen.offline);
    assert_eq!(seen.channels, Channels::Known(Vec::new()));
    assert_eq!(
        seen.executed.unwrap().to_string(),
        "1e783e25-e5e5-11f1-8015-02fc00000001:1-8:abc:1:mine:1"
    );
    assert_eq!(
        seen.identity.uuid.unwrap().to_string(),
        "1e783e25-e5e5-11f1-8015-02fc00000001"
    );
    let state = sample!("mariadb-10.11-primary-state");
    let seen = observation(&mariadb(), &state, Ok(&Table::default())).unwrap();
    assert!(!seen.read_only && seen.identity.uuid.is_none());
    assert_eq!(seen.identity.server_id, 1);
    assert_eq!(seen.executed.unwrap().to_string(), "0-1-7");
}

#[test]
fn replicas_tell_of_their_threads() {
    for (version, samples) in [
        (
            mysql(),
            [
                sample!("mysql-9.7-running-channels"),
                sample!("mysql-9.7-delayed-channels"),
                sample!("mysql-9.7-io-stopped-channels"),
                sample!("mysql-9.7-sql-error-channels"),
                sample!("mysql-9.7-source-gone-channels"),
            ],
        ),
        (
            mariadb(),
            [
                sample!("mariadb-10.11-running-channels"),
                sample!("mariadb-10.11-delayed-channels"),
                sample!("mariadb-10.11-io-stopped-channels"),
                sample!("mariadb-10.11-sql-error-channels"),
                sample!("mariadb-10.11-source-gone-channels"),
            ],
        ),
    ] {
        let [running, delayed, io_stopped, sql_error, source_gone] =
            samples.map(|sample| seen(&version, &sample));
        let port = if version.family == Family::MySql {
            43_071
        } else {
            43_061
        };
        assert_eq!((&*running.host, running.port), ("127.0.0.1", port));
        assert_eq!(running.source.unwrap().server_id, 1);
        let has_uuid = running.source.unwrap().uuid.is_some();
        assert_eq!(has_uuid, version.family == Family::MySql);
        assert_eq!((running.io, running.sql_running), (IoThread::Running, true));
        assert_eq!(running.lag, Some(Duration::ZERO));
        assert!(running.by_gtid && running.io_error.is_none() && running.sql_error.is_none());

        // Empty after the relay log was begun anew.
        let before = running.retrieved.clone();
        let retrieved = delayed.retrieved.clone().unwrap();
        assert!(before.is_none_or(|before| retrieved.contains(&before)));

        assert_eq!(delayed.lag, Some(Duration::from_secs(3)));
        assert_eq!(delayed.delay, Duration::from_secs(5));

        let threads = (io_stopped.io, io_stopped.sql_running, io_stopped.lag);
        assert_eq!(threads, (IoThread::Stopped, true, None));

        let threads = (sql_error.io, sql_error.sql_running, sql_error.lag);
        assert_eq!(threads, (IoThread::Running, false, None));
        assert_eq!(sql_error.sql_error.unwrap().number, 1062);

        assert_eq!(source_gone.io, IoThread::Connecting);
        let error = source_gone.io_error.unwrap();
        assert_eq!(error.number, 2003);
        assert!(error.to_string().starts_with("error 2003: "), "{error}");
    }
}

#[test]
fn a_replica_that_wrote_by_mistake_is_where_the_primary_brought_it() {
    let mut state = sample!("mariadb-10.11-replica-state");
    let mut set = |name: &str, value: &str| {
        let index = state
            .names
            .iter()
            .position(|column| column == name)
            .unwrap();
        state.rows[0][index] = Some(value.as_bytes().to_vec());
        state.clone()
    };
    set("gtid_slave_pos", "0-1-7");
    let state = set("gtid_binlog_pos", "0-2-99,5-1-3");
    let channels = sample!("mariadb-10.11-running-channels");
    let replica = observation(&mariadb(), &state, Ok(&channels)).unwrap();
    assert_eq!(replica.executed.unwrap().to_string(), "0-1-7,5-1-3");
    let primary = observation(&mariadb(), &state, Ok(&Table::default())).unwrap();
    assert_eq!(primary.executed.unwrap().to_string(), "0-2-99,5-1-3");
}

#[test]
fn a_missing_privilege_is_a_sentence() {
    let denied = ServerError {
        number: 1227,
        text: "Access denied; you need (at least one of) the SUPER privilege(s)".to_owned(),
    };
    for (version, state, expected) in [
        (
            mysql(),
            sample!("mysql-9.7-replica-state"),
            "the monitor's account may not see what it replicates: GRANT REPLICATION CLIENT ON *.* \
             TO it (error 1227)",
        ),
        (
            mariadb(),
            sample!("mariadb-10.11-replica-state"),
            "the monitor's account may not see what it replicates: GRANT SLAVE MONITOR ON *.* TO it \
             (error 1227)",
        ),
    ] {
        let seen = observation(&version, &state, Err(&denied)).unwrap();
        assert_eq!(seen.channels, Channels::Unknown(expected.to_owned()));
    }
    let other = ServerError {
        number: 1205,
        text: "Lock wait timeout exceeded\nmore".to_owned(),
    };
    let state = sample!("mysql-9.7-replica-state");
    let seen = observation(&mysql(), &state, Err(&other)).unwrap();
    let Channels::Unknown(why) = seen.channels else {
        panic!("it is known");
    };
    assert_eq!(
        why,
        "it does not tell what it replicates: error 1205: Lock wait timeout exceeded"
    );
}

#[test]
fn grants_are_the_least() {
    assert_eq!(
        grants(&mysql(), "lb'mon")[1],
        "GRANT REPLICATION CLIENT ON *.* TO 'lb''mon'@'%'"
    );
    assert_eq!(
        grants(&mariadb(), "lbmon")[1],
        "GRANT SLAVE MONITOR ON *.* TO 'lbmon'@'%'"
    );
    assert!(switchover_grants(&Version::parse("5.7.44"), "m")[0].contains("SUPER"));
}

#[test]
fn what_makes_no_sense_is_said() {
    let state = sample!("mysql-9.7-replica-state");
    let without = |name: &str| {
        let mut state = state.clone();
        let index = state
            .names
            .iter()
            .position(|column| column == name)
            .unwrap();
        state.names[index] = "x".to_owned();
        observation(&mysql(), &state, Ok(&Table::default())).unwrap_err()
    };
    assert_eq!(without("read_only"), "the answer has no column read_only");
    let with = |name: &str, value: &[u8]| {
        let mut state = state.clone();
        let index = state
            .names
            .iter()
            .position(|column| column == name)
            .unwrap();
        state.rows[0][index] = Some(value.to_vec());
        observation(&mysql(), &state, Ok(&Table::default()))
    };
    assert_eq!(
        with("server_id", b"x").unwrap_err(),
        "server_id \"x\" is no number"
    );
    assert_eq!(
        with("server_uuid", b"x").unwrap_err(),
        "server_uuid is no UUID"
    );
    assert_eq!(
        with("gtid_executed", b"x").unwrap_err(),
        "gtid_executed: this is no set of MySQL's GTIDs: byte 0 is not a server's UUID"
    );
    let none = observation(&mysql(), &Table::default(), Ok(&Table::default()));
    assert_eq!(none.unwrap_err(), "the answer has no row");
    assert_eq!(with("gtid_mode", b"OFF").unwrap().executed, None);
    // Words of versions to come refuse writes, as long as they are not "off".
    assert!(with("read_only", b"NO_LOCK").unwrap().read_only);
    assert!(!with("read_only", b"OFF").unwrap().read_only);
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused(
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 60),
        cut in 0..60_usize,
    ) {
        for (version, mut state, mut channels) in [
            (
                mysql(),
                sample!("mysql-9.7-replica-state"),
                sample!("mysql-9.7-running-channels"),
            ),
            (
                mariadb(),
                sample!("mariadb-10.11-replica-state"),
                sample!("mariadb-10.11-running-channels"),
            ),
        ] {
            for table in [&mut state, &mut channels] {
                for (value, other) in table.rows[0].iter_mut().zip(&values).take(cut) {
                    *value = other.clone();
                }
                table.rows[0].truncate(59 - cut);
            }
            let _ = observation(&version, &state, Ok(&channels));
        }
    }
}
