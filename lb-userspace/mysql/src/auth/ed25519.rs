//! MariaDB's `client_ed25519`: a signature by a key that is the password's hash.
//!
//! It is Ed25519 (RFC 8032) but for one thing: where that hashes a seed of 32 bytes, this hashes the
//! password, of any length. Libraries that take only seeds cannot do that.

use curve25519_dalek::{EdwardsPoint, Scalar};
use zeroize::{Zeroize as _, Zeroizing};

use super::scramble::sha512;

/// Bytes of a signature.
pub const SIGNATURE: usize = 64;
/// Bytes of the server's nonce.
pub const NONCE: usize = 32;

/// Signs the server's nonce.
#[must_use]
pub fn sign(password: &[u8], nonce: &[u8]) -> [u8; SIGNATURE] {
    let hash = Zeroizing::new(wide(&[password]));
    let (key, prefix) = hash.split_at(32);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(key);
    bytes[0] &= 0xf8;
    bytes[31] = bytes[31] & 0x3f | 0x40;
    let mut key = Scalar::from_bytes_mod_order(bytes);
    bytes.zeroize();
    let public = EdwardsPoint::mul_base(&key).compress();
    let mut once = Scalar::from_bytes_mod_order_wide(&wide(&[prefix, nonce]));
    let point = EdwardsPoint::mul_base(&once).compress();
    let challenge = wide(&[point.as_bytes(), public.as_bytes(), nonce]);
    let proof = Scalar::from_bytes_mod_order_wide(&challenge) * key + once;
    key.zeroize();
    once.zeroize();
    let mut signature = [0; SIGNATURE];
    signature[..32].copy_from_slice(point.as_bytes());
    signature[32..].copy_from_slice(proof.as_bytes());
    signature
}

fn wide(parts: &[&[u8]]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes.copy_from_slice(sha512(parts).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

    use super::*;
    use crate::auth::scramble::{hex, unhex};

    #[test]
    fn signatures_are_those_of_the_standard() {
        // RFC 8032, 7.1, tests 1 to 3.
        for (seed, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac\
                 c61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e\
                 458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290\
                 ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let signed = sign(&unhex(seed), &unhex(message));
            assert_eq!(hex(&signed), signature, "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn others_verify_what_is_signed(seed: [u8; 32], nonce: [u8; NONCE]) {
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
            let public = UnparsedPublicKey::new(&ED25519, pair.public_key());
            prop_assert!(public.verify(&nonce, &sign(&seed, &nonce)).is_ok());
        }
    }
}
