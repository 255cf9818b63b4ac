//! Internet checksums, kept right incrementally (RFC 1071, RFC 1624).
//!
//! A checksum is the one's complement of the one's complement sum of 16-bit words. That sum does
//! not care for byte order as long as sum and checksum are read the same way, so everything here
//! works on words as they stand in memory; and as 2^16 ≡ 1 (mod 2^16 - 1), wider words may be
//! added as they are and folded at the end. To replace a word `old` by `new`, add `!old + new` to
//! the sum (equation 3 of RFC 1624, which unlike equation 2 of RFC 1141 never turns a valid -0
//! into an invalid +0).

use crate::{address::Address, headers::Word16};

/// A one's complement sum that is not folded yet. Adding up to 2^31 words of 32 bits is safe.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds two bytes.
    #[inline(always)]
    #[must_use]
    pub fn add16(self, word: u16) -> Self {
        Self(self.0.wrapping_add(u64::from(word)))
    }

    /// Adds four bytes.
    #[inline(always)]
    #[must_use]
    pub fn add32(self, word: u32) -> Self {
        Self(self.0.wrapping_add(u64::from(word)))
    }

    /// Adds eight bytes.
    #[inline(always)]
    #[must_use]
    pub fn add64(self, word: u64) -> Self {
        self.add32(word as u32).add32((word >> 32) as u32)
    }

    /// Adds an address as a pseudo header holds it: 4 bytes for IPv4, 16 for IPv6.
    ///
    /// The mapped form's `ffff` is -0 in one's complement, so all 16 bytes may be added for both.
    #[inline(always)]
    #[must_use]
    pub fn add_address(self, address: Address) -> Self {
        let [high, low] = address.words();
        self.add64(high).add64(low)
    }

    /// Takes away two bytes.
    #[inline(always)]
    #[must_use]
    pub fn remove16(self, word: u16) -> Self {
        self.add16(!word)
    }

    /// Takes away an address.
    #[inline(always)]
    #[must_use]
    pub fn remove_address(self, address: Address) -> Self {
        let [high, low] = address.words();
        self.add64(!high).add64(!low)
    }

    /// Adds what another sum holds.
    #[inline(always)]
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// The sum as 16 bits.
    #[inline(always)]
    #[must_use]
    pub fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// The checksum of what was added.
    #[inline(always)]
    #[must_use]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Changes a checksum by what was added and taken away here.
    #[inline(always)]
    pub fn update(self, checksum: &mut Word16) {
        checksum.set(self.remove16(checksum.get()).checksum());
    }

    /// As [`Sum::update`] for UDP: 0 is "no checksum" and stays; a checksum that comes out as 0 is
    /// written as its other representation (RFC 768).
    #[inline(always)]
    pub fn update_udp(self, checksum: &mut Word16) {
        if checksum.get() != 0 {
            self.update(checksum);
            if checksum.get() == 0 {
                checksum.set(0xffff);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full(words: &[u16]) -> u16 {
        words
            .iter()
            .fold(Sum::default(), |sum, &word| sum.add16(word))
            .checksum()
    }

    proptest! {
        #[test]
        fn an_update_gives_what_a_full_sum_gives(
            mut words in proptest::collection::vec(any::<u16>(), 2..40),
            index in any::<proptest::sample::Index>(),
            new in any::<u16>(),
        ) {
            let index = index.index(words.len());
            let mut checksum = Word16::new(full(&words));
            Sum::default().remove16(words[index]).add16(new).update(&mut checksum);
            words[index] = new;
            let expected = full(&words);
            // +0 and -0 are the same number; only all-zero data has the checksum 0xffff.
            prop_assert!(
                checksum.get() == expected || (expected == 0xffff && checksum.get() == 0)
                    || (expected == 0 && checksum.get() == 0xffff),
                "{:04x} instead of {expected:04x}", checksum.get()
            );
        }

        #[test]
        fn wide_words_give_what_narrow_ones_give(octets in any::<[u8; 8]>()) {
            let wide = Sum::default().add64(u64::from_ne_bytes(octets)).fold();
            let narrow = octets.chunks(2).fold(Sum::default(), |sum, pair| {
                sum.add16(u16::from_ne_bytes([pair[0], pair[1]]))
            });
            prop_assert_eq!(wide, narrow.fold());
        }

        #[test]
        fn a_mapped_address_sums_like_its_four_bytes(octets in any::<[u8; 4]>()) {
            let mapped = Sum::default().add16(1).add_address(Address::from_v4(octets)).fold();
            let plain = Sum::default().add16(1).add32(u32::from_ne_bytes(octets)).fold();
            prop_assert_eq!(mapped % 0xffff, plain % 0xffff);
        }
    }
}
