//! The servers' spelling, piece by piece, without a copy.

use super::{
    super::{Family, GtidError, Tag, Uuid},
    Interval,
};

/// The intervals that a text names, each with whose it is.
#[derive(Clone, Debug)]
pub(super) struct Pieces<'t> {
    text: &'t [u8],
    at: usize,
    /// Whose numbers come next; nothing where a server has to be named.
    source: Option<(Uuid, Tag)>,
    has_ended: bool,
}

impl<'t> Pieces<'t> {
    pub(super) const fn of(text: &'t str) -> Self {
        Self {
            text: text.as_bytes(),
            at: 0,
            source: None,
            has_ended: false,
        }
    }

    fn rest(&self) -> &'t [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<u8> {
        while self.rest().first().is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.rest().first().copied()
    }

    fn wrong(&mut self, wanted: &'static str) -> GtidError {
        self.has_ended = true;
        GtidError {
            family: Family::MySql,
            at: self.at,
            wanted,
        }
    }

    /// The next word of letters, digits and underscores.
    fn word(&mut self) -> &'t [u8] {
        let rest = self.rest();
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let length = rest.iter().take_while(|byte| fits(byte)).count();
        self.at += length;
        &rest[..length]
    }

    fn number(&mut self) -> Result<u64, GtidError> {
        self.peek();
        let before = self.at;
        let mut number: u64 = 0;
        for digit in self.rest().iter().take_while(|byte| byte.is_ascii_digit()) {
            number = number
                .saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        if self.at == before || !(1..=Interval::GREATEST).contains(&number) {
            self.at = before;
            return Err(self.wrong("a number from 1 to 9223372036854775806"));
        }
        Ok(number)
    }

    fn interval(&mut self) -> Result<Interval, GtidError> {
        let first = self.number()?;
        let mut last = first;
        if self.peek() == Some(b'-') {
            self.at += 1;
            last = self.number()?;
            if last < first {
                return Err(self.wrong("the end of an interval, at least its beginning"));
            }
        }
        match self.peek() {
            None | Some(b':' | b',') => Ok(Interval { first, last }),
            Some(_) => Err(self.wrong("a \"-\", \":\" or \",\"")),
        }
    }

    fn piece(&mut self) -> Result<Option<(Uuid, Tag, Interval)>, GtidError> {
        loop {
            match self.peek() {
                None => return Ok(None),
                // The servers take empty parts as well.
                Some(b',') => {
                    self.at += 1;
                    self.source = None;
                    continue;
                }
                Some(_) => {}
            }
            let (uuid, tag) = match self.source {
                Some(source) => source,
                None => {
                    let uuid = self.rest().get(..Uuid::TEXT).and_then(Uuid::parse);
                    let uuid = uuid.ok_or_else(|| self.wrong("a server's UUID"))?;
                    self.at += Uuid::TEXT;
                    *self.source.insert((uuid, Tag::NONE))
                }
            };
            if self.peek() != Some(b':') {
                return Err(self.wrong("a \":\""));
            }
            self.at += 1;
            match self.peek() {
                Some(byte) if byte.is_ascii_alphabetic() || byte == b'_' => {
                    let before = self.at;
                    let Some(tag) = Tag::parse(self.word()) else {
                        self.at = before;
                        return Err(self.wrong("a tag of at most 32 characters"));
                    };
                    if self.peek() != Some(b':') {
                        return Err(self.wrong("a \":\" and a number"));
                    }
                    self.source = Some((uuid, tag));
                }
                Some(_) | None => return Ok(Some((uuid, tag, self.interval()?))),
            }
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<(Uuid, Tag, Interval), GtidError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        self.piece().transpose()
    }
}
