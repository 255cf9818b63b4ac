//! The secret that balancers share, and what is made of it.

use std::path::Path;

use ring::{
    aead::{AES_256_GCM, Algorithm, LessSafeKey, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    hmac,
};

use super::wire::{MAC, NONCE};
use crate::secret_file::{Error, SecretFile};

const FILE: SecretFile = SecretFile {
    name: "key",
    shortest: 32,
};

/// The secret, in a form that gives others.
pub(super) struct Key {
    /// Of sessions.
    secret: Vec<u8>,
    /// Of hellos.
    hello: hmac::Key,
}

/// Not the secret itself.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// What two balancers use between them.
pub(super) struct Keys {
    /// Number of the session.
    pub(super) session: u64,
    /// Of what is sent.
    pub(super) to_peer: LessSafeKey,
    /// Of what comes.
    pub(super) from_peer: LessSafeKey,
}

/// So many bytes.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    /// The secret of a file, without the line end.
    pub(super) fn read(file: &Path) -> Result<Self, Error> {
        FILE.read(file).map(|secret| Self::new(&secret))
    }

    /// Of a secret.
    pub(super) fn new(secret: &[u8]) -> Self {
        let hello = Salt::new(HKDF_SHA256, b"lb cluster hello").extract(secret);
        let key = expand(&hello, &[b"mac"], 32);
        Self {
            secret: secret.to_vec(),
            hello: hmac::Key::new(hmac::HMAC_SHA256, &key),
        }
    }

    /// The code of a hello.
    pub(super) fn sign(&self, bytes: &[u8]) -> [u8; MAC] {
        let tag = hmac::sign(&self.hello, bytes);
        let mut code = [0; MAC];
        code.copy_from_slice(tag.as_ref());
        code
    }

    /// Whether that is the code of a hello.
    pub(super) fn is_signed(&self, bytes: &[u8], code: &[u8; MAC]) -> bool {
        hmac::verify(&self.hello, bytes, code).is_ok()
    }

    /// What this balancer, with its number of a session, and a peer with its own use in it.
    pub(super) fn keys(&self, own: &[u8; NONCE], peers: &[u8; NONCE]) -> Keys {
        let (first, second) = if own < peers {
            (own, peers)
        } else {
            (peers, own)
        };
        let salt = [*first, *second].concat();
        let session = Salt::new(HKDF_SHA256, &salt).extract(&self.secret);
        let mut number = [0; 8];
        number.copy_from_slice(&expand(&session, &[b"number"], 8));
        Keys {
            session: u64::from_be_bytes(number),
            to_peer: sealing(&session, own),
            from_peer: sealing(&session, peers),
        }
    }
}

fn expand(from: &Prk, info: &[&[u8]], length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    from.expand(info, Bytes(length))
        .and_then(|okm| okm.fill(&mut bytes))
        .expect("HKDF gives 255 times as much");
    bytes
}

/// The key of the messages that the balancer with that number sends.
fn sealing(session: &Prk, sender: &[u8; NONCE]) -> LessSafeKey {
    const ALGORITHM: &Algorithm = &AES_256_GCM;
    let key = expand(session, &[b"messages of", sender], ALGORITHM.key_len());
    LessSafeKey::new(UnboundKey::new(ALGORITHM, &key).expect("it has the algorithm's length"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn read(text: &str, mode: u32) -> Result<Key, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        Key::read(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_a_secret_that_cannot_be_guessed() {
        let good = "0123456789abcdef0123456789abcdef\n";
        assert!(read(good, 0o640).is_ok());
        for (text, mode, part) in [
            (good, 0o644, "mode 644"),
            ("short\n", 0o600, "5 characters"),
            (&"x".repeat(5000), 0o600, "4098 characters"),
            (
                "zero\x00 34567890123456789012345678901",
                0o600,
                "other characters",
            ),
        ] {
            let error = read(text, mode).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(Key::read(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn two_balancers_come_to_the_same_keys_and_a_third_to_others() {
        let key = Key::new(&[1; 32]);
        let (one, two) = ([1; NONCE], [2; NONCE]);
        let (here, there) = (key.keys(&one, &two), key.keys(&two, &one));
        assert_eq!(here.session, there.session);
        assert_ne!(here.session, Key::new(&[2; 32]).keys(&one, &two).session);
        assert_ne!(here.session, key.keys(&one, &[3; NONCE]).session);
        assert!(key.is_signed(b"hello", &key.sign(b"hello")));
        assert!(!key.is_signed(b"hullo", &key.sign(b"hello")));
    }
}
