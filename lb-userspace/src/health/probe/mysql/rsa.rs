//! A password for the eyes of a server without TLS: encrypted with its public RSA key by OAEP (RFC
//! 8017, with SHA-1, as MySQL has it).
//!
//! Whoever only listens learns nothing. Whoever answers in the server's place may show a key of
//! his own; against that there is TLS with `ca_file`.

use crypto_bigint::{
    Odd, U64, U4096,
    modular::{MontyForm, MontyParams},
};
use ring::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use tokio_rustls::rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};

use crate::health::probe::certificate::element;

/// Of SHA-1.
const DIGEST: usize = 20;
/// Of a modulus, and of [`U4096`].
const LONGEST: usize = 512;
/// Shorter ones can be broken by anyone.
const SHORTEST: usize = 128;

/// What a message is encrypted with.
struct PublicKey {
    modulus: Odd<U4096>,
    /// Of the modulus.
    length: usize,
    exponent: u64,
}

impl PublicKey {
    /// A key as servers send it.
    fn read(pem: &[u8]) -> Option<Self> {
        const SEQUENCE: u8 = 0x30;
        const INTEGER: u8 = 0x02;
        const BIT_STRING: u8 = 0x03;
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
        let (info, _) = element(SEQUENCE, &der)?;
        let (_algorithm, rest) = element(SEQUENCE, info)?;
        let (bits, _) = element(BIT_STRING, rest)?;
        let (key, _) = element(SEQUENCE, bits.strip_prefix(&[0])?)?;
        let (modulus, rest) = element(INTEGER, key)?;
        let (exponent, _) = element(INTEGER, rest)?;
        let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
        let length = modulus.len();
        if !(SHORTEST..=LONGEST).contains(&length) {
            return None;
        }
        Some(Self {
            modulus: Odd::new(number(modulus)?).into_option()?,
            length,
            exponent: u64::from_be_bytes(padded(exponent)?),
        })
    }

    fn encrypt(&self, padded: &[u8]) -> Option<Vec<u8>> {
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

/// Encrypts a message for the owner of a key in PEM; nothing where that is no such key, or the
/// message is too long for it.
pub(super) fn encrypt(pem: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let key = PublicKey::read(pem)?;
    let mut seed = [0; DIGEST];
    SystemRandom::new().fill(&mut seed).ok()?;
    key.encrypt(&oaep(message, seed, key.length)?)
}

/// A message as it is encrypted: `00, masked seed, masked (digest of no label, zeros, 01, message)`.
fn oaep(message: &[u8], mut seed: [u8; DIGEST], length: usize) -> Option<Vec<u8>> {
    let block = length.checked_sub(DIGEST + 1)?;
    let zeros = block.checked_sub(DIGEST + 1 + message.len())?;
    let mut data = sha1(&[]);
    data.resize(DIGEST + zeros, 0);
    data.push(1);
    data.extend_from_slice(message);
    mask(&mut data, &seed);
    mask(&mut seed, &data);
    Some([&[0][..], &seed, &data].concat())
}

/// `data ^ MGF1(seed)`
fn mask(data: &mut [u8], seed: &[u8]) {
    for (count, chunk) in (0u32..).zip(data.chunks_mut(DIGEST)) {
        let bits = sha1(&[seed, &count.to_be_bytes()].concat());
        chunk
            .iter_mut()
            .zip(bits)
            .for_each(|(byte, bit)| *byte ^= bit);
    }
}

fn sha1(data: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, data).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        let seed: [u8; DIGEST] = std::array::from_fn(|index| index as u8);
        let padded = oaep(b"secret\0", seed, key.length).unwrap();
        let hex: String = key
            .encrypt(&padded)
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, ENCRYPTED.replace([' ', '\n'], ""));
    }

    #[test]
    fn every_message_is_encrypted_anew_up_to_what_fits() {
        let encrypted = |length| encrypt(KEY.as_bytes(), &vec![7; length]);
        assert_eq!(encrypted(86).unwrap().len(), 128);
        assert_eq!(encrypted(87), None);
        assert_ne!(encrypted(0), encrypted(0));
    }

    proptest! {
        #[test]
        fn garbage_is_no_key_and_no_panic(at in 0..272_usize, byte in any::<u8>(), cut in 0..272_usize) {
            let mut pem = KEY.as_bytes().to_vec();
            pem[at] = byte;
            let _ = encrypt(&pem, b"secret");
            pem.truncate(pem.len() - cut);
            let _ = encrypt(&pem, b"secret");
        }
    }
}
