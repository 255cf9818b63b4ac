//! What a server begins with: version 10 of the handshake.

use super::{Capabilities, Reader, Status, error::Refusal, reader::put_zero_ended};

/// Bytes of the nonce of a greeting.
pub const NONCE: usize = 20;
/// The version of the handshake.
const VERSION: u8 = 10;

/// A server's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting<'p> {
    /// Of the server, for people and for drivers that look into it.
    pub version: &'p [u8],
    /// Of the connection, for `KILL`. Longer ids are cut to this by servers.
    pub connection: u32,
    /// What the first proof of the login is made with.
    pub nonce: [u8; NONCE],
    /// What the server can do.
    pub capabilities: Capabilities,
    /// The server's default collation, the lower byte of its number.
    pub collation: u8,
    /// At the beginning of a session.
    pub status: Status,
    /// The plugin of a login that the server begins with.
    pub plugin: &'p [u8],
}

/// What a first packet is, that is no error of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First<'p> {
    /// The server wants a login.
    Greeting(Greeting<'p>),
    /// It does not: too many connections, a host that is blocked.
    Refused(Refusal<'p>),
}

impl<'p> First<'p> {
    /// Reads a server's first packet; nothing where that is no MySQL, or one of before 4.1.
    #[must_use]
    pub fn read(payload: &'p [u8]) -> Option<Self> {
        let refused = Refusal::read(payload).map(Self::Refused);
        refused.or_else(|| Greeting::read(payload).map(Self::Greeting))
    }
}

impl<'p> Greeting<'p> {
    /// Reads a greeting.
    #[must_use]
    pub fn read(payload: &'p [u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        if reader.u8()? != VERSION {
            return None;
        }
        let version = reader.until_zero()?;
        let connection = reader.u32()?;
        let first: [u8; 8] = reader.array()?;
        reader.u8()?;
        let low = reader.u16()?;
        let collation = reader.u8()?;
        let status = Status(reader.u16()?);
        let high = reader.u16()?;
        let nonce_length = reader.u8()?;
        reader.take(6)?;
        let extended = reader.u32()?;
        // It ends with a zero, which counts.
        let rest = usize::from(nonce_length).saturating_sub(8).max(13);
        let second: &[u8; NONCE - 8] = reader.take(rest)?.first_chunk()?;
        let mut nonce = [0; NONCE];
        nonce[..8].copy_from_slice(&first);
        nonce[8..].copy_from_slice(second);
        let capabilities = u32::from(low) | u32::from(high) << 16;
        let capabilities = Capabilities::from_wire(capabilities, extended);
        capabilities.has(Capabilities::PROTOCOL_41).then_some(())?;
        Some(Self {
            version,
            connection,
            nonce,
            capabilities,
            collation,
            status,
            // Some end it with no zero.
            plugin: reader.until_zero_or_end(),
        })
    }

    /// Appends the payload.
    pub fn put(&self, out: &mut Vec<u8>) {
        let [low_a, low_b, high_a, high_b] = self.capabilities.bits().to_le_bytes();
        out.push(VERSION);
        put_zero_ended(out, self.version);
        out.extend_from_slice(&self.connection.to_le_bytes());
        out.extend_from_slice(&self.nonce[..8]);
        out.extend_from_slice(&[0, low_a, low_b, self.collation]);
        out.extend_from_slice(&self.status.0.to_le_bytes());
        out.extend_from_slice(&[high_a, high_b, NONCE as u8 + 1]);
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.capabilities.extended_bits().to_le_bytes());
        out.extend_from_slice(&self.nonce[8..]);
        out.push(0);
        put_zero_ended(out, self.plugin);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// MariaDB's.
    fn packet() -> Vec<u8> {
        let mut packet = b"\x0a5.5.5-10.11.6-MariaDB\0\x08\0\0\0abcdefgh\0".to_vec();
        packet.extend_from_slice(b"\xfe\xf7\x2d\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0");
        packet.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
        packet
    }

    #[test]
    fn a_greeting_of_mariadb_is_read() {
        let packet = packet();
        let greeting = Greeting::read(&packet).unwrap();
        assert_eq!(greeting.version, b"5.5.5-10.11.6-MariaDB");
        assert_eq!(greeting.connection, 8);
        assert_eq!(&greeting.nonce, b"abcdefghijklmnopqrst");
        assert_eq!(greeting.plugin, b"mysql_native_password");
        assert_eq!(greeting.capabilities, Capabilities(0x1d_81ff_f7fe));
        assert_eq!((greeting.collation, greeting.status), (45, Status(2)));
        for length in 0..packet.len() - 24 {
            assert_eq!(Greeting::read(&packet[..length]), None, "{length}");
        }
        let mut out = Vec::new();
        greeting.put(&mut out);
        assert_eq!(out, packet);
    }

    #[test]
    fn a_nonce_without_a_length_has_the_length_of_all() {
        let mut packet = packet();
        let at = packet.iter().position(|byte| *byte == 0x15).unwrap();
        packet[at] = 0;
        let greeting = Greeting::read(&packet).unwrap();
        assert_eq!(&greeting.nonce, b"abcdefghijklmnopqrst");
        assert_eq!(greeting.plugin, b"mysql_native_password");
    }

    #[test]
    fn a_server_that_is_full_says_so_first() {
        let first = First::read(b"\xff\x10\x04Too many connections");
        assert!(matches!(first, Some(First::Refused(error)) if error.code == 1040));
        assert!(matches!(First::read(&packet()), Some(First::Greeting(_))));
        assert_eq!(First::read(b"SSH-2.0-OpenSSH\r\n"), None);
    }

    proptest! {
        #[test]
        fn what_is_made_is_read(
            version in "[^\0]*", plugin in "[^\0]*", connection: u32, nonce: [u8; NONCE], bits: u64,
            collation: u8, status: u16
        ) {
            let bits = Capabilities(bits & 0xff_ffff_ffff).with(Capabilities::PROTOCOL_41);
            let greeting = Greeting {
                version: version.as_bytes(),
                connection,
                nonce,
                capabilities: Capabilities::from_wire(bits.bits(), bits.extended_bits()),
                collation,
                status: Status(status),
                plugin: plugin.as_bytes(),
            };
            let mut out = Vec::new();
            greeting.put(&mut out);
            prop_assert_eq!(Greeting::read(&out), Some(greeting));
        }

        #[test]
        fn garbage_is_no_panic(mut payload in proptest::collection::vec(any::<u8>(), 1..200)) {
            let _ = First::read(&payload);
            payload[0] = VERSION;
            let _ = First::read(&payload);
        }
    }
}
