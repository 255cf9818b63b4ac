//! Who is the primary: observations in, verdict out, as `testing` has them.

use std::time::Duration;

use super::{
    testing::{go_on, play, rows, settings, uuid, verdict},
    *,
};

#[test]
fn a_pair_is_found() {
    let told = rows(
        "a b",
        &[
            ("a=rw", "0 Starting []"),
            ("b=ro <a", "1 a [b]"),
            ("a=rw; b=ro <a", "1 a [b]"),
        ],
    );
    assert_eq!(
        told,
        "the primary is a (MySQL 9.7.4)\nb gets reads\n".replace(
            "the primary is a (MySQL 9.7.4)\n",
            "the primary is a (MySQL 9.7.4)\na gets reads\n"
        )
    );
}

#[test]
fn one_server_is_the_primary_whatever_it_says() {
    rows(
        "a",
        &[
            ("a=ro", "1 a []"),
            ("a=rw", "1 a []"),
            ("a=down", "1 Lost []"),
            ("a=ro <z", "1 a []"),
        ],
    );
}

#[test]
fn a_promotion_is_followed_at_once() {
    let told = rows(
        "a b c",
        &[
            ("a=rw; b=ro <a; c=ro <a", "1 a [bc]"),
            // A planned one: first nobody, then the other.
            ("a=ro; b=ro <a; c=ro <a", "1 ReadOnly [abc]"),
            ("a=ro; b=rw; c=ro <a", "2 b []"),
            ("a=ro <b; c=ro <b", "2 b [ac]"),
            // One after a crash.
            ("b=down; a=ro <b!; c=ro <b!", "2 Lost [ac]"),
            ("b=down; a=rw; c=ro <b!", "3 a []"),
            ("c=ro <a", "3 a [c]"),
        ],
    );
    assert!(
        told.contains("the primary is b now, no longer a: writes go there (epoch 2)\n"),
        "{told}"
    );
    assert!(
        told.contains(
            "there is no primary, writes wait: the primary b is not reached: nobody listens"
        ),
        "{told}"
    );
}

#[test]
fn a_promotion_may_leave_its_channel_stopped() {
    rows(
        "a b",
        &[
            ("a=rw; b=ro <a", "1 a [b]"),
            ("a=down; b=ro <a.", "1 Lost []"),
            ("b=rw <a.", "2 b []"),
        ],
    );
}

#[test]
fn one_slow_answer_is_not_the_end() {
    rows(
        "a b",
        &[
            ("a=rw; b=ro <a", "1 a [b]"),
            ("a=slow; b=slow", "1 a [b]"),
            ("a=rw; b=ro <a", "1 a [b]"),
            ("a=slow", "1 a [b]"),
            ("a=slow", "1 Lost [b]"),
            ("a=rw", "1 a [b]"),
        ],
    );
}

#[test]
fn of_two_that_copy_from_each_other_the_one_that_takes_writes_is_it() {
    rows(
        "a b",
        &[
            ("a=rw <b; b=ro <a", "1 a [b]"),
            ("a=ro <b; b=rw <a", "2 b [a]"),
            // Only read_only is turned when one crashes.
            ("b=down; a=ro <b!", "2 Lost [a]"),
            ("a=rw <b!", "3 a []"),
            ("a=rw <b; b=ro <a", "3 a [b]"),
        ],
    );
    rows("a b", &[("a=rw <b; b=rw <a", "0 Unclear ~ab []")]);
}

#[test]
fn a_demoted_primary_that_is_not_read_only_is_replaced() {
    rows(
        "a b",
        &[
            ("a=rw; b=ro <a", "1 a [b]"),
            ("b=rw", "1 a ~b []"),
            ("a=rw <b", "2 b [a]"),
        ],
    );
}

#[test]
fn configured_roles_hold() {
    rows(
        "a:primary b",
        &[
            ("b=rw", "0 Starting ~b []"),
            ("a=rw", "1 a ~b []"),
            ("b=ro <a", "1 a [b]"),
            ("a=down; b=rw", "1 Lost ~b []"),
            ("a=ro", "1 ReadOnly ~b [a]"),
        ],
    );
    rows(
        "a b:replica",
        &[("a=rw; b=rw <a", "1 a [b]"), ("a=down; b=rw", "1 Lost []")],
    );
    rows(
        "a:replica b:replica",
        &[("a=rw; b=rw", "0 NobodyTakesWrites []")],
    );
}

