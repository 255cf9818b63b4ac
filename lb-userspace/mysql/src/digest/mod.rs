//! Statements that differ in nothing but their values are one kind, with a text and a number of its
//! own, its digest.
//!
//! Comments and spaces go; values become `?`, and a list of them one `?`; a list of rows of them one
//! row. Keywords are one in any case of letters. Whatever was read before is recognised without
//! memory from the heap.

mod table;

#[cfg(test)]
mod tests;

pub use table::{Counts, Digests, Kind, Report, Seen};

use crate::sql::{self, Dialect, Keyword, Lexer, Token};

/// Bytes of a digest's text at most; what follows makes no difference.
pub const MOST_TEXT: usize = 1024;
/// Bytes of a statement that are looked at.
const MOST_READ: usize = 32 << 10;

/// The number of a statement's kind.
#[must_use]
pub fn number(sql: &[u8], dialect: Dialect) -> u64 {
    let mut hash = Hash(0x9e37_79b9_7f4a_7c15);
    cut(sql, dialect, &mut hash);
    hash.0
}

/// The text of a statement's kind, appended.
pub fn text(sql: &[u8], dialect: Dialect, out: &mut Vec<u8>) {
    let mut text = Text {
        most: out.len() + MOST_TEXT,
        out,
        sticks: true,
        end: 0,
    };
    cut(sql, dialect, &mut text);
}

/// What becomes of the pieces.
trait Sink {
    /// A keyword, in any case of letters, which ended at this byte of the statement.
    fn keyword(&mut self, word: &[u8], end: u32);
    /// Anything else, as it is, which ended at this byte of the statement.
    fn piece(&mut self, bytes: &[u8], start: u32, end: u32);
    /// A value, or several.
    fn value(&mut self);
}

struct Hash(u64);

impl Hash {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0xa076_1d64_78bd_642f;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    /// All of them, with these bits set in each.
    fn bytes(&mut self, bytes: &[u8], bits: u64) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word) | bits);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // The length tells where a piece ends.
        self.mix((u64::from_le_bytes(last) | bits) ^ (bytes.len() as u64) << 56);
    }
}

impl Sink for Hash {
    fn keyword(&mut self, word: &[u8], _: u32) {
        self.bytes(word, 0x2020_2020_2020_2020);
    }

    fn piece(&mut self, bytes: &[u8], _: u32, _: u32) {
        self.bytes(bytes, 0);
    }

    fn value(&mut self) {
        self.mix(1);
    }
}

struct Text<'o> {
    out: &'o mut Vec<u8>,
    /// How long it may become.
    most: usize,
    /// Whether what follows stands right behind.
    sticks: bool,
    /// Where in the statement the last piece ended.
    end: u32,
}

impl Text<'_> {
    fn put(&mut self, bytes: &[u8], is_close: bool) {
        if !self.sticks && !is_close {
            self.out.push(b' ');
        }
        self.out.extend_from_slice(bytes);
        // A quoted name may be as long as the statement.
        self.out.truncate(self.most);
        self.sticks = matches!(bytes, b"(" | b"." | b"@@");
    }
}

impl Sink for Text<'_> {
    fn keyword(&mut self, word: &[u8], end: u32) {
        self.put(&word.to_ascii_uppercase(), false);
        self.end = end;
    }

    fn piece(&mut self, bytes: &[u8], start: u32, end: u32) {
        let [first, ..] = bytes else { return };
        // `COUNT(`, `<=`, `a.b`: as they were written.
        let was_close = start == self.end && first.is_ascii_punctuation() && *first != b'`';
        let stands_alone = matches!(bytes, b"=" | b"<" | b">" | b"+" | b"-" | b"*" | b"/");
        let is_second = matches!(
            self.out.last(),
            Some(b'<' | b'>' | b'!' | b'|' | b'&' | b'-')
        );
        let is_close = matches!(bytes, b")" | b"," | b"." | b";")
            || (was_close && (!stands_alone || is_second));
        self.put(bytes, is_close);
        self.end = end;
    }

    fn value(&mut self) {
        self.put(b"?", false);
    }
}

/// What was given out last, as far as it matters to lists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// `(`
    Open,
    /// `(?`
    OpenValue,
    /// `?`
    Value,
    /// `(?)`
    Row,
    Other,
}

/// What is kept back until it is clear whether a list goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    /// `,` behind a value
    Comma,
    /// `,` behind a row
    RowComma,
    /// `, (` behind a row
    RowOpen,
    /// `, (?` behind a row
    RowValue,
    /// `, (?,` behind a row
    RowValueComma,
}

struct Lists<'s, S> {
    sink: &'s mut S,
    tail: Tail,
    held: Held,
    /// Bytes that may still be given out.
    room: usize,
}

