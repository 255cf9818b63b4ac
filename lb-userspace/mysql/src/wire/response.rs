//! What a client answers to a greeting: the request for TLS, and the login.

use super::{
    Capabilities, Malformed, Reader,
    attributes::Attributes,
    error::Refusal,
    reader::{put_text, put_zero_ended},
};

/// Bytes of a user's or a database's name at most: 64 characters and then some.
pub const LONGEST_NAME: usize = 1024;
/// Bytes of a packet of a login at most; most of it are attributes.
pub const MOST_LOGIN: usize = 128 << 10;

/// The beginning of a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// What the client can do of what the server offered.
    pub capabilities: Capabilities,
    /// The longest packet that the client takes, for information.
    pub most_packet: u32,
    /// Of the session. Numbers above 255 are sent by few clients.
    pub collation: u16,
}

/// What a client says after the greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'p> {
    /// TLS comes next, and the answer once more.
    TlsRequest(Head),
    /// A login.
    Login(Response<'p>),
}

/// Why a client is not let in before a server has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its protocol is that of before MySQL 4.1.
    #[error("the client's protocol is older than MySQL 4.1")]
    TooOld,
    /// Its bytes are not the protocol's.
    #[error("the client's login is malformed")]
    Malformed,
}

impl Refused {
    /// What a server would say to such a client.
    #[must_use]
    pub const fn refusal(self) -> Refusal<'static> {
        match self {
            Self::TooOld => Refusal {
                state: None,
                ..Refusal::new(
                    1251,
                    b"08004",
                    "Client does not support authentication protocol requested by server; consider \
                     upgrading MySQL client",
                )
            },
            Self::Malformed => Refusal::new(1043, b"08S01", "Bad handshake"),
        }
    }
}

impl From<Malformed> for Refused {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// A login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Response<'p> {
    /// Its beginning.
    pub head: Head,
    /// Who.
    pub user: &'p [u8],
    /// What the plugin says first.
    pub proof: &'p [u8],
    /// The default database.
    pub database: Option<&'p [u8]>,
    /// The plugin that the proof is of. One without a name is of a client that knows plugins, and
    /// can be asked by another.
    pub plugin: Option<&'p [u8]>,
    /// What the client says of itself.
    pub attributes: Attributes<'p>,
    /// The level of compression that the client wants.
    pub zstd_level: Option<u8>,
}

impl Head {
    /// Reads 32 bytes.
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let bits = reader.u32()?;
        let most_packet = reader.u32()?;
        let collation = reader.u16()?;
        reader.take(18)?;
        let extended = reader.u32()?;
        Some(Self {
            capabilities: Capabilities::from_wire(bits, extended),
            most_packet,
            collation,
        })
    }

    /// Appends 32 bytes.
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.capabilities.bits().to_le_bytes());
        out.extend_from_slice(&self.most_packet.to_le_bytes());
        out.extend_from_slice(&self.collation.to_le_bytes());
        out.extend_from_slice(&[0; 18]);
        out.extend_from_slice(&self.capabilities.extended_bits().to_le_bytes());
    }
}

impl<'p> Answer<'p> {
    /// Reads what a client says to a greeting that offered these capabilities. What it claims
    /// beyond them does not count.
    ///
    /// # Errors
    /// When that is no login, or one of an old client; [`Refused::refusal`] is the answer to it.
    pub fn read(payload: &'p [u8], offered: Capabilities) -> Result<Self, Refused> {
        let mut reader = Reader(payload);
        // Older clients have no more than 16 of them.
        let low = Reader(payload).u16().ok_or(Refused::Malformed)?;
        if !Capabilities(low.into()).has(Capabilities::PROTOCOL_41) {
            return Err(Refused::TooOld);
        }
        let claimed = Head::read(&mut reader).ok_or(Refused::Malformed)?;
        let claims = claimed.capabilities;
        let head = Head {
            capabilities: claims & offered,
            ..claimed
        };
        if reader.is_empty() && head.capabilities.has(Capabilities::TLS) {
            return Ok(Self::TlsRequest(head));
        }
        let response = Response::read(reader, claims).ok_or(Refused::Malformed)?;
        Ok(Self::Login(Response { head, ..response }))
    }
}

