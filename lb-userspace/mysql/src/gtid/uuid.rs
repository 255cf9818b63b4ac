//! What MySQL tells sources of transactions apart by.

use std::fmt;

/// A server's `server_uuid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// Length of the text.
    pub(super) const TEXT: usize = 36;

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// From its 36 characters, in capitals or not.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != Self::TEXT {
            return None;
        }
        let mut bytes = [0; 16];
        let mut digits = 0;
        for (index, &character) in text.iter().enumerate() {
            if matches!(index, 8 | 13 | 18 | 23) {
                if character != b'-' {
                    return None;
                }
                continue;
            }
            let digit = match character {
                b'0'..=b'9' => character - b'0',
                b'a'..=b'f' => character - b'a' + 10,
                b'A'..=b'F' => character - b'A' + 10,
                _ => return None,
            };
            let byte = bytes.get_mut(digits / 2)?;
            *byte = *byte << 4 | digit;
            digits += 1;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let dash = if matches!(index, 4 | 6 | 8 | 10) {
                "-"
            } else {
                ""
            };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

/// What MySQL 8.3 and later may set a server's transactions apart by; mostly empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; Tag::MOST]);

impl Tag {
    /// The longest tag.
    pub(super) const MOST: usize = 32;

    /// No tag.
    pub const NONE: Self = Self([0; Self::MOST]);

    /// From a text of 1 to 32 letters, digits and underscores that does not begin with a digit.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (first, _) = text.split_first()?;
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if first.is_ascii_digit() || text.len() > Self::MOST || !text.iter().all(fits) {
            return None;
        }
        let mut bytes = [0; Self::MOST];
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = from.to_ascii_lowercase();
        }
        Some(Self(bytes))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0[0] == 0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = self.0.iter().take_while(|byte| **byte != 0);
        for letter in letters {
            write!(f, "{}", char::from(*letter))?;
        }
        Ok(())
    }
}
