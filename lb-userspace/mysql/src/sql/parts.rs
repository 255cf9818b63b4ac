//! The statements of a text that has several.

use super::classify::one;
use super::dialect::Dialect;
use super::lexer::Lexer;
use super::statement::Statement;
use super::token::{Kind, Token};

/// A statement among others in one text.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Its own text.
    pub sql: &'a [u8],
    /// What is known of it.
    pub statement: Statement,
}

/// Goes through the statements of a text.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    sql: &'a [u8],
    lexer: Lexer<'a>,
    token: Token,
}

impl<'a> Parts<'a> {
    /// Of a whole text.
    #[must_use]
    pub fn new(sql: &'a [u8], dialect: Dialect) -> Self {
        let mut lexer = Lexer::new(sql, dialect);
        let token = lexer.token();
        Self { sql, lexer, token }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        if self.token.kind == Kind::End {
            return None;
        }
        let start = self.token.span.start as usize;
        let (statement, next) = one(&mut self.lexer, self.token, self.sql);
        self.token = next;
        let end = next.span.start as usize;
        let sql = self.sql.get(start..end).unwrap_or_default();
        Some(Part { sql, statement })
    }
}
