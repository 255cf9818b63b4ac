//! A key pair of our own, for clients that have neither TLS nor the Unix socket.
//!
//! Everything that depends on the primes or on what is decrypted takes the same time whatever they
//! are: numbers have fixed lengths, powers are `crypto-bigint`'s in Montgomery's form, which has no
//! branches on them, and what is no message becomes a password that nobody has. That is what the
//! advisory about the crate `rsa` (Marvin, RUSTSEC-2023-0071) is about: its arithmetic does not. The
//! one thing in which the time varies is how many candidates are tried until a prime is found, and
//! those are thrown away.

use crypto_bigint::{
    Limb, NonZero, Odd, U1024, U2048,
    modular::{MontyForm, MontyParams},
};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::{Zeroize as _, Zeroizing};

use super::{PublicKey, mix, oaep};
use crate::auth::Secret;

/// Bytes of a prime.
const HALF: usize = 128;
/// Bytes of a modulus.
const FULL: usize = 2 * HALF;
/// The public exponent.
const EXPONENT: u32 = 65_537;
/// Numbers below are looked for as divisors before anything that costs.
const SMALL: u32 = 2000;
/// Rounds of Miller and Rabin's test. For random numbers of that length five leave less than
/// 2^-100.
const ROUNDS: usize = 8;

/// A key pair of 2048 bits.
pub struct KeyPair {
    public: PublicKey,
    modulus: NonZero<U2048>,
    p: Prime,
    q: Prime,
    /// `q^-1` modulo `p`.
    inverse: U1024,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPair")
    }
}

/// A prime, and what decrypts modulo it.
struct Prime {
    number: U1024,
    params: MontyParams<{ U1024::LIMBS }>,
    exponent: U1024,
}

impl Drop for Prime {
    fn drop(&mut self) {
        self.number.zeroize();
        self.params.zeroize();
        self.exponent.zeroize();
    }
}

impl Drop for KeyPair {
    fn drop(&mut self) {
        self.inverse.zeroize();
    }
}

impl Prime {
    /// Of a number that is a prime; nothing where the exponent has no inverse.
    fn new(number: U1024) -> Option<Self> {
        let params = MontyParams::new(Odd::new(number).into_option()?);
        let before = number.wrapping_sub(&U1024::ONE);
        // (1 + k (number - 1)) is a multiple of the exponent e for k = -1 / (number - 1) modulo e.
        let divisor = NonZero::new(Limb::from_u32(EXPONENT)).into_option()?;
        let rest = before.rem_limb(divisor).0;
        let e = u64::from(EXPONENT);
        if rest == 0 {
            return None;
        }
        // e is a prime, so that the power of e - 2 is the inverse.
        let inverse = (0..e - 2).fold(1, |product, _| product * rest % e);
        let k = U2048::from(e - inverse);
        let multiple = before
            .resize::<{ U2048::LIMBS }>()
            .wrapping_mul(&k)
            .wrapping_add(&U2048::ONE);
        let (exponent, _) = multiple.div_rem_limb(divisor);
        Some(Self {
            number,
            params,
            exponent: exponent.resize(),
        })
    }

    fn power(&self, base: &U1024, exponent: &U1024) -> MontyForm<{ U1024::LIMBS }> {
        MontyForm::new(base, self.params).pow(exponent)
    }

    /// What was encrypted, modulo this prime.
    fn decrypt(&self, encrypted: &U2048) -> MontyForm<{ U1024::LIMBS }> {
        self.power(&self.reduce(encrypted), &self.exponent)
    }

    fn reduce(&self, number: &U2048) -> U1024 {
        let own = self.number.resize::<{ U2048::LIMBS }>();
        // It is odd.
        let own = NonZero::new(own).unwrap_or(NonZero::<U2048>::ONE);
        number.rem(&own).resize()
    }
}

impl KeyPair {
    /// Makes one; nothing where the system has no random numbers. Takes a tenth of a second or
    /// several, so that it is best done on a thread of its own, once.
    #[must_use]
    pub fn generate() -> Option<Self> {
        let random = SystemRandom::new();
        let small = small_primes();
        loop {
            let p = prime(&random, &small)?;
            let q = prime(&random, &small)?;
            if let Some(pair) = Self::from_primes(p, q) {
                return Some(pair);
            }
        }
    }

    /// Of two primes of 1024 bits.
    fn from_primes(p: U1024, q: U1024) -> Option<Self> {
        if p == q {
            return None;
        }
        let modulus = wide_product(&p, &q);
        let bytes = modulus.to_be_bytes();
        let (p, q) = (Prime::new(p)?, Prime::new(q)?);
        // p is a prime, so that the power of p - 2 is the inverse.
        let before = p.number.wrapping_sub(&U1024::from(2_u32));
        let base = p.reduce(&q.number.resize());
        let inverse = p.power(&base, &before).retrieve();
        Some(Self {
            public: PublicKey::new(&bytes, EXPONENT.into())?,
            modulus: NonZero::new(modulus).into_option()?,
            p,
            q,
            inverse,
        })
    }

