//! What the body of a stored function does, by its words.

use super::dialect::{Dialect, Family};
use super::facts::Facts;
use super::lexer::Lexer;
use super::scan::Scan;
use super::token::Kind;

/// Whether a stored function's body only reads: no word of a writing statement, no variable but its
/// own, no lock. What functions do that it calls is not known.
#[must_use]
pub fn only_reads(body: &[u8], dialect: Dialect) -> bool {
    const DOES: Facts = Facts::WRITE_WORD
        .with(Facts::LOCKING)
        .with(Facts::USER_VARIABLE)
        .with(Facts::ASSIGNS)
        .with(Facts::SYSTEM_VARIABLE)
        .with(Facts::LAST_INSERT_ID)
        .with(Facts::TAKES_LOCK)
        .with(Facts::ASKS_LOCK)
        .with(Facts::SEQUENCE)
        .with(Facts::WAITS);
    // Where MariaDB refuses a write in the middle of a query, its client knows the columns already,
    // so that the query cannot run elsewhere: what is called must not be a surprise.
    let does = match dialect.family {
        Family::MySql => DOES,
        Family::MariaDb => DOES.with(Facts::CALLS),
    };
    let mut lexer = Lexer::new(body, dialect);
    let mut scan = Scan::new(body, dialect);
    let mut token = lexer.token();
    while token.kind != Kind::End {
        let next = lexer.token();
        scan.token(token, next);
        let is = |word: &str| {
            token
                .name(body)
                .is_some_and(|name| name.eq_ignore_ascii_case(word.as_bytes()))
        };
        if is("outfile") || is("dumpfile") {
            return false;
        }
        token = next;
    }
    !lexer.is_odd() && !scan.facts.has_any(does)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_decide() {
        for (body, reads) in [
            ("RETURN 7", true),
            (
                "BEGIN DECLARE n INT(11); SELECT COUNT(*) INTO n FROM t; RETURN (n); END",
                true,
            ),
            ("RETURN REPLACE(a, 'insert', INSERT('a', 1, 2, 'b'))", true),
            ("BEGIN INSERT INTO t VALUES (1); RETURN 7; END", false),
            ("BEGIN REPLACE t VALUES (1); RETURN 7; END", false),
            ("BEGIN CALL p(); RETURN 7; END", false),
            ("BEGIN SET @a = 1; RETURN 7; END", false),
            ("RETURN (SELECT GET_LOCK('a', 1))", false),
            ("RETURN (SELECT a FROM t FOR UPDATE)", false),
            ("BEGIN SELECT 1 INTO OUTFILE '/a'; RETURN 7; END", false),
            ("RETURN 'a", false),
        ] {
            let dialect = Dialect::new(Family::MySql, 90_704);
            assert_eq!(only_reads(body.as_bytes(), dialect), reads, "{body}");
        }
        for (family, reads) in [(Family::MySql, true), (Family::MariaDb, false)] {
            let dialect = Dialect::new(family, 101_100);
            assert_eq!(only_reads(b"RETURN other()", dialect), reads);
        }
    }
}
