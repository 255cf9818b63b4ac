//! A password for the eyes of one who has a key: encrypted by RSA with OAEP (RFC 8017, with SHA-1,
//! as MySQL has it).
//!
//! Whoever only listens learns nothing. Whoever answers in the server's place may show a key of
//! his own; against that there is TLS with a certificate that is checked.

mod oaep;
mod private;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto_bigint::{
    Odd, U64, U4096,
    modular::{MontyForm, MontyParams},
};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

pub use self::private::KeyPair;
use super::der::{BIT_STRING, INTEGER, SEQUENCE, element, made, made_integer};

/// Of a modulus, and of [`U4096`].
const LONGEST: usize = 512;
/// Shorter ones can be broken by anyone.
const SHORTEST: usize = 128;
/// The words around a key in PEM.
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// `rsaEncryption` and no parameters, as an element.
const ALGORITHM: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// What a message is encrypted with.
#[derive(Clone, Debug)]
pub struct PublicKey {
    modulus: Odd<U4096>,
    /// Of the modulus.
    length: usize,
    exponent: u64,
}

impl PublicKey {
    /// A key as servers send it, in PEM; nothing where that is no such key.
    #[must_use]
    pub fn read(pem: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(pem).ok()?;
        let (_, text) = text.split_once(BEGIN)?;
        let (text, _) = text.split_once(END)?;
        let text: String = text.split_ascii_whitespace().collect();
        let der = STANDARD.decode(text).ok()?;
        let (info, _) = element(SEQUENCE, &der)?;
        let (_algorithm, rest) = element(SEQUENCE, info)?;
        let (bits, _) = element(BIT_STRING, rest)?;
        let (key, _) = element(SEQUENCE, bits.strip_prefix(&[0])?)?;
        let (modulus, rest) = element(INTEGER, key)?;
        let (exponent, _) = element(INTEGER, rest)?;
        let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
        Self::new(modulus, u64::from_be_bytes(padded(exponent)?))
    }

    fn new(modulus: &[u8], exponent: u64) -> Option<Self> {
        let length = modulus.len();
        if !(SHORTEST..=LONGEST).contains(&length) {
            return None;
        }
        Some(Self {
            modulus: Odd::new(number(modulus)?).into_option()?,
            length,
            exponent,
        })
    }

    /// The key as clients read it, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        let modulus = self.modulus.to_be_bytes();
        let numbers = [
            made_integer(&modulus[LONGEST - self.length..]),
            made_integer(&self.exponent.to_be_bytes()),
        ];
        let key = made(SEQUENCE, &numbers.concat());
        let bits = made(BIT_STRING, &[&[0], &key[..]].concat());
        let der = made(SEQUENCE, &[&ALGORITHM, &bits[..]].concat());
        let mut rest = &STANDARD.encode(der)[..];
        let mut pem = format!("{BEGIN}\n");
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str(END);
        pem.push('\n');
        pem
    }

    /// Encrypts a message for the owner of the key; nothing where it is too long for it.
    #[must_use]
    pub fn encrypt(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut seed = [0; oaep::SEED];
        SystemRandom::new().fill(&mut seed).ok()?;
        self.power(&oaep::pad(message, seed, self.length)?)
    }

    fn power(&self, padded: &[u8]) -> Option<Vec<u8>> {
        let message = number(padded)?;
        let params = MontyParams::new_vartime(self.modulus);
        // The exponent is public, and so is its length.
        let bits = u64::BITS - self.exponent.leading_zeros();
        let power =
            MontyForm::new(&message, params).pow_bounded_exp(&U64::from(self.exponent), bits);
        let bytes = power.retrieve().to_be_bytes();
        Some(bytes[LONGEST - self.length..].to_vec())
    }
}

/// A password for the owner of a key, as it is sent: with its end, and mixed with the nonce of the
/// login, so that it is good for that one only.
#[must_use]
pub fn seal(password: &[u8], nonce: &[u8], pem: &[u8]) -> Option<Vec<u8>> {
    let mut message = Zeroizing::new([password, &[0]].concat());
    mix(&mut message, nonce);
    PublicKey::read(pem)?.encrypt(&message)
}

fn mix(message: &mut [u8], nonce: &[u8]) {
    let pairs = message.iter_mut().zip(nonce.iter().cycle());
    pairs.for_each(|(byte, other)| *byte ^= other);
}

fn number(bytes: &[u8]) -> Option<U4096> {
    Some(U4096::from_be_slice(&padded::<LONGEST>(bytes)?))
}

/// With zeros before it.
fn padded<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut padded = [0; N];
    let start = N.checked_sub(bytes.len())?;
    padded[start..].copy_from_slice(bytes);
    Some(padded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::scramble::hex;

    const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDKGS2CfXOJbQHvj6qsCvEiYbwf\n\
        dyGRAf8QlO9AznA/BBtvaXGPWhq7ND+sWYdcy1Tj0Lr+/GRbc+yt2IDNupRPbMOz\n\
        2KLgLCuhO+X8FmLNrn1pAOuulBsoogpTScm2jSnxCEAmxP/bv2DObz3nQT0Ake/X\n\
        4NbYBo44jXQ6Qg9RdQIDAQAB\n\
        -----END PUBLIC KEY-----\n";
    /// What OpenSSL decrypts to `secret` and a zero.
    const ENCRYPTED: &str = "78f91cbbbd7b97e60689755c635122fe33c344a8660058fb80f3c3b18b1d266d7f808e4da1ab00db \
         f49515024d01a48bbf530ecb3dd084a1f04524e28b9f355b834828a5f30c765dfe413b4f162b7c48 \
         b41f4b0e9d38bae5c0d3f3c2878d6e72af6e9945b51020a38a7b095b3e84841bc30ed9f3a88611b7 \
         d43cfae00d757820";

    #[test]
    fn what_is_encrypted_is_what_others_decrypt() {
        let key = PublicKey::read(KEY.as_bytes()).unwrap();
        assert_eq!((key.length, key.exponent), (128, 65_537));
        let seed: [u8; oaep::SEED] = std::array::from_fn(|index| index as u8);
        let padded = oaep::pad(b"secret\0", seed, key.length).unwrap();
        let encrypted = key.power(&padded).unwrap();
        assert_eq!(hex(&encrypted), ENCRYPTED.replace([' ', '\n'], ""));
    }

    #[test]
    fn a_key_is_made_as_it_was_read() {
        let key = PublicKey::read(KEY.as_bytes()).unwrap();
        assert_eq!(key.pem(), KEY);
    }

    #[test]
    fn every_message_is_encrypted_anew_up_to_what_fits() {
        let key = PublicKey::read(KEY.as_bytes()).unwrap();
        let encrypted = |length| key.encrypt(&vec![7; length]);
        assert_eq!(encrypted(86).unwrap().len(), 128);
        assert_eq!(encrypted(87), None);
        assert_ne!(encrypted(0), encrypted(0));
    }

    proptest! {
        #[test]
        fn garbage_is_no_key_and_no_panic(at in 0..272_usize, byte in any::<u8>(), cut in 0..272_usize) {
            let mut pem = KEY.as_bytes().to_vec();
            pem[at] = byte;
            let _ = seal(b"secret", b"nonce", &pem);
            pem.truncate(pem.len() - cut);
            let _ = seal(b"secret", b"nonce", &pem);
        }
    }
}