    /// The half of it that everyone may know.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The password in what a client [sealed](super::seal) with the nonce of its login. What is no
    /// such thing becomes a password that nobody has, which a server will refuse: the client sees
    /// no difference. Takes a millisecond or two.
    ///
    /// Nothing where the system has no random numbers.
    #[must_use]
    pub fn unseal(&self, sealed: &[u8], nonce: &[u8]) -> Option<Secret> {
        let nobodys = Secret::nobodys()?;
        let mut padded = self.decrypt(sealed);
        let mut found = padded.as_deref_mut().and_then(|padded| {
            let message = oaep::find(padded)?;
            Some(Zeroizing::new(message.to_vec()))
        });
        let password = found.as_mut().and_then(|message| {
            mix(message, nonce);
            // It ends with a zero.
            message.contains(&0).then(|| Secret::said(message))
        });
        Some(password.unwrap_or(nobodys))
    }

    fn decrypt(&self, sealed: &[u8]) -> Option<Zeroizing<[u8; FULL]>> {
        if sealed.len() != FULL {
            return None;
        }
        let encrypted = U2048::from_be_slice(sealed);
        if encrypted >= *self.modulus {
            return None;
        }
        // Each half alone, and then what fits both: q h + b for h = (a - b) / q modulo p.
        let mut a = self.p.decrypt(&encrypted);
        let mut b = self.q.decrypt(&encrypted).retrieve();
        let other = MontyForm::new(&self.p.reduce(&b.resize()), self.p.params);
        let inverse = MontyForm::new(&self.inverse, self.p.params);
        let mut h = ((a - other) * inverse).retrieve();
        let product = wide_product(&self.q.number, &h);
        let mut message = product.wrapping_add(&b.resize());
        let bytes = Zeroizing::new(message.to_be_bytes());
        a.zeroize();
        b.zeroize();
        h.zeroize();
        message.zeroize();
        // A processor that has computed wrong would give a prime away.
        let again = self.public.power(&*bytes)?;
        (again == sealed).then_some(bytes)
    }
}

fn wide_product(a: &U1024, b: &U1024) -> U2048 {
    a.resize::<{ U2048::LIMBS }>()
        .wrapping_mul(&b.resize::<{ U2048::LIMBS }>())
}

/// A random prime with its two highest bits set, so that the product of two has all its bits, and
/// its two lowest, so that one power tells whether it is one.
fn prime(random: &SystemRandom, small: &[NonZero<Limb>]) -> Option<U1024> {
    loop {
        let mut candidate = random_number(random)?;
        candidate[0] |= 0xc0;
        candidate[HALF - 1] |= 3;
        let candidate = U1024::from_be_slice(&*candidate);
        let is_divided = |by: &NonZero<Limb>| candidate.rem_limb(*by) == Limb::ZERO;
        if !small.iter().any(is_divided) && is_prime(&candidate, random)? {
            return Some(candidate);
        }
    }
}

/// The test of Miller and Rabin, of numbers that are three modulo four.
fn is_prime(candidate: &U1024, random: &SystemRandom) -> Option<bool> {
    let params = MontyParams::new(Odd::new(*candidate).into_option()?);
    let one = MontyForm::one(params);
    let half = candidate.shr_vartime(1);
    for _ in 0..ROUNDS {
        let base = U1024::from_be_slice(&*random_number(random)?);
        let power = MontyForm::new(&base, params).pow(&half);
        if power != one && power != -one {
            return Some(false);
        }
    }
    Some(true)
}

fn random_number(random: &SystemRandom) -> Option<Zeroizing<[u8; HALF]>> {
    let mut bytes = Zeroizing::new([0; HALF]);
    random.fill(&mut *bytes).ok()?;
    Some(bytes)
}

