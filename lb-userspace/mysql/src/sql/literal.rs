//! Values that stand in a text and need nobody to compute them.

use super::token::{Kind, Token};

/// What kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    /// A string in quotes.
    Text,
    /// A number, with or without a sign.
    Number,
    /// A word: ON, DEFAULT, TRUE, utf8mb4.
    Word,
}

/// What the tokens of a value are, handed in one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    tokens: usize,
    signed: bool,
    literal: Option<Literal>,
}

impl Shape {
    pub(super) fn push(&mut self, token: Token) {
        self.tokens += 1;
        let is_sign = token.is_symbol(b'-') || token.is_symbol(b'+');
        if self.tokens == 1 && is_sign {
            self.signed = true;
            return;
        }
        let literal = match token.kind {
            Kind::Number => Some(Literal::Number),
            Kind::Text if !self.signed => Some(Literal::Text),
            Kind::Word(_) if !self.signed => Some(Literal::Word),
            Kind::Word(_)
            | Kind::Text
            | Kind::Name
            | Kind::Parameter
            | Kind::UserVariable
            | Kind::SystemVariable
            | Kind::Assign
            | Kind::Symbol(_)
            | Kind::End => None,
        };
        let is_only = self.tokens == 1 + usize::from(self.signed);
        self.literal = literal.filter(|_| is_only);
    }

    /// What the value is; none for an expression.
    pub(super) fn literal(self) -> Option<Literal> {
        self.literal
    }
}
