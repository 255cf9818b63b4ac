//! What holds for every text.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{
    Assignments, Charset, Class, Dialect, Facts, Family, Kind, Lexer, Parts, SqlMode, Tables,
    classify, prepared_name, prepared_text,
};
use super::rows;

fn dialects() -> impl Strategy<Value = Dialect> {
    let family = prop_oneof![
        Just(Dialect::new(Family::MySql, 90_704)),
        Just(Dialect::new(Family::MariaDb, 101_119)),
    ];
    let charset = prop_oneof![
        Just(Charset::Utf8),
        Just(Charset::AsciiAndMore),
        Just(Charset::Unsafe),
    ];
    (family, any::<bool>(), any::<bool>(), charset).prop_map(
        |(dialect, ansi_quotes, no_backslash_escapes, charset)| Dialect {
            mode: SqlMode {
                ansi_quotes,
                no_backslash_escapes,
                foreign: false,
            },
            charset,
            ..dialect
        },
    )
}

/// Everything that reads a text.
fn look(sql: &[u8], dialect: Dialect) {
    let statement = classify(sql, dialect);
    for call in statement.calls() {
        let _ = call.names(sql);
    }
    for part in Parts::new(sql, dialect) {
        Tables::new(part.sql, dialect).for_each(drop);
    }
    Assignments::new(sql, dialect).for_each(drop);
    Tables::new(sql, dialect).for_each(drop);
    let _ = prepared_name(sql, dialect);
    let _ = prepared_text(sql, dialect);
}

/// Pieces of which hostile texts are made.
fn pieces() -> impl Strategy<Value = Vec<&'static str>> {
    let piece = prop::sample::select(vec![
        "'",
        "\"",
        "`",
        "\\",
        "/*",
        "*/",
        "/*!",
        "/*!90704",
        "/*!99999",
        "/*M!",
        "--",
        "-- ",
        "#",
        "\n",
        " ",
        "\0",
        "@",
        "@@",
        ":=",
        ";",
        "(",
        ")",
        ".",
        ",",
        "1",
        "1e",
        "1e5",
        "0x",
        "x'41'",
        "$",
        "é",
        "SELECT",
        "SET",
        "FROM",
        "a",
        "=",
        "FOR",
        "UPDATE",
        "BEGIN",
        "END",
        "CASE",
        "CREATE",
        "PROCEDURE",
        "TEMPORARY",
        "TABLE",
        "DROP",
        "PREPARE",
        "WITH",
        "AS",
    ]);
    prop::collection::vec(piece, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_text_panics(sql in prop::collection::vec(any::<u8>(), 0..300), dialect in dialects()) {
        look(&sql, dialect);
    }

    #[test]
    fn no_hostile_text_panics(pieces in pieces(), dialect in dialects()) {
        look(pieces.concat().as_bytes(), dialect);
        look(pieces.join(" ").as_bytes(), dialect);
    }

    /// The pieces stand one after the other, and nothing is left out but spaces and comments.
    #[test]
    fn tokens_are_in_order(pieces in pieces(), dialect in dialects()) {
        let sql = pieces.concat();
        let mut lexer = Lexer::new(sql.as_bytes(), dialect);
        let mut at = 0;
        loop {
            let token = lexer.token();
            prop_assert!(token.span.start >= at && token.span.end >= token.span.start);
            at = token.span.end;
            if token.kind == Kind::End {
                break;
            }
        }
        prop_assert_eq!(at as usize, sql.len());
    }

    /// Spaces, comments and the case of words decide nothing.
    #[test]
    fn clothes_do_not_matter(
        row in prop::sample::select(rows::BOTH.to_vec()),
        gaps in prop::collection::vec(0..GAPS.len(), 40),
        cases in any::<u64>(),
        dialect in prop_oneof![Just(rows::MYSQL), Just(rows::MARIADB)],
    ) {
        let (sql, _) = row;
        let before = classify(sql.as_bytes(), dialect);
        // What depends on a version's comment, or never ends, cannot be dressed anew.
        prop_assume!(!sql.contains("/*!") && !before.has(Facts::ODD));
        let dressed = dress(sql, dialect, &gaps, cases);
        let after = classify(dressed.as_bytes(), dialect);
        prop_assert_eq!((before.class, before.facts), (after.class, after.facts), "{}", dressed);
    }

    /// Nothing with a word of a writing statement is a read.
    #[test]
    fn no_write_is_a_read(
        mut words in prop::collection::vec(prop::sample::select(HARMLESS.to_vec()), 0..20),
        write in prop::sample::select(WRITING.to_vec()),
        first in prop::sample::select(vec!["SELECT", "(SELECT", "WITH a AS (SELECT 1)", "EXPLAIN", "DESC", "TABLE", "VALUES"]),
        place in any::<prop::sample::Index>(),
        dialect in prop_oneof![Just(rows::MYSQL), Just(rows::MARIADB)],
    ) {
        let place = place.index(words.len() + 1);
        words.insert(place, write);
        let sql = format!("{first} {}", words.join(" "));
        let statement = classify(sql.as_bytes(), dialect);
        prop_assert_ne!(statement.class, Class::Read, "{}", sql);
    }
}