/// The odd primes up to [`SMALL`].
fn small_primes() -> Vec<NonZero<Limb>> {
    let is_prime =
        |number: &u32| (3..*number).all(|by| by * by > *number || !number.is_multiple_of(by));
    let odd = (3..SMALL).step_by(2).filter(is_prime);
    odd.filter_map(|number| NonZero::new(Limb::from_u32(number)).into_option())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::auth::{rsa::seal, scramble::unhex};

    /// Made by OpenSSL.
    static PAIR: LazyLock<KeyPair> = LazyLock::new(|| {
        let prime = |hex| U1024::from_be_slice(&unhex(hex));
        let p = prime(
            "dd80e16e14f4381b9556e3b8dc1fb784d125c4cbcebc3d7690a6a146f9e3ce779fa1a4f183d5ffd9\
             3db681b0ff3572b236330f34edf77832a91ca0939faa5c7aae6bb4bd74a2bebbb083012d7b51af30\
             29a739782667b56e06786b4db2af5eb8b7282d2572a9f5ea6958198cbc3112951f90e0aa092d056b\
             13fb652ae8c65563",
        );
        let q = prime(
            "d679f4d045cdacb2eb95b097454e5d53751518ab88e1a4174f219f986d98a28c30a15685ec54949f\
             60af27b7b5ab6c43d0435d55dbec5e9b8e6d4f558e6dd13c71b5927d787fa47e9f46fa9433fe276e\
             2a4eb124ca9bcaec5c2564c6d0c5345dd541dbe15b494a3110cb6549d1ee7fbf33d5ad13283d103a\
             a949866c378d388d",
        );
        KeyPair::from_primes(p, q).unwrap()
    });
    /// Its public half, by OpenSSL.
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAuZNCL56F1iP3fjw8Fybm\n\
        pN8ErD/ZcnCt5OANKDQQsviY4Xf4LXdIWCUa62LFjeRElsDZSZkUqKHde4ehZ2+K\n\
        F0eFLXWB6PGs8/At5aXuREmCv90qyR+ZBSOydkMF18sJFA4XPZGfT27HYG5BbzMQ\n\
        BIWKer7NOvCrSkfJbhd0n8mHJLbZk1RvAscr6u+pJ6KPjxIOiDF6ywAhkxQT0Vbl\n\
        /JyOGAak2tg0d0Ci8/CN/BVfwcB3sIDLQWOeIKSANDKcL8W3KZxcHAVjMy/WbZzp\n\
        CHzEtbZi3KmhGK3bGxoA3GTrOr1SON6/y+ksUQdn6/aoJMnz8gkHZ9io1cTm5HGv\n\
        hwIDAQAB\n\
        -----END PUBLIC KEY-----\n";
    /// `secret` and a zero, encrypted by OpenSSL.
    const ENCRYPTED: &str = "4fefcbcdba6181ab8a4700eb242559184768e8d83ae0cf59f608a45bb1c861ee685a7eb4d605dd06faecd3aa\
         cc867ff20551d3f70705b2b96c340b3177fd7e00d27ebd9aed718f595ed0acb6b122c707416bbc0e7e34e91b\
         e9b1b756a7fa15a8d85a17a6ef7527a71a5d2ad11f73e2b322cc6757fff77763c5f3b03cab6bb130d8d568fa\
         7590ab43cef6fb4a5fc1efc6167dbe9d997cccfa3effcbadd3ef571f20d158e38502c4d24fb2818cbe32a36f\
         cdef01d8e5363cb6d4e43d43fadd7372403bb40f3c54a9dc2e36e3a3851edf1b0130d6e704b6cfd7c9328c48\
         b7c03f9e010979e2bf32f9d27b35a53f9ba3e99a822cd1d254b5af6356fdca01a536ea74";

    #[test]
    fn what_others_encrypt_is_decrypted() {
        assert_eq!(PAIR.public().pem(), PEM);
        let secret = PAIR.unseal(&unhex(ENCRYPTED), &[0]).unwrap();
        assert_eq!(secret.expose(), b"secret");
    }

    #[test]
    fn what_is_no_message_is_nobodys_password() {
        let good = unhex(ENCRYPTED);
        let mut changed = good.clone();
        changed[255] ^= 1;
        let modulus = PAIR.modulus.to_be_bytes();
        for wrong in [
            &changed[..],
            &good[1..],
            &[],
            &[0; FULL],
            &[0xff; FULL],
            &modulus,
        ] {
            let secret = PAIR.unseal(wrong, &[0]).unwrap();
            assert_eq!(secret.expose().len(), 32);
            assert!(!secret.expose().starts_with(b"secret"));
        }
        // Without a zero at its end.
        let message = PAIR.public().encrypt(b"secret").unwrap();
        assert_eq!(PAIR.unseal(&message, &[0]).unwrap().expose().len(), 32);
    }

    #[test]
    fn what_was_computed_wrong_is_not_given_away() {
        let (p, q) = (PAIR.p.number, PAIR.q.number);
        let mut pair = KeyPair::from_primes(p, q).unwrap();
        assert!(pair.decrypt(&unhex(ENCRYPTED)).is_some());
        pair.p.exponent = U1024::ONE;
        assert!(pair.decrypt(&unhex(ENCRYPTED)).is_none());
    }

    #[test]
    fn a_pair_that_was_made_works() {
        let pair = KeyPair::generate().unwrap();
        let sealed = seal(b"secret", b"nonce", pair.public().pem().as_bytes()).unwrap();
        assert_eq!(pair.unseal(&sealed, b"nonce").unwrap().expose(), b"secret");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn what_is_sealed_is_unsealed(password in "[^\0]{0,100}", nonce in "[^\0]{20}") {
            let sealed = seal(password.as_bytes(), nonce.as_bytes(), PEM.as_bytes()).unwrap();
            let unsealed = PAIR.unseal(&sealed, nonce.as_bytes()).unwrap();
            prop_assert_eq!(unsealed.expose(), password.as_bytes());
        }
    }
}
