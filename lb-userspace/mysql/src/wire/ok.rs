//! OK packets and EOF packets: the two ways in which a command or its rows end well.
//!
//! With [`Capabilities::DEPRECATE_EOF`] rows end with an OK packet whose first byte is that of EOF;
//! without it with an EOF packet of five bytes. Both are a [`Done`] here, so that one can be made
//! from the other.

use super::{
    Capabilities, Malformed, Reader, Status,
    reader::{put_number, put_text},
    track::Trackers,
};

/// The first byte of an OK packet.
pub const OK: u8 = 0;
/// The first byte of an EOF packet, and of an OK packet in its place.
pub const EOF: u8 = 0xfe;
/// A row that begins with a text of 16 MiB has at least that many bytes.
const SHORTEST_LONG_ROW: usize = 9;

/// A good end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done<'p> {
    /// Whether it stands where an EOF packet would: behind rows, mostly.
    pub is_end: bool,
    /// Rows that were changed.
    pub affected: u64,
    /// The last value of `AUTO_INCREMENT`.
    pub insert_id: u64,
    /// Of the server.
    pub status: Status,
    /// Number of warnings.
    pub warnings: u16,
    /// For people.
    pub info: &'p [u8],
    /// What has changed in the session.
    pub trackers: Trackers<'p>,
}

impl<'p> Done<'p> {
    /// Reads an OK or an EOF packet of a connection with these capabilities. Trackers are read when
    /// somebody looks at them.
    ///
    /// # Errors
    /// When it is neither.
    pub fn read(payload: &'p [u8], capabilities: Capabilities) -> Result<Self, Malformed> {
        Self::parse(payload, capabilities).ok_or(Malformed)
    }

    #[inline]
    fn parse(payload: &'p [u8], capabilities: Capabilities) -> Option<Self> {
        if let &[EOF, a, b, c, d] = payload {
            return Some(Self {
                is_end: true,
                warnings: u16::from_le_bytes([a, b]),
                status: Status(u16::from_le_bytes([c, d])),
                ..Self::default()
            });
        }
        let mut reader = Reader(payload);
        let first = reader.u8()?;
        if first != OK && first != EOF {
            return None;
        }
        let affected = reader.number()?;
        let insert_id = reader.number()?;
        let status = Status(reader.u16()?);
        let warnings = reader.u16()?;
        let tracks = capabilities.has(Capabilities::SESSION_TRACK);
        let (info, trackers) = if reader.is_empty() {
            Default::default()
        } else if tracks {
            let info = reader.text()?;
            let changed = status.has(Status::SESSION_STATE_CHANGED) && !reader.is_empty();
            let trackers = if changed { reader.text()? } else { &[] };
            (info, Trackers(trackers))
        } else {
            // The manual says that there is no length, and servers send one.
            let mut text = reader;
            let text = text.text().filter(|_| text.is_empty());
            (text.unwrap_or(reader.0), Trackers::default())
        };
        Some(Self {
            is_end: first == EOF,
            affected,
            insert_id,
            status,
            warnings,
            info,
            trackers,
        })
    }

    /// Appends the payload as a client with these capabilities expects it, with the trackers if it
    /// can have them.
    pub fn put(&self, capabilities: Capabilities, out: &mut Vec<u8>) {
        let changed = Status::SESSION_STATE_CHANGED;
        let tracks = capabilities.has(Capabilities::SESSION_TRACK) && !self.trackers.is_empty();
        let is_short = self.is_end && !capabilities.has(Capabilities::DEPRECATE_EOF);
        let status = match (tracks, self.trackers.is_empty()) {
            (true, _) => self.status.with(changed),
            // MariaDB sets it in EOF packets, where nothing can follow.
            (false, true) if is_short => self.status,
            // A client that sees the flag reads on.
            (false, _) => self.status.without(changed),
        };
        if is_short {
            out.push(EOF);
            out.extend_from_slice(&self.warnings.to_le_bytes());
            out.extend_from_slice(&status.0.to_le_bytes());
            return;
        }
        out.push(if self.is_end { EOF } else { OK });
        put_number(out, self.affected);
        put_number(out, self.insert_id);
        out.extend_from_slice(&status.0.to_le_bytes());
        out.extend_from_slice(&self.warnings.to_le_bytes());
        if tracks {
            put_text(out, self.info);
            put_text(out, self.trackers.0);
        } else if !self.info.is_empty() {
            put_text(out, self.info);
        }
    }

    /// Whether a client with these capabilities can have the packet as the server sent it, on a
    /// connection of the same [`Capabilities::DEPRECATE_EOF`].
    #[must_use]
    pub const fn fits(&self, client: Capabilities) -> bool {
        client.has(Capabilities::SESSION_TRACK) || !self.status.has(Status::SESSION_STATE_CHANGED)
    }
}

