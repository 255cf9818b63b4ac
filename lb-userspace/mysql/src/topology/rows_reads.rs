//! Which servers may be read from: rows as `testing` has them.

use std::time::Duration;

use super::{
    NoReads, Reads,
    testing::{go_on, play, settings},
    *,
};

/// Why the server at a place in the list gets no reads, at the end of rows.
fn why(servers: &str, rows: &[(&str, &str)], index: usize) -> String {
    let (topology, _) = play(servers, false, rows);
    match &topology.view().servers[index].reads {
        Reads::No(why) => why.to_string(),
        Reads::Yes { weight } => format!("yes, {weight}"),
    }
}

#[test]
fn every_reason_is_a_sentence() {
    for (row, verdict, expected) in [
        ("b=ro <a", "1 a [b]", "yes, 1"),
        ("b=ro <a lag10", "1 a [b]", "yes, 1"),
        ("b=ro <a lag11", "1 a []", "it is 11.0 s behind"),
        ("b=ro <a sql.", "1 a []", "its SQL thread is stopped"),
        ("b=ro <a.", "1 a []", "its IO thread is stopped"),
        (
            "b=ro <a#",
            "1 a []",
            "its IO thread is stopped: error 1236: no such log",
        ),
        (
            "b=ro <a!",
            "1 a []",
            "it does not reach its source: error 1236: no such log",
        ),
        (
            "b=ro",
            "1 a []",
            "it replicates from nobody and is not the primary",
        ),
        ("b=ro untold", "1 a []", "it may not be asked"),
        (
            "b=ro <z",
            "1 a []",
            "it replicates from 10.0.0.26:3306, which is not in the list",
        ),
        ("b=down", "1 a []", "nobody listens there"),
        ("b=slow", "1 a []", "it does not answer in time"),
        ("b=ro <a off", "1 a []", "it is in offline_mode"),
        (
            "b=rw",
            "0 Unclear ~ab []",
            "it is not clear who the primary is",
        ),
    ] {
        let rows = [(format!("a=rw; {row}"), verdict)];
        let rows = [(rows[0].0.as_str(), rows[0].1)];
        let expected = if verdict.contains("Unclear") {
            "it takes writes beside the primary"
        } else {
            expected
        };
        assert_eq!(why("a b", &rows, 1), expected, "{row}");
    }
}

#[test]
fn a_replica_of_a_replica_is_as_good_as_the_way_to_it() {
    for (middle, verdict, expected) in [
        ("ro <a", "1 a [bc]", "yes, 1"),
        ("ro <a lag7", "1 a [bc]", "yes, 1"),
        ("ro <a lag12", "1 a []", "it is 12.0 s behind"),
        (
            "ro <a sql.",
            "1 a []",
            "it replicates from b, of which: its SQL thread is stopped",
        ),
        (
            "down",
            "1 a []",
            "it replicates from b, of which: nobody listens there",
        ),
        (
            "ro",
            "1 a []",
            "it replicates from b, which is not the primary",
        ),
        (
            "ro <z",
            "1 a []",
            "it replicates from b, of which: it replicates from 10.0.0.26:3306, which is not in \
             the list",
        ),
    ] {
        let row = format!("a=rw; b={middle}; c=ro <b");
        assert_eq!(why("a b c", &[(&row, verdict)], 2), expected, "{middle}");
    }
}

#[test]
fn replicas_of_a_circle_lead_nowhere() {
    let told = why("a b c", &[("a=rw; b=ro <c; c=ro <b", "1 a []")], 1);
    assert!(told.contains("which is not the primary"), "{told}");
}

#[test]
fn reads_go_on_without_a_primary() {
    let rows = [
        ("a=rw; b=ro <a; c=ro <b", "1 a [bc]"),
        ("a=down; b=ro <a!; c=ro <b", "1 Lost [bc]"),
        ("b=ro <a#", "1 Lost [bc]"),
        // By hand: somebody is at it.
        ("b=ro <a.", "1 Lost []"),
    ];
    play("a b c", false, &rows);
    // Nor after a start.
    play(
        "a b c",
        false,
        &[("a=down; b=ro <a!; c=ro <a!", "0 NobodyTakesWrites [bc]")],
    );
    // Unless it is not clear where they come from.
    play(
        "a b c d",
        false,
        &[(
            "a=down; d=down; b=ro <a!; c=ro <d!",
            "0 NobodyTakesWrites []",
        )],
    );
}

#[test]
fn a_replica_of_the_former_primary_gets_none() {
    let rows = [
        ("a=rw; b=ro <a; c=ro <a", "1 a [bc]"),
        ("a=down; b=rw; c=ro <a!", "2 b []"),
        ("c=ro <b", "2 b [c]"),
    ];
    play("a b c", false, &rows);
    assert_eq!(
        why("a b c", &rows[..2], 2),
        "it does not reach its source: error 1236: no such log"
    );
    let rows = [rows[0], ("a=ro; b=rw; c=ro <a", "2 b []")];
    assert_eq!(
        why("a b c", &rows, 2),
        "it replicates from a, which is not the primary"
    );
}

