//! Cuts a text into words as the servers do.
//!
//! The rules are those of the servers' own lexers, with their oddities: a comment of a version is
//! code or not by the server's version; it does not nest, but the first `*/` ends it wherever it
//! is; `--` begins a comment only before a space or control character; `1e5for` is two words and
//! `1for` is one. What the servers do not agree on, or what nobody writes, makes the lexer *odd*:
//! it goes on, so that as much as possible is known of the statement, but that is no read.
//!
//! Every byte is looked at a bounded number of times, nothing is allocated, nothing recurses.

use super::dialect::{Charset, Dialect};
use super::hint::Hints;
use super::keyword::Keyword;
use super::token::{Kind, Span, Token};

/// What a byte begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    Space,
    Letter,
    Digit,
    Other,
}

const BYTES: [Byte; 256] = {
    let mut bytes = [Byte::Other; 256];
    let mut at = 0;
    while at < 256 {
        bytes[at] = match at as u8 {
            b' ' | 9..=13 => Byte::Space,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | 0x80.. => Byte::Letter,
            b'0'..=b'9' => Byte::Digit,
            _ => Byte::Other,
        };
        at += 1;
    }
    bytes
};

fn kind_of(byte: u8) -> Byte {
    BYTES[usize::from(byte)]
}

fn is_of_word(byte: u8) -> bool {
    matches!(kind_of(byte), Byte::Letter | Byte::Digit)
}

/// Reads a text from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    pub(super) sql: &'a [u8],
    pub(super) at: usize,
    pub(super) dialect: Dialect,
    /// Inside a comment that is executed.
    pub(super) executed: bool,
    /// See the module's words.
    pub(super) odd: bool,
    pub(super) hints: Hints,
}

impl<'a> Lexer<'a> {
    /// A reader of a text.
    #[must_use]
    pub fn new(sql: &'a [u8], dialect: Dialect) -> Self {
        Self {
            sql,
            at: 0,
            dialect,
            executed: false,
            odd: false,
            hints: Hints::default(),
        }
    }

    /// Goes on at a byte.
    pub(super) fn from(mut self, at: u32) -> Self {
        self.at = at as usize;
        self
    }

    /// Whether something was met so far on which servers may not agree.
    #[must_use]
    pub fn is_odd(&self) -> bool {
        self.odd
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The hints in the comments so far.
    pub(super) fn hints(&self) -> Hints {
        self.hints
    }

    pub(super) fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.get(self.at + ahead).copied()
    }

    /// The next piece, or [`Kind::End`] for ever.
    pub fn token(&mut self) -> Token {
        loop {
            let start = self.at;
            let Some(byte) = self.peek(0) else {
                // A comment that is executed has to end.
                self.odd |= self.executed;
                return self.cut(Kind::End, start);
            };
            match kind_of(byte) {
                Byte::Space => self.at += 1,
                Byte::Letter => return self.word(start),
                Byte::Digit => return self.number(start),
                Byte::Other => {
                    if let Some(token) = self.other(start, byte) {
                        return token;
                    }
                }
            }
        }
    }

    fn cut(&self, kind: Kind, start: usize) -> Token {
        Token {
            kind,
            span: Span::new(start, self.at),
        }
    }

    /// Skips the rest of a word, and says whether it has bytes above 0x7F.
    fn skip_word(&mut self) -> bool {
        let mut high = false;
        while let Some(byte) = self.peek(0).filter(|&byte| is_of_word(byte)) {
            high |= byte >= 0x80;
            self.at += 1;
        }
        high
    }

    fn word(&mut self, start: usize) -> Token {
        // MySQL takes it for the beginning of a quoted text or for a name, by version.
        self.odd |= self.peek(0) == Some(b'$');
        let high = self.skip_word();
        self.odd |= high && self.dialect.charset != Charset::Utf8;
        let word = self.sql.get(start..self.at).unwrap_or_default();
        let keyword = if high {
            Keyword::OTHER
        } else {
            Keyword::of(word)
        };
        self.cut(Kind::Word(keyword), start)
    }

    fn skip_digits(&mut self) {
        while self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// A number, or a name that begins with a digit.
    fn number(&mut self, start: usize) -> Token {
        self.skip_digits();
        if self.peek(0) == Some(b'.') {
            self.at += 1;
            return self.fraction(start);
        }
        let word_follows = self.peek(0).is_some_and(is_of_word);
        if !word_follows {
            return self.cut(Kind::Number, start);
        }
        if self.skip_exponent() {
            // `1e5for` is a number and a keyword.
            self.odd |= self.peek(0).is_some_and(is_of_word);
            return self.cut(Kind::Number, start);
        }
        let high = self.skip_word();
        self.odd |= high && self.dialect.charset != Charset::Utf8;
        let text = self.sql.get(start..self.at).unwrap_or_default();
        let kind = if is_in_base(text) {
            Kind::Number
        } else {
            Kind::Name
        };
        self.cut(kind, start)
    }

    /// What follows a decimal point.
    fn fraction(&mut self, start: usize) -> Token {
        self.skip_digits();
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            self.odd |= !self.skip_exponent();
        }
        // `1.5for` is a number and a keyword; it will be read as such, but who writes that?
        self.odd |= self.peek(0).is_some_and(is_of_word);
        self.cut(Kind::Number, start)
    }

