//! Texts as real servers write them.

use std::time::Duration;

use super::*;

const A: &str = "1e783e25-e5e5-11f1-8015-02fc00000001";
const B: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

fn mysql(text: &str) -> GtidSet {
    GtidSet::parse(Family::MySql, text).unwrap()
}

fn mariadb(text: &str) -> GtidSet {
    GtidSet::parse(Family::MariaDb, text).unwrap()
}

#[test]
fn texts_are_read_and_written() {
    for (text, written) in [
        (String::new(), String::new()),
        (format!("{A}:1-4"), format!("{A}:1-4")),
        (format!("{A}:7"), format!("{A}:7")),
        (format!("{A}:1-4:5:7-9"), format!("{A}:1-5:7-9")),
        (format!("{B}:1,\n{A}:2"), format!("{A}:2,{B}:1")),
        (format!(" {A} : 3 - 4 , , {A}:5 "), format!("{A}:3-5")),
        (A.to_uppercase() + ":1", format!("{A}:1")),
        (
            format!("{A}:1:mine:1-2:Zeta:5:7"),
            format!("{A}:1:mine:1-2:zeta:5:7"),
        ),
        (format!("{A}:_x:2:1"), format!("{A}:_x:1-2")),
        (
            format!("{A}:9223372036854775806"),
            format!("{A}:9223372036854775806"),
        ),
    ] {
        assert_eq!(mysql(&text).to_string(), written, "{text}");
    }
    for (text, written) in [
        ("", ""),
        (" ", ""),
        ("0-1-4", "0-1-4"),
        ("1-2-3,0-1-4", "0-1-4,1-2-3"),
        ("0-1-4,0-2-3", "0-1-4"),
        ("0-1-18446744073709551615", "0-1-18446744073709551615"),
    ] {
        assert_eq!(mariadb(text).to_string(), written, "{text}");
    }
}

#[test]
fn what_is_no_set_is_refused_with_its_place() {
    let wrong = |family, text: &str| GtidSet::parse(family, text).unwrap_err();
    for (text, at) in [
        ("x".to_owned(), 0),
        (A.to_owned(), 36),
        (format!("{A}:"), 37),
        (format!("{A}:0"), 37),
        (format!("{A}:9223372036854775807"), 37),
        (format!("{A}:99999999999999999999999999"), 37),
        (format!("{A}:2-1"), 40),
        (format!("{A}:1-"), 39),
        (format!("{A}:tag"), 40),
        (format!("{A}:tag,{B}:1"), 40),
        (format!("{A}:a{}:1", "b".repeat(32)), 37),
        (format!("{A}:1;"), 38),
        (format!("{A}:1,{B}"), 75),
        (format!("{A}:1,é"), 39),
    ] {
        let error = wrong(Family::MySql, &text);
        assert_eq!(error.at, at, "{text}: {error}");
    }
    for (text, at) in [
        ("0-1", 0),
        ("0-1-2,", 6),
        ("0-1-2,0-1-2-3", 6),
        ("0-1-+2", 0),
        ("4294967296-1-1", 0),
        ("0-1-18446744073709551616", 0),
    ] {
        let error = wrong(Family::MariaDb, text);
        assert_eq!(error.at, at, "{text}: {error}");
    }
    assert_eq!(
        wrong(Family::MySql, &format!("{A}:0")).to_string(),
        "this is no set of MySQL's GTIDs: byte 37 is not a number from 1 to 9223372036854775806"
    );
}

#[test]
fn a_wrong_text_changes_nothing() {
    let mut set = mysql(&format!("{A}:1-4"));
    assert!(set.add_text(&format!("{A}:5,{B}:x")).is_err());
    assert_eq!(set, mysql(&format!("{A}:1-4")));
}

#[test]
fn families_have_nothing_in_common() {
    let (one, other) = (mysql(&format!("{A}:1")), mariadb("0-1-4"));
    assert!(!one.contains(&other) && !other.contains(&one) && !one.meets(&other));
    assert!(one.contains(&GtidSet::empty(Family::MariaDb)));
    assert_eq!(one.without(&other), one);
    let mut same = one.clone();
    same.union(&other);
    assert_eq!(same, one);
}

#[test]
fn a_position_stays_when_what_comes_is_behind() {
    let mut set = mariadb("0-1-4");
    set.add_text("0-2-3").unwrap();
    assert_eq!(set, mariadb("0-1-4"));
    set.add_text("0-2-5").unwrap();
    assert_eq!(set, mariadb("0-2-5"));
    let GtidSet::MariaDb(set) = set else {
        panic!("it is MariaDB's");
    };
    let mut other = MariaDbSet::new();
    other.add_text("0-9-9,7-1-1").unwrap();
    assert_eq!(set.filled_from(&other).to_string(), "0-2-5,7-1-1");
}