/// Whether a payload of that length, with that first byte, is the end of rows rather than a row.
/// Without EOF packets the end may be long, and rows of 16 MiB begin with the same byte.
#[must_use]
#[inline]
pub const fn ends_rows(first: u8, length: usize, capabilities: Capabilities) -> bool {
    first == EOF
        && if capabilities.has(Capabilities::DEPRECATE_EOF) {
            length < super::packet::FULL
        } else {
            // Clients take all of these for the end, so that none of them may pass as a row.
            length < SHORTEST_LONG_ROW
        }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::track::Tracked;

    const TRACK: Capabilities = Capabilities::SESSION_TRACK;
    const NEW: Capabilities = Capabilities::DEPRECATE_EOF.with(TRACK);

    #[test]
    fn packets_are_read_as_servers_send_them() {
        for (payload, expected) in [
            (&b"\0\0\0\x02\0\0\0"[..], Done::default()),
            (
                b"\0\x01\xfc\x2c\x01\x02\0\x03\0\x04info",
                Done {
                    affected: 1,
                    insert_id: 300,
                    warnings: 3,
                    info: b"info",
                    ..Done::default()
                },
            ),
            (
                b"\0\0\0\x02\x40\0\0\0\x06\x01\x04\x03abc",
                Done {
                    status: Status(0x4002),
                    trackers: Trackers(b"\x01\x04\x03abc"),
                    ..Done::default()
                },
            ),
            (
                b"\xfe\x01\0\x02\0",
                Done {
                    is_end: true,
                    warnings: 1,
                    ..Done::default()
                },
            ),
            (
                b"\xfe\0\0\x02\0\x01\0",
                Done {
                    is_end: true,
                    warnings: 1,
                    ..Done::default()
                },
            ),
        ] {
            let expected = Done {
                status: expected.status.with(Status::AUTOCOMMIT),
                ..expected
            };
            let done = Done::read(payload, TRACK).unwrap();
            assert_eq!(done, expected, "{payload:?}");
            let of = if payload.len() == 5 { TRACK } else { NEW };
            let mut out = Vec::new();
            done.put(of, &mut out);
            assert_eq!(out, payload);
        }
        for malformed in [
            &b""[..],
            b"\0",
            b"\0\0\0\x02",
            b"\x01\0\0\x02\0\0\0",
            b"\xfe\0",
        ] {
            assert_eq!(
                Done::read(malformed, TRACK),
                Err(Malformed),
                "{malformed:?}"
            );
        }
    }

    #[test]
    fn a_client_gets_what_it_can_read() {
        let payload = b"\xfe\0\0\x02\x40\x05\0\0\x05\x01\x03\x02ab";
        let done = Done::read(payload, NEW).unwrap();
        let tracked: Vec<_> = done.trackers.iter().collect();
        assert_eq!(tracked, [Ok(Tracked::Schema(b"ab"))]);
        for (client, expected) in [
            (NEW, &payload[..]),
            (Capabilities::DEPRECATE_EOF, b"\xfe\0\0\x02\0\x05\0"),
            (Capabilities::NONE, b"\xfe\x05\0\x02\0"),
        ] {
            let mut out = Vec::new();
            done.put(client, &mut out);
            assert_eq!(out, expected, "{client:?}");
            assert_eq!(done.fits(client), client == NEW);
        }
    }

    #[test]
    fn what_does_not_follow_is_not_announced() {
        let done = Done {
            status: Status::AUTOCOMMIT.with(Status::SESSION_STATE_CHANGED),
            info: b"ok",
            ..Done::default()
        };
        let mut out = Vec::new();
        done.put(NEW, &mut out);
        assert_eq!(out, b"\0\0\0\x02\0\0\0\x02ok");
    }

    #[test]
    fn info_is_read_with_and_without_its_length() {
        for payload in [&b"\0\0\0\x02\0\0\0\x02ok"[..], b"\0\0\0\x02\0\0\0ok"] {
            let done = Done::read(payload, Capabilities::NONE).unwrap();
            assert_eq!(done.info, b"ok");
        }
    }

    #[test]
    fn what_a_client_would_take_for_an_end_is_none_of_the_rows() {
        let old = Capabilities::NONE;
        assert!(ends_rows(EOF, 5, old) && ends_rows(EOF, 8, old) && ends_rows(EOF, 9, NEW));
        assert!(!ends_rows(EOF, 9, old) && !ends_rows(EOF, 89, old));
        assert!(!ends_rows(0xfd, 5, old) && !ends_rows(0xfd, 5, NEW));
        assert!(!ends_rows(EOF, crate::wire::packet::FULL, NEW));
    }

    proptest! {
        #[test]
        fn what_is_made_is_read(
            is_end: bool, affected: u64, insert_id: u64, status: u16, warnings: u16, info: Vec<u8>,
            tracked in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let changed = Status::SESSION_STATE_CHANGED;
            let status = if tracked.is_empty() {
                Status(status).without(changed)
            } else {
                Status(status).with(changed)
            };
            let trackers = Trackers(&tracked);
            let done = Done { is_end, affected, insert_id, status, warnings, info: &info, trackers };
            let mut out = Vec::new();
            done.put(NEW, &mut out);
            prop_assert_eq!(Done::read(&out, NEW), Ok(done));
        }

        #[test]
        fn garbage_is_no_panic(mut payload in proptest::collection::vec(any::<u8>(), 1..100)) {
            payload[0] = if payload[0] & 1 == 0 { OK } else { EOF };
            let _ = Done::read(&payload, NEW);
            let _ = Done::read(&payload, Capabilities::NONE);
        }
    }
}
