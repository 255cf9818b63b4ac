//! Logins, towards clients ([`server`]) and towards servers ([`client`]), as state machines on
//! payloads.
//!
//! A client proves by a scramble that it knows a password, which says nothing about it; the first
//! time, a proxy that keeps no list of users has to learn it, as servers do that have it not in
//! their cache: by `caching_sha2_password`, encrypted by TLS or by RSA. What it learned it may use
//! for one thing only, to log in to servers in the client's name, and whether it is right a server
//! says, at every login.

pub mod client;
pub mod der;
pub mod ed25519;
pub mod parsec;
pub mod rsa;
pub mod scramble;
pub mod secrets;
pub mod server;

pub use self::secrets::{Secret, Secrets};

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::wire::greeting::NONCE;

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// SHA-1 of long ago; MariaDB's default.
    Native,
    /// MySQL's default.
    CachingSha2,
    /// MySQL's former default.
    Sha256,
    /// The password as it is, for passwords that are checked elsewhere.
    Clear,
    /// MariaDB's, with a key made from the password.
    Ed25519,
    /// MariaDB's, with a key that is costly to make from the password.
    Parsec,
}

impl Plugin {
    const ALL: [Self; 6] = [
        Self::Native,
        Self::CachingSha2,
        Self::Sha256,
        Self::Clear,
        Self::Ed25519,
        Self::Parsec,
    ];

    /// Its name in packets: that of the client's half.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
            Self::Sha256 => "sha256_password",
            Self::Clear => "mysql_clear_password",
            Self::Ed25519 => "client_ed25519",
            Self::Parsec => "parsec",
        }
    }

    /// The plugin of that name, if it is known here.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|plugin| plugin.name().as_bytes() == name)
    }
}

/// Who could read what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Everyone on the way.
    Plain,
    /// The two ends.
    Tls,
    /// This machine: a Unix socket.
    Socket,
}

impl Channel {
    /// Whether a password can be said as it is.
    #[must_use]
    pub const fn is_private(self) -> bool {
        matches!(self, Self::Tls | Self::Socket)
    }
}

/// What a scramble is made with, so that it is good for one login only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce([u8; NONCE]);

impl Nonce {
    /// A new one; nothing where the system has no random numbers.
    #[must_use]
    pub fn random() -> Option<Self> {
        let mut bytes = [0; NONCE];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self::from_bytes(bytes))
    }

    /// One of these bytes, as servers make them: readable, without a zero and without `$`, which
    /// some clients would stumble over.
    #[must_use]
    pub fn from_bytes(bytes: [u8; NONCE]) -> Self {
        Self(bytes.map(|byte| match byte & 0x7f {
            0 => 1,
            b'$' => b'%',
            other => other,
        }))
    }

    /// As it stands in a greeting.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; NONCE] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_found_by_their_name() {
        for plugin in Plugin::ALL {
            assert_eq!(Plugin::named(plugin.name().as_bytes()), Some(plugin));
        }
        assert_eq!(Plugin::named(b"mysql_old_password"), None);
    }

    #[test]
    fn a_nonce_has_no_bytes_that_end_it() {
        let nonce = Nonce::from_bytes(std::array::from_fn(|index| (index * 18) as u8));
        assert!(nonce.bytes().iter().all(|byte| !b"\0$".contains(byte)));
        assert!(nonce.bytes().is_ascii());
        assert_ne!(Nonce::random(), Nonce::random());
    }
}