    /// Skips an exponent with its digits, if there is one.
    fn skip_exponent(&mut self) -> bool {
        if !matches!(self.peek(0), Some(b'e' | b'E')) {
            return false;
        }
        let sign = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
        if !self
            .peek(1 + sign)
            .is_some_and(|byte| byte.is_ascii_digit())
        {
            return false;
        }
        self.at += 1 + sign;
        self.skip_digits();
        true
    }

    /// Everything that is no word, number or space. None for a comment.
    fn other(&mut self, start: usize, byte: u8) -> Option<Token> {
        let following = self.peek(1);
        let kind = match byte {
            b'\'' => return Some(self.text(start, byte)),
            b'"' if !self.dialect.mode.ansi_quotes => return Some(self.text(start, byte)),
            b'`' | b'"' => return Some(self.name(start, byte)),
            b'@' => return Some(self.variable(start)),
            b'#' => {
                self.skip_line();
                return None;
            }
            b'-' if following == Some(b'-') && self.peek(2).is_none_or(ends_dashes) => {
                self.skip_line();
                return None;
            }
            b'/' if following == Some(b'*') => {
                self.comment();
                return None;
            }
            b'*' if self.executed && following == Some(b'/') => {
                self.executed = false;
                self.at += 2;
                return None;
            }
            b'.' if following.is_some_and(|byte| byte.is_ascii_digit()) && !self.follows_name() => {
                self.at += 1;
                return Some(self.fraction(start));
            }
            b':' if following == Some(b'=') => {
                self.at += 1;
                Kind::Assign
            }
            b'?' => Kind::Parameter,
            _ => {
                // `\N`, a NUL that ends the statement or does not, controls.
                self.odd |= byte == b'\\' || byte < b' ' || byte == 0x7f;
                Kind::Symbol(byte)
            }
        };
        self.at += 1;
        Some(self.cut(kind, start))
    }

    /// Whether what stands right before may be a name, so that a point separates names.
    fn follows_name(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.sql.get(at));
        before.is_some_and(|&byte| is_of_word(byte) || matches!(byte, b'`' | b'"'))
    }

    /// A string. Two quotes in a row are one of its characters.
    fn text(&mut self, start: usize, quote: u8) -> Token {
        let escapes = !self.dialect.mode.no_backslash_escapes;
        self.at += 1;
        loop {
            let rest = self.sql.get(self.at..).unwrap_or_default();
            let found = rest
                .iter()
                .position(|&byte| byte == quote || (byte == b'\\' && escapes));
            let Some(found) = found else {
                self.never_ends();
                break;
            };
            let is_quote = rest.get(found) == Some(&quote);
            let is_double = rest.get(found + 1) == Some(&quote);
            self.at += found + 1;
            if is_quote && !is_double {
                break;
            }
            // The escaped byte, or the second quote.
            self.at = (self.at + 1).min(self.sql.len());
        }
        self.cut(Kind::Text, start)
    }

    /// A quoted name.
    fn name(&mut self, start: usize, quote: u8) -> Token {
        self.at += 1;
        loop {
            let rest = self.sql.get(self.at..).unwrap_or_default();
            let found = rest.iter().position(|&byte| byte == quote || byte == 0);
            let Some(found) = found else {
                self.never_ends();
                break;
            };
            // A NUL ends the name for the servers.
            self.odd |= rest.get(found) == Some(&0);
            self.at += found + 1;
            if rest.get(found) == Some(&quote) {
                if rest.get(found + 1) != Some(&quote) {
                    break;
                }
                self.at += 1;
            }
        }
        self.cut(Kind::Name, start)
    }

    pub(super) fn never_ends(&mut self) {
        self.odd = true;
        self.at = self.sql.len();
    }

    /// `@@`, or a user variable with its name.
    fn variable(&mut self, start: usize) -> Token {
        self.at += 1;
        match self.peek(0) {
            Some(b'@') => {
                self.at += 1;
                return self.cut(Kind::SystemVariable, start);
            }
            Some(quote @ b'\'') => drop(self.text(start, quote)),
            Some(quote @ b'"') if !self.dialect.mode.ansi_quotes => drop(self.text(start, quote)),
            Some(quote @ (b'`' | b'"')) => drop(self.name(start, quote)),
            _ => {
                while let Some(byte) = self.peek(0).filter(|&b| is_of_word(b) || b == b'.') {
                    self.odd |= byte >= 0x80;
                    self.at += 1;
                }
            }
        }
        self.cut(Kind::UserVariable, start)
    }

    fn skip_line(&mut self) {
        let rest = self.sql.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n' || byte == 0);
        // A NUL ends the comment for the servers; it is met again as a character, and is odd.
        self.at += length.unwrap_or(rest.len());
    }
}

/// Whether what follows two dashes makes them a comment.
fn ends_dashes(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

/// Whether it is a number like 0x1F or 0b101.
fn is_in_base(text: &[u8]) -> bool {
    match text {
        [b'0', b'x', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit),
        [b'0', b'b', digits @ ..] => {
            !digits.is_empty() && digits.iter().all(|byte| matches!(byte, b'0' | b'1'))
        }
        _ => false,
    }
}
