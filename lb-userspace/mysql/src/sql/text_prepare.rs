//! PREPARE, EXECUTE and DEALLOCATE as texts.

use std::borrow::Cow;

use super::dialect::Dialect;
use super::keyword::Keyword as K;
use super::lexer::Lexer;
use super::token::{Kind, Token};

/// What a PREPARE or EXECUTE IMMEDIATE prepares.
pub type Prepared<'a> = Cow<'a, [u8]>;

/// The name in PREPARE, EXECUTE, DEALLOCATE PREPARE or DROP PREPARE.
#[must_use]
pub fn prepared_name(sql: &[u8], dialect: Dialect) -> Option<&[u8]> {
    let mut lexer = Lexer::new(sql, dialect);
    let mut token = lexer.token();
    while matches!(
        token.keyword(),
        K::PREPARE | K::EXECUTE | K::DEALLOCATE | K::DROP
    ) {
        token = lexer.token();
    }
    let is_name = matches!(token.kind, Kind::Word(_) | Kind::Name);
    token.name(sql).filter(|name| is_name && !name.is_empty())
}

/// The schema in USE.
#[must_use]
pub fn used_schema(sql: &[u8], dialect: Dialect) -> Option<&[u8]> {
    let mut lexer = Lexer::new(sql, dialect);
    let begins = lexer.token().is(K::USE);
    let token = lexer.token();
    let is_name = begins && matches!(token.kind, Kind::Word(_) | Kind::Name);
    token.name(sql).filter(|_| is_name)
}

/// The text in PREPARE … FROM '…' or EXECUTE IMMEDIATE '…', with its escapes resolved. None for
/// anything that is not a string.
#[must_use]
pub fn prepared_text(sql: &[u8], dialect: Dialect) -> Option<Prepared<'_>> {
    let mut lexer = Lexer::new(sql, dialect);
    let mut before = Token::NONE;
    loop {
        let token = lexer.token();
        if token.kind == Kind::Text && (before.is(K::FROM) || before.is(K::IMMEDIATE)) {
            let text = token.span.of(sql);
            let inner = text.get(1..text.len().checked_sub(1)?)?;
            return resolve(inner, *text.first()?, dialect.mode.no_backslash_escapes);
        }
        if token.kind == Kind::End {
            return None;
        }
        before = token;
    }
}

/// Resolves the escapes of a string.
fn resolve(inner: &[u8], quote: u8, no_backslash: bool) -> Option<Prepared<'_>> {
    let is_special = |byte: &u8| *byte == quote || (*byte == b'\\' && !no_backslash);
    if !inner.iter().any(is_special) {
        return Some(Cow::Borrowed(inner));
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == quote {
            // Quotes are doubled.
            bytes.next();
            text.push(quote);
        } else if byte == b'\\' && !no_backslash {
            match bytes.next()? {
                b'0' => text.push(0),
                b'b' => text.push(8),
                b'n' => text.push(b'\n'),
                b'r' => text.push(b'\r'),
                b't' => text.push(b'\t'),
                b'Z' => text.push(26),
                pattern @ (b'%' | b'_') => text.extend([b'\\', pattern]),
                other => text.push(other),
            }
        } else {
            text.push(byte);
        }
    }
    Some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::super::dialect::Family;
    use super::*;

    #[test]
    fn names_and_texts() {
        let dialect = Dialect::new(Family::MySql, 90_704);
        let name = |sql: &'static str| prepared_name(sql.as_bytes(), dialect);
        assert_eq!(name("PREPARE s FROM 'SELECT 1'"), Some(&b"s"[..]));
        assert_eq!(name("execute `S t` using @a"), Some(&b"S t"[..]));
        assert_eq!(name("DEALLOCATE PREPARE s"), Some(&b"s"[..]));
        assert_eq!(name("DROP PREPARE s"), Some(&b"s"[..]));
        assert_eq!(name("EXECUTE"), None);
        let text = |sql: &'static str| prepared_text(sql.as_bytes(), dialect).map(Cow::into_owned);
        let is = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(text("PREPARE s FROM 'SELECT 1'"), is("SELECT 1"));
        assert_eq!(text("PREPARE s FROM 'SELECT ''a'''"), is("SELECT 'a'"));
        assert_eq!(text(r#"PREPARE s FROM "a\n\'\%b""#), is("a\n'\\%b"));
        assert_eq!(text("EXECUTE IMMEDIATE 'x'"), is("x"));
        assert_eq!(text("PREPARE s FROM @a"), None);
    }
}
