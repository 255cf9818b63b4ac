//! Proofs by hashes: what a client says that knows a password, and how that is checked.

use ring::digest::{Algorithm, Context, Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512};
use subtle::ConstantTimeEq as _;

/// `SHA1(password) ^ SHA1(nonce + SHA1(SHA1(password)))`; nothing for no password.
#[must_use]
pub fn native(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = sha1(&[password]);
    let twice = sha1(&[once.as_ref()]);
    xor(&once, &sha1(&[nonce, twice.as_ref()]))
}

/// `SHA256(password) ^ SHA256(SHA256(SHA256(password)) + nonce)`; nothing for no password.
#[must_use]
pub fn caching_sha2(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = hash(&SHA256, &[password]);
    let twice = hash(&SHA256, &[once.as_ref()]);
    xor(&once, &hash(&SHA256, &[twice.as_ref(), nonce]))
}

/// Whether two proofs are the same, in a time that does not say where they differ.
#[must_use]
pub fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn xor(a: &Digest, b: &Digest) -> Vec<u8> {
    let pairs = a.as_ref().iter().zip(b.as_ref());
    pairs.map(|(a, b)| a ^ b).collect()
}

pub(super) fn sha1(parts: &[&[u8]]) -> Digest {
    hash(&SHA1_FOR_LEGACY_USE_ONLY, parts)
}

pub(super) fn sha512(parts: &[&[u8]]) -> Digest {
    hash(&SHA512, parts)
}

fn hash(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish()
}

#[cfg(test)]
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_those_that_servers_expect() {
        let nonce: Vec<u8> = (1..=20).collect();
        assert_eq!(
            hex(&native(b"secret", &nonce)),
            "b32bb3a583e1340c0a1108d58b1be49781ad8c2f"
        );
        assert_eq!(
            hex(&caching_sha2(b"secret", &nonce)),
            "746ebe205d56a0707acb3e796e834e0dd7b1d61743b26bd5202c7a623230c7c9"
        );
        assert_eq!(native(b"", &nonce), []);
        assert_eq!(caching_sha2(b"", &nonce), []);
    }

    #[test]
    fn proofs_are_the_same_only_as_a_whole() {
        assert!(is_same(b"abc", b"abc") && is_same(b"", b""));
        assert!(!is_same(b"abc", b"abd") && !is_same(b"abc", b"ab"));
    }
}
