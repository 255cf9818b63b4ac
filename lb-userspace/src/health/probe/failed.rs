//! Why there was no answer, in a sentence.

use std::io;

use super::Result;

/// Why a check has no answer to judge.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::health) struct Failed {
    pub(in crate::health) result: Result,
    pub(in crate::health) words: String,
}

impl Failed {
    /// The backend is to blame.
    pub(in crate::health) fn because(words: impl Into<String>) -> Self {
        Self {
            result: Result::Failure,
            words: words.into(),
        }
    }

    /// This machine is to blame.
    pub(in crate::health) fn not_asked(why: impl std::fmt::Display) -> Self {
        Self {
            result: Result::NotAsked,
            words: format!("not checked: {why}"),
        }
    }

    pub(in crate::health) fn to_connect(error: &io::Error) -> Self {
        let words = system_words(error);
        match error.raw_os_error() {
            // What this machine lacks is not the backend's fault.
            Some(
                libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EADDRNOTAVAIL
                | libc::EAGAIN,
            ) => Self::not_asked(words),
            Some(libc::ECONNREFUSED) => Self::because("connect refused"),
            _ => Self::because(format!("connect failed: {words}")),
        }
    }
}

/// "no route to host", without a number.
pub(in crate::health) fn system_words(error: &io::Error) -> String {
    let words = error.to_string();
    let plain = words.split(" (os error").next().unwrap_or_default();
    plain.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_not_held_against_the_backend() {
        let failed = Failed::to_connect(&io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(failed.result, Result::NotAsked);
        assert_eq!(failed.words, "not checked: too many open files");
        let failed = Failed::to_connect(&io::Error::from_raw_os_error(libc::EHOSTUNREACH));
        assert_eq!(failed.result, Result::Failure);
        assert_eq!(failed.words, "connect failed: no route to host");
    }
}
