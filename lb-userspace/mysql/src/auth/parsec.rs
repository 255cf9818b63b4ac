//! MariaDB's PARSEC: a signature by a key that takes time to make from the password.
//!
//! The server sends a nonce; the client asks, by an empty packet, for the salt and the cost; makes
//! an Ed25519 key by PBKDF2 and signs both nonces.

use std::num::NonZeroU32;

use ring::{pbkdf2, signature::Ed25519KeyPair};
use zeroize::Zeroizing;

/// Bytes of the server's and of the client's nonce.
pub const NONCE: usize = 32;
/// Bytes of the salt.
const SALT: usize = 18;
/// Costs are 1024 rounds, doubled so often at most.
const MOST_DOUBLED: u8 = 3;

/// What the server says of the password: how a key is made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe<'p> {
    rounds: NonZeroU32,
    salt: &'p [u8],
}

impl<'p> Recipe<'p> {
    /// Reads it; nothing where that is another algorithm, or one that costs more than servers ask
    /// for.
    #[must_use]
    pub fn read(payload: &'p [u8]) -> Option<Self> {
        let (&[b'P', doubled], salt) = payload.split_first_chunk()? else {
            return None;
        };
        if salt.len() != SALT || doubled > MOST_DOUBLED {
            return None;
        }
        let rounds = NonZeroU32::new(1024 << doubled)?;
        Some(Self { rounds, salt })
    }

    /// What the client answers: its nonce and the signature. Takes milliseconds.
    #[must_use]
    pub fn sign(
        &self,
        password: &[u8],
        server: &[u8; NONCE],
        client: &[u8; NONCE],
    ) -> Option<Vec<u8>> {
        let mut seed = Zeroizing::new([0; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA512,
            self.rounds,
            self.salt,
            password,
            &mut *seed,
        );
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).ok()?;
        let signature = pair.sign(&[&server[..], client].concat());
        Some([&client[..], signature.as_ref()].concat())
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, KeyPair as _, UnparsedPublicKey};

    use super::*;

    #[test]
    fn both_nonces_are_signed_by_the_key_of_the_recipe() {
        let recipe = [b"P\x01", &[7; SALT][..]].concat();
        let recipe = Recipe::read(&recipe).unwrap();
        assert_eq!(recipe.rounds.get(), 2048);
        let (server, client) = ([1; NONCE], [2; NONCE]);
        let answer = recipe.sign(b"secret", &server, &client).unwrap();
        assert_eq!(answer.len(), NONCE + 64);
        let mut seed = [0; 32];
        let rounds = NonZeroU32::new(2048).unwrap();
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
        pbkdf2::derive(algorithm, rounds, &[7; SALT], b"secret", &mut seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let public = UnparsedPublicKey::new(&ED25519, pair.public_key());
        let message = [server, client].concat();
        assert!(public.verify(&message, &answer[NONCE..]).is_ok());
        assert_eq!(answer[..NONCE], client);
    }

    #[test]
    fn a_recipe_that_costs_too_much_is_refused() {
        for recipe in [
            [b"P\x04", &[7; SALT][..]].concat(),
            [b"Q\x01", &[7; SALT][..]].concat(),
            [b"P\x01", &[7; SALT - 1][..]].concat(),
            b"P".to_vec(),
        ] {
            assert_eq!(Recipe::read(&recipe), None, "{recipe:?}");
        }
    }
}