#[test]
fn families_do_not_mix() {
    let (topology, _) = play(
        "a b",
        false,
        &[("a=rw; b=ro <a mariadb", "0 TwoFamilies []")],
    );
    let Primary::Nobody(why) = &topology.view().primary else {
        panic!("there is a primary");
    };
    assert_eq!(
        why.to_string(),
        "a is MySQL 9.7.4 and b is MariaDB 10.11.19: list servers of one family only"
    );
    play(
        "a b c",
        false,
        &[
            ("a=rw; b=ro <a; c=ro <a", "1 a [bc]"),
            ("c=ro <a mariadb", "1 a [b]"),
        ],
    );
}

#[test]
fn a_server_that_is_listed_twice_counts_once() {
    let told = rows("a b", &[("a=rw; b=rw id97", "1 a []"), ("a=rw", "1 a []")]);
    assert!(
        told.contains("b gets no reads: it has the same identity as a"),
        "{told}"
    );
}

#[test]
fn offline_mode_is_no_place_for_writes() {
    rows(
        "a b",
        &[
            ("a=rw; b=ro <a", "1 a [b]"),
            ("a=rw off", "1 Offline [b]"),
            ("a=rw; b=ro <a off", "1 a []"),
        ],
    );
}

#[test]
fn what_a_former_agent_knew_decides() {
    let told = Remembered {
        name: "b".to_owned(),
        identity: uuid(b'b').to_string(),
        epoch: 7,
    };
    let mut topology = Topology::new(settings("a b"), Some(&told));
    assert_eq!(verdict(topology.view()), "7 Starting []");
    go_on(
        &mut topology,
        false,
        0,
        &[("a=rw", "7 Starting []"), ("b=rw", "7 b ~a []")],
    );
    assert_eq!(topology.remembered(), Some(told.clone()));
    let mut topology = Topology::new(settings("a b"), Some(&told));
    go_on(
        &mut topology,
        false,
        0,
        &[("b=rw id9; a=rw", "7 Unclear ~ab []")],
    );
    let gone = Remembered {
        name: "z".to_owned(),
        ..told
    };
    let topology = Topology::new(settings("a b"), Some(&gone));
    assert_eq!(verdict(topology.view()), "7 Starting []");
}

#[test]
fn the_epoch_tells_what_was_lost() {
    let (topology, told) = play(
        "a b",
        false,
        &[
            ("a=rw has:a1-9; b=ro <a has:a1-7", "1 a [b]"),
            ("a=down; b=rw has:a1-7", "2 b []"),
        ],
    );
    let lost = format!(
        "a had transactions that b, the new primary, does not have: {}:8-9\n",
        uuid(b'a')
    );
    assert!(told.contains(&lost), "{told}");
    assert_eq!(topology.remembered().unwrap().epoch, 2);
}

#[test]
fn silence_is_not_health() {
    let (mut topology, _) = play("a b", false, &[("a=rw; b=ro <a", "1 a [b]")]);
    assert!(topology.tick(Duration::from_secs(20)).is_empty());
    let events = topology.tick(Duration::from_secs(40));
    assert_eq!(verdict(topology.view()), "1 Lost []");
    assert!(events.iter().any(|event| event.level() == Level::Error));
}

#[test]
fn each_change_is_told_once() {
    let row = "a=rw; b=ro <a lag99";
    let rows = [(row, "1 a []"); 5];
    let (_, told) = play("a b", false, &rows);
    assert_eq!(told.matches("gets no reads").count(), 1, "{told}");
    let rows = [("a=rw; b=rw", "0 Unclear ~ab []"); 5];
    let (_, told) = play("a b", false, &rows);
    assert_eq!(told.matches("more than one server").count(), 1, "{told}");
    assert_eq!(told.matches("there is no primary").count(), 1, "{told}");
}
