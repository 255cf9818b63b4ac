//! The one error of this crate: a sentence for the person who started the build.

use std::fmt;

/// What went wrong, as a plain sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