impl<'p> Response<'p> {
    /// The layout follows what the client claims, as it does for servers.
    fn read(mut reader: Reader<'p>, claims: Capabilities) -> Option<Self> {
        let user = reader.until_zero()?;
        let proof = if claims.has(Capabilities::LONG_PROOF) {
            reader.text()?
        } else if claims.has(Capabilities::SECURE_CONNECTION) {
            let length = reader.u8()?;
            reader.take(length.into())?
        } else {
            reader.until_zero_or_end()
        };
        let names_database = claims.has(Capabilities::CONNECT_WITH_DATABASE) && !reader.is_empty();
        let database = names_database.then(|| reader.until_zero_or_end());
        let has_plugins = claims.has(Capabilities::PLUGIN_AUTH);
        let plugin = has_plugins.then(|| reader.until_zero_or_end());
        let has_attributes = claims.has(Capabilities::CONNECT_ATTRIBUTES) && !reader.is_empty();
        let attributes = if has_attributes {
            Attributes::read(&mut reader)?
        } else {
            Attributes::default()
        };
        let zstd = claims.has(Capabilities::COMPRESS_ZSTD);
        let zstd_level = zstd.then(|| reader.u8()).flatten();
        let longest = database.map_or(0, <[u8]>::len).max(user.len());
        (longest <= LONGEST_NAME).then_some(Self {
            head: Head::default(),
            user,
            proof,
            // Some clients name none where they could.
            database: database.filter(|name| !name.is_empty()),
            plugin,
            attributes,
            zstd_level,
        })
    }

    /// Appends the request for TLS that comes before this login. Servers go by the capabilities that
    /// stand in the request, so that they have to be the same.
    pub fn put_tls_request(&self, out: &mut Vec<u8>) {
        let head = self.completed_head();
        let capabilities = head.capabilities.with(Capabilities::TLS);
        Head {
            capabilities,
            ..head
        }
        .put(out);
    }

    /// The head with the capabilities that what stands in the login asks for.
    fn completed_head(&self) -> Head {
        let mut capabilities = self
            .head
            .capabilities
            .with(Capabilities::PROTOCOL_41)
            .with(Capabilities::SECURE_CONNECTION);
        for (flag, is_there) in [
            (Capabilities::CONNECT_WITH_DATABASE, self.database.is_some()),
            (Capabilities::PLUGIN_AUTH, self.plugin.is_some()),
            (
                Capabilities::CONNECT_ATTRIBUTES,
                !self.attributes.is_empty(),
            ),
            (Capabilities::COMPRESS_ZSTD, self.zstd_level.is_some()),
        ] {
            capabilities = if is_there {
                capabilities.with(flag)
            } else {
                capabilities.without(flag)
            };
        }
        Head {
            capabilities,
            ..self.head
        }
    }

    /// Appends the payload. The capabilities of its head are completed by what stands in it.
    pub fn put(&self, out: &mut Vec<u8>) {
        let head = self.completed_head();
        let capabilities = head.capabilities;
        head.put(out);
        put_zero_ended(out, self.user);
        if capabilities.has(Capabilities::LONG_PROOF) {
            put_text(out, self.proof);
        } else {
            // Servers without it have no plugins with more.
            let proof = &self.proof[..self.proof.len().min(255)];
            out.push(proof.len() as u8);
            out.extend_from_slice(proof);
        }
        self.database
            .iter()
            .for_each(|name| put_zero_ended(out, name));
        self.plugin
            .iter()
            .for_each(|name| put_zero_ended(out, name));
        if !self.attributes.is_empty() {
            self.attributes.put(out);
        }
        out.extend(self.zstd_level);
    }
}

