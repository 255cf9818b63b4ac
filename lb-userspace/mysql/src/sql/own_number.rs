//! `SELECT CONNECTION_ID()`, as applications ask who they are, to have themselves killed by others:
//! behind a proxy the number of the server's connection is nobody's.

use super::dialect::{Charset, Dialect};
use super::facts::Facts;
use super::keyword::Keyword as K;
use super::lexer::Lexer;
use super::statement::Statement;
use super::token::Kind;

/// Bytes of a statement that asks for nothing else.
const LONGEST: usize = 1024;

/// The statement with a session's number in place of the call, of the same type and column name,
/// behind a comment that says what was asked, for whoever reads a server's log. None if it is
/// another one: who compares the number with the servers' own tables means theirs.
#[must_use]
pub fn with_own_number(sql: &[u8], statement: &Statement, number: u32) -> Option<Vec<u8>> {
    let is_long = sql.len() > LONGEST;
    if is_long || !statement.has(Facts::CONNECTION_ID) || statement.has(Facts::ODD) {
        return None;
    }
    let asked = Asked::read(sql, statement.dialect)?;
    let (begins, rest) = (sql.get(..asked.start)?, sql.get(asked.end..)?);
    let mut out = Vec::with_capacity(2 * sql.len() + 64);
    if !sql.contains(&b'*') {
        out.extend_from_slice(&[b"/* ", sql, b" */ "].concat());
    }
    out.extend_from_slice(begins);
    out.extend_from_slice(format!("CAST({number} AS UNSIGNED)").as_bytes());
    if !asked.has_name {
        // The servers name the column as it is written.
        let call = sql.get(asked.start..asked.end)?;
        let is_plain = !call.contains(&b'`') && !call.contains(&b'*');
        is_plain.then(|| out.extend_from_slice(&[b" AS `", call, b"`"].concat()))?;
    }
    out.extend_from_slice(rest);
    Some(out)
}

/// Where the call stands.
struct Asked {
    start: usize,
    end: usize,
    /// Whether a name for the column was chosen.
    has_name: bool,
}

impl Asked {
    fn read(sql: &[u8], dialect: Dialect) -> Option<Self> {
        if dialect.charset == Charset::Unsafe {
            return None;
        }
        let mut lexer = Lexer::new(sql, dialect);
        let begins = lexer.token().is(K::SELECT);
        let function = lexer.token();
        let (open, close) = (lexer.token(), lexer.token());
        let is_call = begins
            && matches!(function.kind, Kind::Word(_))
            && function.span.of(sql).eq_ignore_ascii_case(b"connection_id")
            && open.is_symbol(b'(')
            && close.is_symbol(b')');
        let mut token = lexer.token();
        let has_as = token.is(K::AS);
        if has_as {
            token = lexer.token();
        }
        let is_word = matches!(token.kind, Kind::Word(_));
        let has_name = matches!(token.kind, Kind::Name | Kind::Text)
            || (is_word && (has_as || !token.is(K::FROM)));
        if has_name {
            token = lexer.token();
        }
        if token.is(K::FROM) {
            let table = lexer.token();
            let is_dual = table.span.of(sql).eq_ignore_ascii_case(b"dual");
            if !is_dual || !matches!(table.kind, Kind::Word(_)) {
                return None;
            }
            token = lexer.token();
        }
        if token.is_symbol(b';') {
            token = lexer.token();
        }
        let is_whole = token.kind == Kind::End && !lexer.is_odd() && has_name >= has_as;
        (is_call && is_whole).then_some(Self {
            start: function.span.start as usize,
            end: close.span.end as usize,
            has_name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Family, classify};
    use super::*;

    fn instead(sql: &str) -> Option<String> {
        let dialect = Dialect::new(Family::MySql, 90_000);
        let statement = classify(sql.as_bytes(), dialect);
        let found = with_own_number(sql.as_bytes(), &statement, 7)?;
        Some(String::from_utf8(found).unwrap())
    }

    #[test]
    fn who_asks_for_the_number_alone_gets_that_of_the_session() {
        for (sql, expected) in [
            (
                "SELECT CONNECTION_ID()",
                "/* SELECT CONNECTION_ID() */ SELECT CAST(7 AS UNSIGNED) AS `CONNECTION_ID()`",
            ),
            (
                "select connection_id ( ) ;",
                "/* select connection_id ( ) ; */ select CAST(7 AS UNSIGNED) AS `connection_id ( )` ;",
            ),
            (
                "/* who */ SELECT Connection_Id() -- me",
                "/* who */ SELECT CAST(7 AS UNSIGNED) AS `Connection_Id()` -- me",
            ),
            (
                "SELECT CONNECTION_ID() AS id",
                "/* SELECT CONNECTION_ID() AS id */ SELECT CAST(7 AS UNSIGNED) AS id",
            ),
            (
                "/**/SELECT CONNECTION_ID() id FROM DUAL",
                "/**/SELECT CAST(7 AS UNSIGNED) id FROM DUAL",
            ),
            (
                "/**/SELECT CONNECTION_ID() FROM dual;",
                "/**/SELECT CAST(7 AS UNSIGNED) AS `CONNECTION_ID()` FROM dual;",
            ),
            (
                "/**/SELECT CONNECTION_ID() `my id`;",
                "/**/SELECT CAST(7 AS UNSIGNED) `my id`;",
            ),
            (
                "/**/SELECT CONNECTION_ID() AS 'me'",
                "/**/SELECT CAST(7 AS UNSIGNED) AS 'me'",
            ),
        ] {
            assert_eq!(instead(sql).as_deref(), Some(expected), "{sql}");
        }
    }

    #[test]
    fn everything_else_means_the_servers_number() {
        for sql in [
            "SELECT 1",
            "SELECT 'CONNECTION_ID()'",
            "SELECT CONNECTION_ID(), 1",
            "SELECT CONNECTION_ID() + 1",
            "SELECT CONNECTION_ID() FROM t",
            "SELECT CONNECTION_ID() id FROM t",
            "SELECT CONNECTION_ID() LIMIT 1",
            "SELECT CONNECTION_ID() AS",
            "SELECT CONNECTION_ID(/* * */)",
            "SELECT CONNECTION_ID(); SELECT 1",
            "SELECT * FROM information_schema.processlist WHERE id = CONNECTION_ID()",
            "INSERT INTO t VALUES (CONNECTION_ID())",
        ] {
            assert_eq!(instead(sql), None, "{sql}");
        }
    }
}
