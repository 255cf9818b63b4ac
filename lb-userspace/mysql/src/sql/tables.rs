//! The names of temporary tables that a statement makes or drops.

use super::dialect::Dialect;
use super::keyword::Keyword as K;
use super::lexer::Lexer;
use super::token::{Kind, Token};

/// Goes through the tables of a CREATE TEMPORARY TABLE, DROP TABLE or the like: schema, if it is
/// named, and name, without quotes. An item is none where a name could not be made out.
#[derive(Clone, Debug)]
pub struct Tables<'a> {
    sql: &'a [u8],
    lexer: Lexer<'a>,
    token: Token,
    is_list: bool,
    done: bool,
}

impl<'a> Tables<'a> {
    /// Of a statement's text.
    #[must_use]
    pub fn new(sql: &'a [u8], dialect: Dialect) -> Self {
        let mut lexer = Lexer::new(sql, dialect);
        let mut token = lexer.token();
        let is_list = token.is(K::DROP);
        while matches!(
            token.keyword(),
            K::CREATE | K::DROP | K::OR | K::REPLACE | K::TEMPORARY
        ) {
            token = lexer.token();
        }
        let done = !matches!(token.keyword(), K::TABLE | K::TABLES | K::SEQUENCE);
        token = lexer.token();
        if token.is(K::IF) {
            // IF NOT EXISTS, IF EXISTS
            while matches!(token.keyword(), K::IF | K::NOT | K::EXISTS) {
                token = lexer.token();
            }
        }
        Self {
            sql,
            lexer,
            token,
            is_list,
            done,
        }
    }

    fn name(&mut self) -> Option<&'a [u8]> {
        let token = self.token;
        self.token = self.lexer.token();
        let is_name = matches!(token.kind, Kind::Word(_) | Kind::Name);
        token.name(self.sql).filter(|_| is_name)
    }

    fn table(&mut self) -> Option<(Option<&'a [u8]>, &'a [u8])> {
        let first = self.name()?;
        if !self.token.is_symbol(b'.') {
            return Some((None, first));
        }
        self.token = self.lexer.token();
        Some((Some(first), self.name()?))
    }
}

impl<'a> Iterator for Tables<'a> {
    type Item = Option<(Option<&'a [u8]>, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let table = self.table();
        let another = self.is_list && self.token.is_symbol(b',');
        if another {
            self.token = self.lexer.token();
        }
        self.done = !another || table.is_none();
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::Family;
    use super::*;

    fn tables(sql: &str) -> Vec<String> {
        let dialect = Dialect::new(Family::MySql, 90_704);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = |table: Option<(Option<&[u8]>, &[u8])>| match table {
            Some((Some(schema), name)) => format!("{}.{}", text(schema), text(name)),
            Some((None, name)) => text(name),
            None => "?".to_owned(),
        };
        Tables::new(sql.as_bytes(), dialect).map(name).collect()
    }

    #[test]
    fn names() {
        assert_eq!(tables("CREATE TEMPORARY TABLE t (a INT)"), ["t"]);
        assert_eq!(
            tables("create or replace temporary table if not exists `a`.`b c` select 1"),
            ["a.b c"]
        );
        assert_eq!(
            tables("DROP TEMPORARY TABLE IF EXISTS a, b.c , d"),
            ["a", "b.c", "d"]
        );
        assert_eq!(tables("DROP TABLES a,`x``y`,c"), ["a", "?"]);
        assert_eq!(tables("DROP TABLE"), ["?"]);
        assert_eq!(tables("DROP DATABASE x"), [""; 0]);
        assert_eq!(tables(""), [""; 0]);
    }
}