/// What a client claims to be able to do, whatever was offered. One that claims
/// [`Capabilities::COMPRESS`] where there is none may go on to use it all the same.
#[must_use]
pub fn claims(payload: &[u8]) -> Option<Capabilities> {
    Head::read(&mut Reader(payload)).map(|head| head.capabilities)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::attributes::{MOST_ATTRIBUTES, put_attribute};

    const ALL: Capabilities = Capabilities(!0);
    /// Bytes of a head.
    const HEAD: usize = 32;

    #[test]
    fn a_login_is_read_as_clients_make_it() {
        let mut packet = b"\x0d\xa6\x3a\x00\0\0\0\x01\x2d\0".to_vec();
        packet.extend_from_slice(&[0; 22]);
        packet.extend_from_slice(b"app\0\x03\x01\x02\x03test\0caching_sha2_password\0");
        packet.extend_from_slice(b"\x0d\x03_os\x03bsd\x01a\x02bc");
        let Ok(Answer::Login(login)) = Answer::read(&packet, ALL) else {
            panic!("no login");
        };
        assert_eq!(login.user, b"app");
        assert_eq!(login.proof, [1, 2, 3]);
        assert_eq!(login.database, Some(&b"test"[..]));
        assert_eq!(login.plugin, Some(&b"caching_sha2_password"[..]));
        assert_eq!(
            (login.head.most_packet, login.head.collation),
            (1 << 24, 45)
        );
        let attributes: Vec<_> = login.attributes.iter().collect();
        assert_eq!(attributes, [(&b"_os"[..], &b"bsd"[..]), (b"a", b"bc")]);
        let mut out = Vec::new();
        login.put(&mut out);
        // The same, but for a capability that stands for compression at a level.
        assert_eq!(out, packet);
        for length in 0..packet.len() {
            let cut = Answer::read(&packet[..length], ALL);
            // A client may leave out what comes behind its proof.
            assert!(length >= 40 || cut.is_err(), "{length}: {cut:?}");
        }
    }

    #[test]
    fn a_request_for_tls_is_the_head_alone_and_only_where_there_is_tls() {
        let head = Head {
            capabilities: Capabilities(0x0f_a688),
            most_packet: 1 << 24,
            collation: 255,
        };
        let with_tls = Head {
            capabilities: head.capabilities | Capabilities::TLS,
            ..head
        };
        let login = Response {
            head,
            database: Some(b"test"),
            plugin: Some(b"plugin"),
            ..Response::default()
        };
        let mut out = Vec::new();
        login.put_tls_request(&mut out);
        assert_eq!(out.len(), HEAD);
        assert_eq!(Answer::read(&out, ALL), Ok(Answer::TlsRequest(with_tls)));
        // What follows claims the same.
        let mut again = Vec::new();
        login.put(&mut again);
        assert_eq!(again[4..HEAD], out[4..]);
        assert_eq!(again[1] | 8, out[1]);
        let without = ALL.without(Capabilities::TLS);
        assert_eq!(Answer::read(&out, without), Err(Refused::Malformed));
    }

    #[test]
    fn clients_of_another_age_are_told_so() {
        let old = b"\x85\x04\0\0\0root\0";
        let refused = Answer::read(old, ALL).unwrap_err();
        let mut out = Vec::new();
        refused.refusal().put(&mut out);
        assert!(out.starts_with(b"\xff\xe3\x04Client does not"), "{out:?}");
        assert_eq!(Answer::read(b"", ALL), Err(Refused::Malformed));
        assert_eq!(Answer::read(b"GET / HTTP", ALL), Err(Refused::TooOld));
    }

    #[test]
    fn attributes_and_names_are_bounded() {
        let mut attributes = Vec::new();
        put_attribute(&mut attributes, "name", &"x".repeat(MOST_ATTRIBUTES));
        let user = vec![b'u'; LONGEST_NAME + 1];
        for login in [
            Response {
                attributes: Attributes::made(&attributes),
                ..Response::default()
            },
            Response {
                user: &user,
                ..Response::default()
            },
            Response {
                // Not whole.
                attributes: Attributes::made(b"\x05abc"),
                ..Response::default()
            },
        ] {
            let mut out = Vec::new();
            login.put(&mut out);
            assert_eq!(Answer::read(&out, ALL), Err(Refused::Malformed));
        }
    }

    proptest! {
        #[test]
        fn what_is_made_is_read(
            names in ("[^\0]*", proptest::option::of("[^\0]+"), proptest::option::of("[^\0]*")),
            proof in proptest::collection::vec(any::<u8>(), 0..250),
            bits in 0_u64..1 << 40, most_packet: u32, collation: u16,
            pairs in proptest::collection::vec((".*", ".*"), 0..4),
            zstd_level in proptest::option::of(any::<u8>())
        ) {
            let (user, database, plugin) = &names;
            let mut attributes = Vec::new();
            pairs.iter().for_each(|(name, value)| put_attribute(&mut attributes, name, value));
            let login = Response {
                head: Head {
                    capabilities: Capabilities::from_wire(bits as u32, (bits >> 32) as u32),
                    most_packet,
                    collation,
                },
                user: user.as_bytes(),
                proof: &proof,
                database: database.as_ref().map(String::as_bytes),
                plugin: plugin.as_ref().map(String::as_bytes),
                attributes: Attributes::made(&attributes),
                zstd_level,
            };
            let mut out = Vec::new();
            login.put(&mut out);
            let Ok(Answer::Login(read)) = Answer::read(&out, ALL) else {
                return Err(TestCaseError::fail("no login"));
            };
            prop_assert!(login.head.capabilities.extended_bits() == read.head.capabilities.extended_bits());
            prop_assert_eq!(Response { head: login.head, ..read }, login);
        }

        #[test]
        fn garbage_is_no_panic(mut payload in proptest::collection::vec(any::<u8>(), 2..200), all: bool) {
            let _ = Answer::read(&payload, ALL);
            payload[1] |= 2;
            let _ = Answer::read(&payload, if all { ALL } else { Capabilities::NONE });
        }
    }
}
