//! ERR packets.

use super::Reader;

/// The first byte of an ERR packet.
pub const ERR: u8 = 0xff;
/// The code of MariaDB's reports of progress, which are no errors.
pub const PROGRESS: u16 = 0xffff;
/// Bytes of a message that servers send at most; what is made here is cut to it.
pub const LONGEST_MESSAGE: usize = 512;

/// What a server refuses with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'p> {
    /// Of the error.
    pub code: u16,
    /// The state by SQL's standard. Before a login there is none.
    pub state: Option<[u8; 5]>,
    /// For people, in the character set of the results.
    pub message: &'p [u8],
}

impl<'p> Refusal<'p> {
    /// The error that a payload is, if it is one.
    #[must_use]
    pub fn read(payload: &'p [u8]) -> Option<Self> {
        let mut reader = Reader(payload.strip_prefix(&[ERR])?);
        let code = reader.u16()?;
        let (state, message) = match *reader.0 {
            [b'#', a, b, c, d, e, ref message @ ..] => (Some([a, b, c, d, e]), message),
            ref message => (None, message),
        };
        Some(Self {
            code,
            state,
            message,
        })
    }

    /// An error of our own, as it stands in MySQL's list.
    #[must_use]
    pub const fn new(code: u16, state: &[u8; 5], message: &'p str) -> Self {
        Self {
            code,
            state: Some(*state),
            message: message.as_bytes(),
        }
    }

    /// Appends the payload. The state is left out for clients older than 4.1.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.push(ERR);
        out.extend_from_slice(&self.code.to_le_bytes());
        if let Some(state) = &self.state {
            out.push(b'#');
            out.extend_from_slice(state);
        }
        let length = self.message.len().min(LONGEST_MESSAGE);
        out.extend_from_slice(&self.message[..length]);
    }

    /// Whether it is no error but a report of progress of MariaDB's.
    #[must_use]
    pub const fn is_progress(&self) -> bool {
        self.code == PROGRESS
    }

    /// Whether the server closes the connection behind it: an idle one that was closed or killed,
    /// a shutdown.
    #[must_use]
    pub const fn is_farewell(&self) -> bool {
        // Forced close, shutdown, read error and time-out, MariaDB's kill, MySQL's time-out.
        matches!(
            self.code,
            1053 | 1079 | 1080 | 1152 | 1159 | 1927 | 3169 | 4031
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_are_read_with_and_without_a_state() {
        let with = Refusal::new(1040, b"08004", "Too many");
        let without = Refusal {
            state: None,
            ..with
        };
        for (error, payload) in [
            (without, &b"\xff\x10\x04Too many"[..]),
            (with, b"\xff\x10\x04#08004Too many"),
        ] {
            assert_eq!(Refusal::read(payload), Some(error));
            let mut out = Vec::new();
            error.put(&mut out);
            assert_eq!(out, payload);
        }
        assert_eq!(Refusal::read(b"\x00\x10\x00"), None);
        assert_eq!(Refusal::read(b"\xff\x10"), None);
    }

    proptest! {
        #[test]
        fn what_is_made_is_read(code: u16, state: [u8; 5], text in "[^#].{0,99}") {
            let error = Refusal::new(code, &state, &text);
            let mut out = Vec::new();
            error.put(&mut out);
            prop_assert_eq!(Refusal::read(&out), Some(error));
        }
    }
}
