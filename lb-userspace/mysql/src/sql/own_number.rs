//! `SELECT CONNECTION_ID()`, as applications ask who they are, to have themselves killed by others:
//! behind a proxy the number of the server's connection is nobody's.

use super::dialect::{Charset, Dialect};
use super::facts::Facts;
use super::keyword::Keyword as K;
use super::lexer::Lexer;
use super::statement::Statement;
use super::token::{Kind, Span};

/// The statement with a session's number in place of the call, of the same type and column name.
/// None if it is another one: who compares the number with the servers' own tables means theirs.
#[must_use]
pub fn with_own_number(sql: &[u8], statement: &Statement, number: u32) -> Option<Vec<u8>> {
    if !statement.has(Facts::CONNECTION_ID) || statement.has(Facts::ODD) {
        return None;
    }
    let name = asked(sql, statement.dialect)?;
    let mut out = format!("SELECT CAST({number} AS UNSIGNED) AS ").into_bytes();
    out.extend_from_slice(&name);
    Some(out)
}

/// The name of the column, quoted where it was not chosen.
fn asked(sql: &[u8], dialect: Dialect) -> Option<Vec<u8>> {
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
    if !is_call {
        return None;
    }
    let mut token = lexer.token();
    let has_as = token.is(K::AS);
    if has_as {
        token = lexer.token();
    }
    let mut chosen = None;
    if matches!(token.kind, Kind::Name | Kind::Text)
        || (has_as && matches!(token.kind, Kind::Word(_)))
    {
        chosen = Some(token.span.of(sql).to_vec());
        token = lexer.token();
    } else if has_as {
        return None;
    }
    if token.is_symbol(b';') {
        token = lexer.token();
    }
    if token.kind != Kind::End || lexer.is_odd() {
        return None;
    }
    // As it is written, which is what the servers call the column.
    let call = Span::new(function.span.start as usize, close.span.end as usize).of(sql);
    let quoted = || {
        let is_plain = !call.contains(&b'`') && !call.contains(&b'*');
        is_plain.then(|| [b"`", call, b"`"].concat())
    };
    chosen.or_else(quoted)
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
        for (sql, column) in [
            ("SELECT CONNECTION_ID()", "`CONNECTION_ID()`"),
            ("select connection_id ( ) ;", "`connection_id ( )`"),
            (
                "/* who */ SELECT Connection_Id() -- me",
                "`Connection_Id()`",
            ),
            ("SELECT CONNECTION_ID() AS id", "id"),
            ("SELECT CONNECTION_ID() `my id`;", "`my id`"),
            ("SELECT CONNECTION_ID() AS 'me'", "'me'"),
        ] {
            let expected = format!("SELECT CAST(7 AS UNSIGNED) AS {column}");
            assert_eq!(instead(sql), Some(expected), "{sql}");
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
