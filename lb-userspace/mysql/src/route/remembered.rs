//! What a session has set, as statements that set it again on another connection.

use std::fmt::Write as _;

/// A statement that sets something again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What it sets, in lower case; a later setting of the same takes its place.
    key: Vec<u8>,
    /// The statement.
    pub statement: Vec<u8>,
    /// Grows with every setting of the session; see [`Remembered::number`].
    pub number: u64,
    /// Whether a replica needs it: some variables matter to writes alone.
    pub for_replicas: bool,
    /// Whether it sets a user variable to a string.
    is_user_text: bool,
}

/// A session's settings, in the order in which they were made, bounded.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    settings: Vec<Setting>,
    number: u64,
    bytes: usize,
}

/// More settings than this, or more bytes, are not carried from one server to another.
const MOST_SETTINGS: usize = 128;
const MOST_BYTES: usize = 16 * 1024;

impl Remembered {
    /// The settings, to be done in this order.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// The number of the newest setting. A connection on which this session has done all settings
    /// up to a number needs those above it.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Keeps a setting. False when there are too many.
    #[must_use]
    pub(super) fn keep(&mut self, key: &[u8], statement: Vec<u8>, for_replicas: bool) -> bool {
        self.forget(key);
        let bytes = key.len() + statement.len();
        if self.settings.len() >= MOST_SETTINGS || self.bytes + bytes > MOST_BYTES {
            return false;
        }
        self.number += 1;
        self.bytes += bytes;
        let is_user_text =
            key.first() == Some(&b'@') && statement.iter().any(|byte| b"'\"".contains(byte));
        self.settings.push(Setting {
            key: key.to_ascii_lowercase(),
            statement,
            number: self.number,
            for_replicas,
            is_user_text,
        });
        true
    }

    /// Whether this statement was the last that was kept.
    pub(super) fn ends_with(&self, statement: &[u8]) -> bool {
        let last = self.settings.last();
        last.is_some_and(|setting| setting.statement == statement)
    }

    /// Forgets a setting, if there is one.
    pub(super) fn forget(&mut self, key: &[u8]) {
        let place = self
            .settings
            .iter()
            .position(|setting| setting.key.eq_ignore_ascii_case(key));
        if let Some(place) = place {
            let setting = self.settings.remove(place);
            self.bytes -= setting.key.len() + setting.statement.len();
        }
    }

    /// Forgets user variables that are strings, whose bytes mean something else from now on. Gives
    /// their names.
    pub(super) fn forget_user_texts(&mut self) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let bytes = &mut self.bytes;
        self.settings.retain(|setting| {
            if setting.is_user_text {
                *bytes -= setting.key.len() + setting.statement.len();
                names.push(setting.key.get(1..).unwrap_or_default().to_vec());
            }
            !setting.is_user_text
        });
        names
    }
}

/// `SET SESSION name = value`.
pub(super) fn set_session(name: &[u8], value: &[u8]) -> Vec<u8> {
    [b"SET SESSION ", &quoted(name)[..], b" = ", value].concat()
}

/// `SET @name = value`.
pub(super) fn set_user(name: &[u8], value: &[u8]) -> Vec<u8> {
    [b"SET @", &quoted(name)[..], b" = ", value].concat()
}

/// A name in backticks.
pub(super) fn quoted(name: &[u8]) -> Vec<u8> {
    let mut text = vec![b'`'];
    for &byte in name {
        text.push(byte);
        if byte == b'`' {
            text.push(byte);
        }
    }
    text.push(b'`');
    text
}

/// A value that a server told, as SQL. None for bytes that no variable has.
pub(super) fn told_value(value: &[u8]) -> Option<Vec<u8>> {
    let is_number = !value.is_empty()
        && value.len() < 24
        && value
            .iter()
            .all(|byte| byte.is_ascii_digit() || b"+-.".contains(byte))
        && std::str::from_utf8(value).is_ok_and(|text| text.parse::<f64>().is_ok());
    if is_number {
        return Some(value.to_vec());
    }
    if !value.is_ascii() {
        return None;
    }
    // In hexadecimal, so that no mode and no character set has a say.
    let mut text = String::from("_utf8mb4 0x");
    for byte in value {
        write!(text, "{byte:02x}").ok()?;
    }
    if value.is_empty() {
        text = "''".to_owned();
    }
    Some(text.into_bytes())
}