const GAPS: [&str; 8] = [
    " ",
    "\t",
    "\r\n",
    " /* x */ ",
    "/**/",
    " -- x\n",
    "#'\n",
    " /*/ */ ",
];

/// The same statement with other spaces and comments wherever it has some, and other letters.
fn dress(sql: &str, dialect: Dialect, gaps: &[usize], mut cases: u64) -> String {
    let mut lexer = Lexer::new(sql.as_bytes(), dialect);
    let mut gaps = gaps.iter().cycle().map(|&gap| GAPS[gap]);
    let mut dressed = String::new();
    let mut end = 0;
    loop {
        let token = lexer.token();
        if token.span.start > end || end == 0 {
            dressed.push_str(gaps.next().unwrap_or_default());
        }
        end = token.span.end;
        let text = String::from_utf8_lossy(token.span.of(sql.as_bytes())).into_owned();
        cases = cases.rotate_left(1);
        let is_word = matches!(token.kind, Kind::Word(_));
        dressed.push_str(&match cases & 1 {
            0 if is_word => text.to_ascii_uppercase(),
            1 if is_word => text.to_ascii_lowercase(),
            _ => text,
        });
        if token.kind == Kind::End {
            return dressed;
        }
    }
}

/// Words that stand in reads.
const HARMLESS: [&str; 24] = [
    "a", "1", "'x'", "`INSERT`", "'DELETE'", ",", "(", ")", "FROM", "t", "WHERE", "=", "UNION",
    "SELECT", "AS", "/* x */", "COUNT(*)", "JOIN", "ON", "WITH", "ORDER BY", "t.a", "?", "-- x\n",
];

/// What makes a statement another than a read.
const WRITING: [&str; 16] = [
    "UPDATE",
    "DELETE",
    "INSERT INTO",
    "REPLACE INTO",
    "CREATE",
    "DROP",
    "ALTER",
    "GRANT",
    "REVOKE",
    "CALL",
    "LOAD DATA",
    "RENAME",
    "INTO OUTFILE",
    "INTO @a",
    "FOR UPDATE",
    "LOCK IN SHARE MODE",
];

/// Long texts that would take very long if a byte were looked at more often the more there are.
#[test]
fn time_is_linear() {
    let pieces = [
        "/*",
        "/* */",
        "/*!",
        "/*!99999 ",
        "/*!99999 /* */ */",
        "*/",
        "'",
        "''",
        "'\\",
        "`",
        "\"",
        "@",
        "@'",
        "@@",
        "(",
        "SET a=(",
        ",",
        ";",
        "a;",
        "SET a=1;",
        "SET @a=1,",
        "DROP TABLE a,",
        "SELECT f(),",
        "WITH a (b),",
        "1e",
        "1.",
        ".",
        "-- \n",
        "--",
        "#\n",
        "a.",
        "CREATE ",
        "CREATE PROCEDURE a BEGIN ",
        "CASE ",
        "EXECUTE a;",
        "é",
        "\0",
        "PREPARE a FROM '",
        "USE a;",
        "CREATE TEMPORARY TABLE a;",
        "SELECT @a:=1;",
    ];
    for piece in pieces {
        let sql = piece.repeat(150_000 / piece.len());
        for charset in [Charset::Utf8, Charset::Unsafe] {
            let mut dialect = rows::MARIADB;
            dialect.charset = charset;
            let began = Instant::now();
            look(sql.as_bytes(), dialect);
            let took = began.elapsed();
            assert!(took < Duration::from_secs(5), "{piece}: {took:?}");
        }
    }
}
