//! `COM_CHANGE_USER`: a login on a connection that has one already.

use super::{
    Capabilities, Malformed, Reader, attributes::Attributes, reader::put_zero_ended,
    response::LONGEST_NAME,
};

/// Its first byte.
pub const CHANGE_USER: u8 = 0x11;

/// A login anew. It resets the session whether it succeeds or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeUser<'p> {
    /// Who.
    pub user: &'p [u8],
    /// What the plugin says first; servers mostly ask anew.
    pub proof: &'p [u8],
    /// The default database; empty for none.
    pub database: &'p [u8],
    /// Of the session.
    pub collation: Option<u16>,
    /// The plugin that the proof is of. One without a name is of a client that knows plugins, and
    /// can be asked by another.
    pub plugin: Option<&'p [u8]>,
    /// What the client says of itself.
    pub attributes: Attributes<'p>,
}

impl<'p> ChangeUser<'p> {
    /// Reads the payload, its first byte included, from a client with these capabilities.
    ///
    /// # Errors
    /// When it is malformed; servers answer with error 1047 and close.
    pub fn read(payload: &'p [u8], capabilities: Capabilities) -> Result<Self, Malformed> {
        Self::parse(payload, capabilities).ok_or(Malformed)
    }

    fn parse(payload: &'p [u8], capabilities: Capabilities) -> Option<Self> {
        let mut reader = Reader(payload.strip_prefix(&[CHANGE_USER])?);
        let user = reader.until_zero()?;
        let proof = if capabilities.has(Capabilities::SECURE_CONNECTION) {
            let length = reader.u8()?;
            reader.take(length.into())?
        } else {
            reader.until_zero()?
        };
        let database = reader.until_zero_or_end();
        let collation = reader.u16();
        let has_plugins = capabilities.has(Capabilities::PLUGIN_AUTH);
        let plugin = has_plugins.then(|| reader.until_zero_or_end());
        let has_attributes =
            capabilities.has(Capabilities::CONNECT_ATTRIBUTES) && !reader.is_empty();
        let attributes = if has_attributes {
            Attributes::read(&mut reader)?
        } else {
            Attributes::default()
        };
        (user.len().max(database.len()) <= LONGEST_NAME).then_some(Self {
            user,
            proof,
            database,
            collation,
            plugin,
            attributes,
        })
    }

    /// Appends the payload, for a server with which these capabilities were agreed on.
    pub fn put(&self, capabilities: Capabilities, out: &mut Vec<u8>) {
        out.push(CHANGE_USER);
        put_zero_ended(out, self.user);
        // Longer ones are sent when the server asks.
        let proof = match u8::try_from(self.proof.len()) {
            Ok(length) => {
                out.push(length);
                self.proof
            }
            Err(_) => {
                out.push(0);
                &[]
            }
        };
        out.extend_from_slice(proof);
        put_zero_ended(out, self.database);
        let Some(collation) = self.collation else {
            return;
        };
        out.extend_from_slice(&collation.to_le_bytes());
        if capabilities.has(Capabilities::PLUGIN_AUTH) {
            put_zero_ended(out, self.plugin.unwrap_or_default());
            if capabilities.has(Capabilities::CONNECT_ATTRIBUTES) {
                self.attributes.put(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::attributes::put_attribute;

    const ALL: Capabilities = Capabilities(!0);

    #[test]
    fn it_is_read_from_clients_of_every_length() {
        let packet = b"\x11app\0\x02\x01\x02db\0\x2d\0plugin\0\x04\x01a\x01b";
        let read = ChangeUser::read(packet, ALL).unwrap();
        let expected = ChangeUser {
            user: b"app",
            proof: &[1, 2],
            database: b"db",
            collation: Some(45),
            plugin: Some(b"plugin"),
            attributes: Attributes::made(b"\x01a\x01b"),
        };
        assert_eq!(read, expected);
        let short = ChangeUser::read(b"\x11app\0\0\0", ALL).unwrap();
        let expected = ChangeUser {
            user: b"app",
            plugin: Some(b""),
            ..ChangeUser::default()
        };
        assert_eq!(short, expected);
        let old = ChangeUser::read(b"\x11app\0\0\0", Capabilities::SECURE_CONNECTION).unwrap();
        assert_eq!(old.plugin, None);
        for malformed in [&b"\x11app"[..], b"\x11app\0\x09abc", b"\x03app\0\0\0", b""] {
            assert_eq!(ChangeUser::read(malformed, ALL), Err(Malformed));
        }
    }

    proptest! {
        #[test]
        fn what_is_made_is_read(
            user in "[^\0]*", database in "[^\0]*", plugin in "[^\0]*", collation: u16,
            proof in proptest::collection::vec(any::<u8>(), 0..256), name in ".*", value in ".*"
        ) {
            let mut attributes = Vec::new();
            put_attribute(&mut attributes, &name, &value);
            let made = ChangeUser {
                user: user.as_bytes(),
                proof: &proof,
                database: database.as_bytes(),
                collation: Some(collation),
                plugin: Some(plugin.as_bytes()),
                attributes: Attributes::made(&attributes),
            };
            let mut out = Vec::new();
            made.put(ALL, &mut out);
            prop_assert_eq!(ChangeUser::read(&out, ALL), Ok(made));
        }

        #[test]
        fn garbage_is_no_panic(mut payload in proptest::collection::vec(any::<u8>(), 1..200)) {
            payload[0] = CHANGE_USER;
            let _ = ChangeUser::read(&payload, ALL);
            let _ = ChangeUser::read(&payload, Capabilities::NONE);
        }
    }
}