#[test]
fn what_one_server_wrote_is_found() {
    let GtidSet::MySql(set) = mysql(&format!("{A}:1-4:tag:1,{B}:9")) else {
        panic!("it is MySQL's");
    };
    let uuid = Uuid::parse(A.as_bytes()).unwrap();
    assert_eq!(set.written_by(uuid).to_string(), format!("{A}:1-4:tag:1"));
}

/// As MySQL 9.7 sent it in an OK packet, and MariaDB 10.11 as the value of `last_gtid`.
#[test]
fn what_servers_track_is_added() {
    let data = b"\0\x261e6b08c3-e5e5-11f1-b010-02fc00000001:4";
    let mut set = mysql("1e6b08c3-e5e5-11f1-b010-02fc00000001:1-3");
    set.add_text(from_tracker(data).unwrap()).unwrap();
    assert_eq!(set.to_string(), "1e6b08c3-e5e5-11f1-b010-02fc00000001:1-4");
    let mut set = mariadb("0-1-12");
    set.add_text("0-2-13").unwrap();
    assert_eq!(set.to_string(), "0-2-13");
}

#[test]
fn the_tracker_has_a_text() {
    let text = format!("{A}:5");
    let mut data = vec![0, u8::try_from(text.len()).unwrap()];
    data.extend_from_slice(text.as_bytes());
    assert_eq!(from_tracker(&data), Ok(text.as_str()));
    let long = format!("{A}:1").repeat(8);
    let mut data = vec![0, 0xfc];
    data.extend_from_slice(&u16::try_from(long.len()).unwrap().to_le_bytes());
    data.extend_from_slice(long.as_bytes());
    assert_eq!(from_tracker(&data), Ok(long.as_str()));
    for wrong in [
        &[][..],
        &[1, 0],
        &[0],
        &[0, 2, b'a'],
        &[0, 1, b'a', b'b'],
        &[0, 0xfe],
        &[0, 0xfc, 1],
        &[0, 1, 0xff],
    ] {
        assert!(from_tracker(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn waiting_is_said_in_the_servers_words() {
    let time = Duration::from_millis(200);
    assert_eq!(
        mysql(&format!("{A}:1-4,{B}:1"))
            .wait_statement(time)
            .unwrap(),
        format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{A}:1-4,{B}:1', 0.200)")
    );
    assert_eq!(
        mariadb("0-1-4").wait_statement(time).unwrap(),
        "SELECT MASTER_GTID_WAIT('0-1-4', 0.200)"
    );
    let none = mysql(&format!("{A}:1")).wait_statement(Duration::ZERO);
    assert!(none.unwrap().ends_with(", 0.001)"), "0 would be for ever");
    assert_eq!(mysql("").wait_statement(time), None);
    assert_eq!(has_statement(&mariadb("")), None);
    assert_eq!(waited(Some(b"0")), Waited::Reached);
    assert_eq!(waited(Some(b"1")), Waited::TimedOut);
    assert_eq!(waited(Some(b"-1")), Waited::TimedOut);
    assert_eq!(waited(None), Waited::Impossible);
}

/// The common case, over and over: the last interval grows where it stands.
#[test]
fn the_next_number_is_the_same_interval() {
    let mut set = MySqlSet::new();
    let uuid = Uuid::parse(A.as_bytes()).unwrap();
    for number in 1..=100_000 {
        set.add(MySqlGtid {
            uuid,
            tag: Tag::NONE,
            number,
        });
    }
    assert_eq!(set.to_string(), format!("{A}:1-100000"));
}

/// A text that a hostile server sends costs no more than its length.
#[test]
fn long_texts_in_the_worst_order_are_read_soon() {
    let servers = (0..20_000_u32).rev();
    let text: Vec<String> = servers
        .map(|server| format!("{server:08x}-e5e5-11f1-8015-02fc00000001:9:7:5:3:1"))
        .collect();
    let begin = std::time::Instant::now();
    let set = mysql(&text.join(","));
    assert!(set.contains(&mysql(&text[5])));
    let text: Vec<String> = (0..20_000)
        .rev()
        .map(|domain| format!("{domain}-1-1"))
        .collect();
    assert!(mariadb(&text.join(",")).contains(&mariadb("777-1-1")));
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
}
