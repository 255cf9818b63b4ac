//! Who is not taken for the primary, although it takes writes; rows as `testing` has them.

use super::testing::{play, rows, uuid};

#[test]
fn a_returning_primary_is_not_believed() {
    let told = rows(
        "a b",
        &[
            ("a=rw has:a1-9; b=ro <a has:a1-9", "1 a [b]"),
            ("a=down; b=rw has:a1-9", "2 b []"),
            ("a=rw has:a1-10; b=rw has:a1-9,b1", "2 b ~a []"),
            // Not even when it is the only one.
            ("b=down", "2 Deposed []"),
            ("a=rw has:a1-10", "2 Deposed []"),
            // It joins.
            ("b=rw has:a1-9,b1; a=ro <b has:a1-9,b1", "2 b [a]"),
            ("b=down; a=rw has:a1-9,b1", "3 a []"),
        ],
    );
    assert!(
        told.contains(
            "more than one server takes writes: b, which is the primary, and a; writes go"
        ),
        "{told}"
    );
}

#[test]
fn a_returning_primary_that_joined_unseen_is_known_by_what_it_has() {
    let rows = [
        ("a=rw has:a1-9; b=ro <a has:a1-9", "1 a [b]"),
        ("a=down; b=rw has:a1-9,b1-3", "2 b []"),
        ("b=down; a=rw has:a1-9,b1-3", "3 a []"),
    ];
    play("a b", false, &rows);
}

#[test]
fn of_two_that_take_writes_the_known_one_stays() {
    rows(
        "a b",
        &[
            ("a=rw; b=ro <a", "1 a [b]"),
            ("b=rw", "1 a ~b []"),
            ("a=rw; b=rw", "1 a ~b []"),
            // It is clear when one is read-only.
            ("a=ro", "2 b []"),
        ],
    );
    rows(
        "a b",
        &[
            ("a=rw; b=ro <a", "1 a [b]"),
            ("b=rw; a=rw", "1 a ~b []"),
            ("b=ro <a", "1 a [b]"),
        ],
    );
}

#[test]
fn of_two_that_take_writes_and_neither_known_none_is() {
    let told = rows(
        "a b",
        &[
            ("a=rw; b=rw", "0 Unclear ~ab []"),
            ("a=rw; b=rw", "0 Unclear ~ab []"),
            ("b=ro", "1 a []"),
        ],
    );
    assert!(
        told.contains("more than one server takes writes: a and b; none gets any"),
        "{told}"
    );
    assert!(told.contains("set read_only on all but one"), "{told}");
}

#[test]
fn a_rival_does_not_inherit_from_a_primary_that_is_lost() {
    // Seen beside the primary for certain, and without its transactions.
    rows(
        "a b",
        &[
            ("a=rw; b=ro <a", "1 a [b]"),
            ("b=rw; a=rw", "1 a ~b []"),
            ("a=down", "1 Rival []"),
            ("b=ro", "1 Lost []"),
            ("b=rw", "2 b []"),
        ],
    );
    // A promotion that raced with the last answer of the old primary is one.
    rows(
        "a b",
        &[
            ("a=rw; b=ro <a", "1 a [b]"),
            ("b=rw", "1 a ~b []"),
            ("a=down", "2 b []"),
        ],
    );
    // As is one that others follow.
    rows(
        "a b c",
        &[
            ("a=rw; b=ro <a; c=ro <a", "1 a [bc]"),
            ("b=rw; a=rw; c=ro <b", "1 a ~b []"),
            ("a=down", "2 b [c]"),
        ],
    );
    play(
        "a b",
        false,
        &[
            ("a=rw has:a1-9; b=ro <a has:a1-9", "1 a [b]"),
            ("b=rw has:a1-9,b1; a=rw has:a1-9", "1 a ~b []"),
            // It had all when it was seen last, and may have written since.
            ("a=down", "1 Rival []"),
        ],
    );
}

#[test]
fn a_replica_that_takes_writes_is_a_replica() {
    let told = rows(
        "a b",
        &[
            ("a=rw; b=rw <a", "1 a [b]"),
            // Nobody promoted it.
            ("a=down; b=rw <a!", "1 StillReplica [b]"),
            ("b=rw <a.", "1 Careless []"),
            // Somebody did.
            ("b=rw", "2 b []"),
        ],
    );
    assert!(
        told.contains("b is a replica and takes writes all the same"),
        "{told}"
    );
}

#[test]
fn a_broken_replica_is_no_primary() {
    rows(
        "a b",
        &[
            ("a=rw; b=ro <a", "1 a [b]"),
            ("b=ro <a#", "1 a []"),
            ("b=down; a=down", "1 Lost []"),
            // It came back with another read_only in its file.
            ("b=rw <a#", "1 Broken [b]"),
        ],
    );
    // Seen to be turned, it was promoted; if not, it was not.
    rows(
        "a b",
        &[
            ("a=rw; b=down", "1 a []"),
            ("a=down; b=rw <a#", "1 Broken [b]"),
            ("b=rw", "2 b []"),
        ],
    );
}

