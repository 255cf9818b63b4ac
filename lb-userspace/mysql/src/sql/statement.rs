//! What is known of a statement.

use super::class::Class;
use super::dialect::Dialect;
use super::facts::Facts;
use super::hint::Hint;
use super::token::Span;

/// The call of a function that is not built in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Its schema, if the text names one, with quotes.
    pub(super) schema: Span,
    /// Its name, with quotes.
    pub(super) name: Span,
}

impl Call {
    /// Its schema and name as the text has them, without quotes. None where quotes are doubled
    /// inside a name.
    #[must_use]
    pub fn names<'a>(&self, sql: &'a [u8]) -> Option<(Option<&'a [u8]>, &'a [u8])> {
        let schema = match self.schema {
            Span { start: 0, end: 0 } => None,
            span => Some(without_quotes(span.of(sql))?),
        };
        Some((schema, without_quotes(self.name.of(sql))?))
    }
}

fn without_quotes(name: &[u8]) -> Option<&[u8]> {
    match name {
        [quote @ (b'`' | b'"'), inner @ .., last] if quote == last => {
            (!inner.contains(quote)).then_some(inner)
        }
        _ => Some(name),
    }
}

/// How many calls a statement notes.
pub(super) const CALLS: usize = 4;

/// What is known of a statement. It holds places in the text and not the text, so that it may be
/// kept; who asks for names hands the text in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it is.
    pub class: Class,
    /// What else is known.
    pub facts: Facts,
    /// What a comment in it asks for.
    pub hint: Option<Hint>,
    /// The dialect that it was read in.
    pub dialect: Dialect,
    /// Its first word.
    pub(super) first: Span,
    pub(super) calls: [Call; CALLS],
    pub(super) call_count: u8,
}

impl Statement {
    /// The functions that it calls and that are not built in. With [`Facts::TOO_MANY_CALLS`] there
    /// are more.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        self.calls
            .get(..usize::from(self.call_count))
            .unwrap_or_default()
    }

    /// Whether the fact is known of it.
    #[must_use]
    pub const fn has(&self, facts: Facts) -> bool {
        self.facts.has(facts)
    }

    /// Its first word as it stands in the text.
    #[must_use]
    pub fn first_word<'a>(&self, sql: &'a [u8]) -> &'a [u8] {
        self.first.of(sql)
    }
}