#[test]
fn what_it_lacks_tells_the_lag_whatever_it_says() {
    let mut rows = vec![("a=rw has:a1-5; b=ro <a has:a1-5", "1 a [b]")];
    // The thread that fetches waits on a dead connection; all looks well.
    rows.extend([("a=rw has:a1-9; b=ro <a has:a1-5", "1 a [b]"); 10]);
    rows.push(("a=rw has:a1-9; b=ro <a has:a1-5", "1 a []"));
    let (mut topology, told) = play("a b", false, &rows);
    assert!(
        told.contains("b gets no reads: it is 10.0 s behind"),
        "{told}"
    );
    // A primary that is gone leaves its replicas as good as they were.
    let lag = topology.view().servers[1].lag;
    go_on(
        &mut topology,
        false,
        13,
        &[
            ("b=ro <a has:a1-9", "1 a [b]"),
            ("a=rw has:a1-10; b=ro <a has:a1-9", "1 a [b]"),
            ("a=down; b=ro <a! has:a1-9", "1 Lost [b]"),
        ],
    );
    for second in 20..60 {
        let now = Duration::from_secs(second);
        topology.observe(now, 0, Err(Trouble::Refused));
        let seen = super::testing::seen("b", "ro <a! has:a1-9", false);
        topology.observe(now, 1, seen);
    }
    assert!(lag >= Some(Duration::from_secs(10)), "{lag:?}");
    assert!(matches!(
        topology.view().servers[1].reads,
        Reads::Yes { .. }
    ));
}

#[test]
fn mariadb_positions_tell_the_lag_as_well() {
    let mut rows = vec![("a=rw has:0-1-5; b=ro <a has:0-1-5", "1 a [b]")];
    rows.extend([("a=rw has:0-1-9; b=ro <a has:0-1-5", "1 a [b]"); 10]);
    rows.push(("a=rw has:0-1-9; b=ro <a has:0-1-5", "1 a []"));
    rows.push(("a=rw has:0-1-9; b=ro <a has:0-1-9", "1 a [b]"));
    play("a b", true, &rows);
}

#[test]
fn weight_0_is_not_read_from() {
    let (topology, _) = play("a b:0 c:3", false, &[("a=rw; b=ro <a; c=ro <a", "1 a [c]")]);
    assert_eq!(
        topology.view().servers[1].reads,
        Reads::No(NoReads::NoWeight)
    );
    assert_eq!(topology.view().readable().collect::<Vec<_>>(), [(2, 3)]);
}

#[test]
fn of_several_sources_the_one_in_the_list_counts() {
    play(
        "a b",
        false,
        &[("a=rw; b=ro <z# <a", "1 a [b]"), ("b=ro <z <a#", "1 a []")],
    );
}

#[test]
fn sources_are_known_by_name_or_by_identity() {
    let mut settings = settings("a b");
    settings.servers[0].host = "db-1.example".to_owned();
    let mut topology = Topology::new(settings, None);
    let seen = |name, words| super::testing::seen(name, words, false);
    let now = Duration::from_secs;
    topology.observe(now(1), 0, seen("a", "rw"));
    topology.observe(now(1), 1, seen("b", "ro <a"));
    assert_eq!(topology.view().readable().count(), 1, "by its UUID");
    let mut other = seen("b", "ro <a").unwrap();
    if let Channels::Known(channels) = &mut other.channels {
        channels[0].source = None;
        channels[0].host = "DB-1.example".to_owned();
    }
    topology.observe(now(2), 1, Ok(other.clone()));
    assert_eq!(topology.view().readable().count(), 1, "by its address");
    if let Channels::Known(channels) = &mut other.channels {
        channels[0].source = Some(Identity {
            uuid: Some(crate::gtid::Uuid::from_bytes([77; 16])),
            server_id: 77,
        });
    }
    topology.observe(now(3), 1, Ok(other));
    assert_eq!(
        topology.view().readable().count(),
        0,
        "the address leads elsewhere"
    );
    // Stopped, it tells of the source that it had before.
    let mut moved = seen("b", "ro <a.").unwrap();
    if let Channels::Known(channels) = &mut moved.channels {
        channels[0].source = seen("b", "ro <b").unwrap().channels()[0].source;
        channels[0].host = "db-1.example".to_owned();
    }
    topology.observe(now(4), 1, Ok(moved));
    assert_eq!(topology.view().servers[1].source, Some(0));
}

#[test]
fn a_replica_that_was_cut_off_before_the_primary_was_lost_gets_none() {
    play(
        "a b",
        false,
        &[
            ("a=rw; b=ro <a", "1 a [b]"),
            ("b=ro <a!; a=rw", "1 a []"),
            ("a=down; b=ro <a!", "1 Lost []"),
        ],
    );
}

#[test]
fn what_was_lost_with_a_primary_is_not_waited_for() {
    let mut rows = vec![
        (
            "a=rw has:a1-9; b=ro <a has:a1-7; c=ro <a has:a1-7",
            "1 a [bc]",
        ),
        ("a=down; b=rw has:a1-7; c=ro <b has:a1-7", "2 b [c]"),
    ];
    rows.extend([("b=rw has:a1-7; c=ro <b has:a1-7", "2 b [c]"); 20]);
    rows.push(("b=rw has:a1-7,b1; c=ro <b has:a1-7", "2 b [c]"));
    play("a b c", false, &rows);
}
