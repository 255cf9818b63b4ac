use std::time::Duration;

use super::*;
use crate::{
    route::Reason,
    sql::{Dialect, Family},
};

fn dialect() -> Dialect {
    Dialect::new(Family::MySql, 90_704)
}

fn text_of(sql: &str) -> String {
    let mut out = Vec::new();
    text(sql.as_bytes(), dialect(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn values_become_marks() {
    for (sql, expected) in [
        ("SELECT 1", "SELECT ?"),
        (
            "select  c from t where id=4711;",
            "SELECT c FROM t WHERE id = ?",
        ),
        (
            "SELECT c /* x */ FROM t -- y\n WHERE id = 'a''b'",
            "SELECT c FROM t WHERE id = ?",
        ),
        ("SELECT /*!80000 SQL_CACHE */ 1", "SELECT SQL_CACHE ?"),
        (
            "SELECT * FROM t WHERE id IN (1, 2,3)",
            "SELECT * FROM t WHERE id IN (?)",
        ),
        (
            "SELECT * FROM t WHERE id IN (?)",
            "SELECT * FROM t WHERE id IN (?)",
        ),
        (
            "SELECT COUNT(*), MAX(`a`.b) FROM t",
            "SELECT COUNT(*), MAX(`a`.b) FROM t",
        ),
        (
            "INSERT INTO t VALUES (1, 'x', NULL), (2, 'y', -3.5)",
            "INSERT INTO t VALUES (?)",
        ),
        (
            "INSERT INTO t (a, b) VALUES (1, NOW()), (2, NOW())",
            "INSERT INTO t (a, b) VALUES (?, NOW()), (?, NOW())",
        ),
        (
            "UPDATE t SET a = a - 1, b = NULL WHERE c IS NULL",
            "UPDATE t SET a = a - ?, b = ? WHERE c IS NULL",
        ),
        (
            "SELECT a FROM t WHERE b <= -5 AND c != 0x1f",
            "SELECT a FROM t WHERE b <= ? AND c != ?",
        ),
        ("SELECT @@version, @x := 5", "SELECT @@version, @x := ?"),
        ("SELECT a FROM t LIMIT 10, 20", "SELECT a FROM t LIMIT ?"),
        ("SELECT 1; SELECT 2", "SELECT ?; SELECT ?"),
        ("SELECT (1), (a)", "SELECT (?), (a)"),
        ("SELECT (1), (2, a)", "SELECT (?), (?, a)"),
        ("SELECT (1), (2, 3", "SELECT (?), (?"),
        ("SELECT 'never ends", "SELECT ?"),
        ("", ""),
    ] {
        assert_eq!(text_of(sql), expected, "{sql}");
    }
}

/// What has the same text has the same number, and what has another text another one.
#[test]
fn numbers_are_as_texts() {
    let statements = [
        "SELECT 1",
        "select 'a' -- b",
        "SELECT a FROM t WHERE id IN (1,2)",
        "SELECT a FROM t WHERE id IN (1,2,3,4) ",
        "SELECT a FROM t WHERE id=(1)",
        "SELECT A FROM t WHERE id IN (1)",
        "SELECT ab FROM t",
        "SELECT a b FROM t",
        "SELECT abcdefgh FROM t",
        "SELECT abcdefg h FROM t",
        "INSERT INTO t VALUES (1), (2)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (1), (a)",
        "INSERT INTO t VALUES (1), (2, a)",
        "INSERT INTO t VALUES (1), (2, 3), (4",
        "INSERT INTO t VALUES (a), (2)",
    ];
    for one in statements {
        for other in statements {
            let numbers = number(one.as_bytes(), dialect()) == number(other.as_bytes(), dialect());
            assert_eq!(text_of(one) == text_of(other), numbers, "{one} / {other}");
        }
    }
}

#[test]
fn long_statements_have_short_digests() {
    let columns: Vec<String> = (0..2000).map(|n| format!("column{n}")).collect();
    let sql = format!("SELECT {} FROM t", columns.join(", "));
    assert!((MOST_TEXT * 3 / 4..=MOST_TEXT).contains(&text_of(&sql).len()));
    let list: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let long = format!("SELECT a FROM t WHERE id IN ({})", list.join(","));
    assert_eq!(text_of(&long), "SELECT a FROM t WHERE id IN (?");
}

proptest::proptest! {
    /// Whatever comes: it ends, is short, and says the same of the same.
    #[test]
    fn any_bytes_have_a_digest(
        statement in proptest::collection::vec(proptest::sample::select(&b"(,),?;-+.@'`\"/*! 1aNULL="[..]), 0..200),
        spaces in 0usize..4,
    ) {
        let mut out = Vec::new();
        text(&statement, dialect(), &mut out);
        proptest::prop_assert!(out.len() <= MOST_TEXT);
        let more = [&statement[..], &b"    "[..spaces]].concat();
        let mut lexer = Lexer::new(&statement, dialect());
        while lexer.token().kind != sql::Kind::End {}
        let is_open = lexer.is_odd();
        proptest::prop_assert!(is_open || number(&statement, dialect()) == number(&more, dialect()));
    }
}

#[test]
fn a_long_name_is_cut() {
    let sql = format!("SELECT `{}`", "x".repeat(100_000));
    assert_eq!(text_of(&sql).len(), MOST_TEXT);
}

fn seen(micros: u64) -> Seen {
    Seen {
        is_replica: micros.is_multiple_of(2),
        reason: Reason::Read,
        took: Duration::from_micros(micros),
        failed: micros == 7,
    }
}

#[test]
fn kinds_are_counted() {
    let mut digests = Digests::new(10);
    for micros in 1..=10 {
        digests.note(b"SELECT 1", dialect(), &seen(micros));
    }
    digests.note(b"COMMIT", dialect(), &seen(1));
    let report = digests.report();
    let [one, two] = &report.kinds[..] else {
        panic!("{report:?}");
    };
    assert_eq!((&*one.text, one.counts.targets), (&b"SELECT ?"[..], [5, 5]));
    assert_eq!(one.counts.errors, 1);
    assert_eq!(one.counts.total, Duration::from_micros(55));
    assert_eq!(one.counts.longest, Duration::from_micros(10));
    assert_eq!(one.counts.reasons(true).collect::<Vec<_>>(), [Reason::Read]);
    assert_eq!(two.counts.count(), 1);
    let mut twice = report.clone();
    twice.merge(report);
    assert_eq!(twice.kinds.len(), 2);
    assert_eq!(twice.kinds[0].counts.count(), 20);
}

/// However many kinds there are: the table stays small, what comes often stays in it, and nothing
/// is lost.
#[test]
fn memory_is_bounded_and_sums_are_right() {
    let mut digests = Digests::new(20);
    for round in 0..5000 {
        let rare = format!("SELECT column{round} FROM t");
        digests.note(rare.as_bytes(), dialect(), &seen(1));
        for often in ["SELECT 1", "COMMIT", "SELECT a FROM t WHERE id = 5"] {
            digests.note(often.as_bytes(), dialect(), &seen(2));
        }
    }
    let report = digests.report();
    assert_eq!(report.kinds.len(), 20);
    let sum: u64 = report.kinds.iter().map(|kind| kind.counts.count()).sum();
    assert_eq!(sum + report.other.count(), 20_000);
    let often = report
        .kinds
        .iter()
        .filter(|kind| kind.counts.count() == 5000);
    assert_eq!(often.count(), 3, "{report:?}");
}
