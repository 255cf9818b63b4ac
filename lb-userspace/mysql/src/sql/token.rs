//! The pieces that a text is cut into.

use super::keyword::Keyword;

/// Part of a statement's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: u32,
    /// The byte after its last one.
    pub end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        // A packet that long is never read: the protocol ends at one GiB.
        let small = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            start: small(start),
            end: small(end),
        }
    }

    /// The bytes; none when the text is another one.
    #[must_use]
    pub fn of(self, sql: &[u8]) -> &[u8] {
        sql.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A word that is not quoted: a keyword, a function or a name.
    Word(Keyword),
    /// A quoted name, or one that begins with a digit.
    Name,
    /// A string.
    Text,
    /// A number.
    Number,
    /// `?`.
    Parameter,
    /// `@x`, `` @`x` ``, `@'x'`.
    UserVariable,
    /// `@@`, before the words of its name.
    SystemVariable,
    /// `:=`.
    Assign,
    /// Any other character.
    Symbol(u8),
    /// The end of the text.
    End,
}

/// A piece of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it stands, with its quotes.
    pub span: Span,
}

impl Token {
    /// Before anything was read.
    pub(super) const NONE: Self = Self {
        kind: Kind::End,
        span: Span { start: 0, end: 0 },
    };

    pub(super) fn is(self, keyword: Keyword) -> bool {
        self.kind == Kind::Word(keyword)
    }

    pub(super) fn is_symbol(self, symbol: u8) -> bool {
        self.kind == Kind::Symbol(symbol)
    }

    /// The keyword that it is, [`Keyword::OTHER`] for everything else.
    pub(super) fn keyword(self) -> Keyword {
        if let Kind::Word(keyword) = self.kind {
            keyword
        } else {
            Keyword::OTHER
        }
    }

    /// The name that it stands for, without quotes. None where quotes are doubled inside: who
    /// compares names then takes them for unknown.
    pub(super) fn name(self, sql: &[u8]) -> Option<&[u8]> {
        let bytes = self.span.of(sql);
        match self.kind {
            Kind::Word(_) => Some(bytes),
            Kind::Name | Kind::Text => unquoted(bytes),
            Kind::UserVariable => unquoted(bytes.get(1..).unwrap_or_default()),
            Kind::Number
            | Kind::Parameter
            | Kind::SystemVariable
            | Kind::Assign
            | Kind::Symbol(_)
            | Kind::End => None,
        }
    }
}

/// A text without its quotes, if it has such.
fn unquoted(bytes: &[u8]) -> Option<&[u8]> {
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return Some(bytes);
    };
    if !matches!(first, b'`' | b'"' | b'\'') {
        return Some(bytes);
    }
    let inner = bytes.get(1..bytes.len() - 1)?;
    (first == last && !inner.contains(&first) && !inner.contains(&b'\\')).then_some(inner)
}
