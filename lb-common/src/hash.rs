//! The keyed hash that places endpoints in tables.
//!
//! Two multiplications for an IPv4 endpoint, four for IPv6. It is not cryptographic; the random
//! seed of [`crate::abi::Settings`] keeps outsiders from aiming at one bucket.

use crate::address::Address;

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
const fn mix(state: u64, word: u64) -> u64 {
    let product = (state ^ word).wrapping_mul(MULTIPLIER);
    product ^ (product >> 32)
}

/// Hash of a number; its upper bits are the best.
#[inline(always)]
#[must_use]
pub const fn word(seed: u64, number: u64) -> u64 {
    (seed ^ number).wrapping_mul(MULTIPLIER)
}

/// Hash of an address, a port in network order and a protocol number.
///
/// The first word of an address is 0 for IPv4 in the mapped form, which the compiler knows where
/// the family is known, so that its step vanishes there.
#[inline(always)]
#[must_use]
pub fn endpoint(seed: u64, address: Address, port: u16, protocol: u8) -> u64 {
    let [high, low] = address.words();
    let mut state = mix(seed, low);
    if high != 0 {
        // Multiplied by the seed: else whoever chooses both words could undo with one what the
        // other's upper bits change, whatever the seed is.
        state = mix(state, high.wrapping_mul(seed | 1));
    }
    mix(state, u64::from(port) | (u64::from(protocol) << 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_fill_evenly_for_neighbouring_clients() {
        const BUCKETS: usize = 1 << 12;
        const PER_BUCKET: usize = 8;
        let mut load = vec![0usize; BUCKETS];
        for client in 0..(BUCKETS * PER_BUCKET) as u32 {
            let address = Address::from_v4([10, 0, (client >> 8) as u8, client as u8]);
            let port = (1024 + (client >> 16) as u16).to_be();
            load[endpoint(0x1234_5678_9abc_def0, address, port, 6) as usize % BUCKETS] += 1;
        }
        let mean = PER_BUCKET as f64;
        let variance =
            load.iter().map(|&n| (n as f64 - mean).powi(2)).sum::<f64>() / BUCKETS as f64;
        assert!(
            variance < 1.3 * mean,
            "variance {variance} of a mean {mean}"
        );
        assert!(*load.iter().max().unwrap() < 30);
    }

    #[test]
    fn one_word_of_an_address_does_not_undo_the_other() {
        for seed in [0x1234_5678_9abc_def0, 0xfedc_ba98_7654_3211, u64::MAX / 3] {
            let [high, low] = Address::from_v6([0x20; 16]).words();
            let own = endpoint(seed, Address::from_words([high, low]), 80, 6);
            for change in 0..256u64 {
                let (low_change, high_change) = (change & 0xf, change >> 4);
                for shift in [28, 24, 29] {
                    let other = Address::from_words([
                        high ^ (high_change << 60 | high_change << shift),
                        low ^ low_change << 60,
                    ]);
                    assert!(
                        change == 0 || endpoint(seed, other, 80, 6) != own,
                        "{change:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_part_of_the_endpoint_counts() {
        let address = Address::from_v6([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        let other = Address::from_v6([9, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        let base = endpoint(7, address, 80, 6);
        for changed in [
            endpoint(8, address, 80, 6),
            endpoint(7, other, 80, 6),
            endpoint(7, address, 81, 6),
            endpoint(7, address, 80, 17),
        ] {
            assert_ne!(base, changed);
            assert_ne!(base as u32, changed as u32);
            assert_ne!(base >> 32, changed >> 32);
        }
    }
}