impl<S: Sink> Lists<'_, S> {
    fn flush(&mut self) {
        let held = std::mem::replace(&mut self.held, Held::Nothing);
        // Nowhere: nothing stood right behind it.
        let (own, end) = (u32::MAX, 0);
        if held == Held::Nothing {
            return;
        }
        self.sink.piece(b",", own, end);
        self.tail = Tail::Other;
        if matches!(held, Held::RowOpen | Held::RowValue | Held::RowValueComma) {
            self.sink.piece(b"(", own, end);
            self.tail = Tail::Open;
        }
        if matches!(held, Held::RowValue | Held::RowValueComma) {
            self.sink.value();
            self.tail = Tail::OpenValue;
        }
        if held == Held::RowValueComma {
            self.sink.piece(b",", own, end);
            self.tail = Tail::Other;
        }
    }

    fn value(&mut self) {
        match (self.held, self.tail) {
            (Held::Nothing | Held::Comma, Tail::Value | Tail::OpenValue) => {
                self.held = Held::Nothing;
                return;
            }
            (Held::RowOpen | Held::RowValue | Held::RowValueComma, _) => {
                self.held = Held::RowValue;
                return;
            }
            (Held::Nothing | Held::Comma | Held::RowComma, _) => {}
        }
        self.flush();
        self.sink.value();
        self.room = self.room.saturating_sub(2);
        self.tail = match self.tail {
            Tail::Open => Tail::OpenValue,
            Tail::OpenValue | Tail::Value | Tail::Row | Tail::Other => Tail::Value,
        };
    }

    fn symbol(&mut self, symbol: u8, (start, end): (u32, u32)) {
        match (symbol, self.held, self.tail) {
            (b',', Held::Nothing, Tail::Value | Tail::OpenValue) => {
                self.held = Held::Comma;
                return;
            }
            (b',', Held::Nothing, Tail::Row) => {
                self.held = Held::RowComma;
                return;
            }
            (b'(', Held::RowComma, _) => {
                self.held = Held::RowOpen;
                return;
            }
            (b',', Held::RowValue, _) => {
                self.held = Held::RowValueComma;
                return;
            }
            (b')', Held::RowValue, _) => {
                self.held = Held::Nothing;
                return;
            }
            _ => {}
        }
        self.flush();
        self.sink.piece(&[symbol], start, end);
        self.room = self.room.saturating_sub(2);
        self.tail = match (symbol, self.tail) {
            (b'(', _) => Tail::Open,
            (b')', Tail::OpenValue) => Tail::Row,
            _ => Tail::Other,
        };
    }

    fn keyword(&mut self, word: &[u8], end: u32) {
        self.flush();
        self.sink.keyword(word, end);
        self.room = self.room.saturating_sub(word.len() + 1);
        self.tail = Tail::Other;
    }

    fn piece(&mut self, bytes: &[u8], (start, end): (u32, u32)) {
        self.flush();
        self.sink.piece(bytes, start, end);
        self.room = self.room.saturating_sub(bytes.len() + 1);
        self.tail = Tail::Other;
    }
}

/// What stands before a token, as far as it matters to what the token means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A value, a name, `)`: a sign behind it is an operator.
    Value,
    /// `(`, `,`, `=`: NULL behind it is a value.
    Opens,
    Other,
}

fn cut(sql: &[u8], dialect: Dialect, sink: &mut impl Sink) {
    let sql = &sql[..sql.len().min(MOST_READ)];
    let mut lexer = Lexer::new(sql, dialect);
    let mut lists = Lists {
        sink,
        tail: Tail::Other,
        held: Held::Nothing,
        room: MOST_TEXT,
    };
    let mut before = Before::Other;
    let mut token = lexer.token();
    while token.kind != sql::Kind::End && lists.room > 0 {
        let next = lexer.token();
        before = one(&mut lists, sql, (token, next), before);
        token = next;
    }
    lists.flush();
}

fn one<S: Sink>(
    lists: &mut Lists<'_, S>,
    sql: &[u8],
    (token, next): (Token, Token),
    before: Before,
) -> Before {
    let bytes = token.span.of(sql);
    let place = (token.span.start, token.span.end);
    match token.kind {
        sql::Kind::Number | sql::Kind::Text | sql::Kind::Parameter => {
            lists.value();
            Before::Value
        }
        sql::Kind::Word(Keyword::NULL) if before == Before::Opens => {
            lists.value();
            Before::Value
        }
        sql::Kind::Word(Keyword::OTHER) | sql::Kind::Name | sql::Kind::UserVariable => {
            lists.piece(bytes, place);
            Before::Value
        }
        sql::Kind::Word(_) => {
            lists.keyword(bytes, place.1);
            Before::Other
        }
        sql::Kind::SystemVariable | sql::Kind::Assign => {
            lists.piece(bytes, place);
            Before::Other
        }
        sql::Kind::Symbol(b'-' | b'+')
            if before != Before::Value && next.kind == sql::Kind::Number =>
        {
            before
        }
        // At the end it says nothing.
        sql::Kind::Symbol(b';') if next.kind == sql::Kind::End => before,
        sql::Kind::Symbol(symbol) => {
            lists.symbol(symbol, place);
            match symbol {
                b'(' | b',' | b'=' => Before::Opens,
                b')' => Before::Value,
                _ => Before::Other,
            }
        }
        sql::Kind::End => before,
    }
}