#[test]
fn a_server_that_shares_no_history_is_not_taken() {
    play(
        "a b",
        false,
        &[
            ("a=rw has:a1-9; b=down", "1 a []"),
            ("a=down; b=rw has:b1-2", "1 Stranger []"),
            ("b=rw has:b1-2,a1-3", "2 b []"),
        ],
    );
    play(
        "a b",
        true,
        &[
            ("a=rw has:0-1-9; b=down", "1 a []"),
            ("a=down; b=rw has:7-2-2", "1 Stranger []"),
        ],
    );
}

#[test]
fn another_server_at_the_address_is_another() {
    let told = rows(
        "a b",
        &[
            ("a=rw; b=ro <a", "1 a [b]"),
            ("a=rw id200", "2 a []"),
            ("b=ro <b", "2 a []"),
        ],
    );
    assert!(
        told.contains("another server answers at the address of a than before"),
        "{told}"
    );
    play(
        "a b",
        false,
        &[
            ("a=rw has:a1-5; b=ro <a", "1 a [b]"),
            ("a=rw id200 has:b1", "1 Stranger []"),
        ],
    );
}

#[test]
fn a_returning_primary_does_not_spoil_a_promotion() {
    rows(
        "a b c",
        &[
            ("a=rw; b=ro <a; c=ro <a", "1 a [bc]"),
            ("a=down; b=rw; c=ro <b", "2 b [c]"),
            ("a=rw; b=down; c=ro <b!", "2 Deposed [c]"),
            ("c=rw", "3 c ~a []"),
        ],
    );
}

#[test]
fn a_replica_that_was_made_writable_by_mistake_is_not_promoted_by_that() {
    rows(
        "a b",
        &[
            ("a=rw; b=ro <a", "1 a [b]"),
            ("b=rw <a; a=rw", "1 a [b]"),
            ("a=down; b=rw <a!", "1 StillReplica [b]"),
        ],
    );
}

#[test]
fn a_returning_primary_is_not_believed_because_the_next_one_wrote_nothing() {
    for (is_mariadb, has) in [(false, "has:a1-9"), (true, "has:0-97-9")] {
        let first = format!("a=rw {has}; b=ro <a {has}");
        let promoted = format!("a=down; b=rw {has}");
        let returned = format!("b=down; a=rw {has}");
        play(
            "a b",
            is_mariadb,
            &[
                (&first, "1 a [b]"),
                (&promoted, "2 b []"),
                (&returned, "2 Deposed []"),
            ],
        );
    }
    // Numbers of MariaDB that are higher prove nothing.
    play(
        "a b",
        true,
        &[
            ("a=rw has:0-97-9; b=ro <a has:0-97-9", "1 a [b]"),
            ("a=down; b=rw has:0-98-10", "2 b []"),
            ("b=down; a=rw has:0-97-11", "2 Deposed []"),
        ],
    );
}

#[test]
fn a_replica_that_differs_is_told_of_once() {
    let rows = [
        ("a=rw has:a1-9; b=ro <a has:a1-9,b1", "1 a [b]"),
        ("a=rw has:a1-9; b=ro <a has:a1-9,b1-2", "1 a [b]"),
    ];
    let (topology, told) = play("a b", false, &rows);
    let line = format!(
        "b has transactions that the primary does not have: {}:1; what",
        uuid(b'b')
    );
    assert_eq!(told.matches(&line).count(), 1, "{told}");
    assert_eq!(told.matches("does not have").count(), 1, "{told}");
    let own = topology.view().servers[1].own.as_ref().unwrap();
    assert_eq!(own.to_string(), format!("{}:1-2", uuid(b'b')));
}

#[test]
fn a_former_primary_that_joined_or_is_turned_by_hand_is_believed_again() {
    let deposed = [
        ("a=rw; b=ro <a", "1 a [b]"),
        ("a=down; b=rw", "2 b []"),
        ("a=ro; b=rw", "2 b []"),
    ];
    let turned = [("b=down; a=ro", "2 Lost []"), ("a=rw", "3 a []")];
    rows("a b", &[&deposed[..], &turned].concat());
    // By its file alone it is not.
    let restarted = [("b=down; a=down", "2 Lost []"), ("a=rw", "2 Deposed []")];
    rows("a b", &[&deposed[..], &restarted].concat());
    let joined = [
        ("a=ro <b; b=rw", "2 b [a]"),
        ("a=down; b=down", "2 Lost []"),
    ];
    rows(
        "a b",
        &[&deposed[..], &joined, &[("a=rw", "3 a []")]].concat(),
    );
}
