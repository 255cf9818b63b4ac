//! What a prefix sets, for whoever fills the tables.

use super::{
    Action, Entry, HALF, HEADER, Key, SCOPE_BITS, V4_WORDS, bit_of_24, bit_of_hashed, half,
};
use crate::address::Address;

/// An address and how many of its bits matter; those behind are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: Address,
    /// Of an IPv6 address: of IPv4, 96 more than is written.
    length: u8,
    is_v4: bool,
}

/// IPv6 prefixes that are shorter set no bits.
const SHORTEST_V6: u8 = 20;

impl Prefix {
    /// The prefix of that length, up to 32 or 128. Bits behind it are taken off.
    #[must_use]
    pub fn new(address: std::net::IpAddr, length: u8) -> Self {
        let is_v4 = address.is_ipv4();
        let length = if is_v4 {
            96 + length.min(32)
        } else {
            length.min(128)
        };
        let octets = u128::from_be_bytes(Address::from(address).octets());
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self {
            address: Address::from_v6((octets & mask).to_be_bytes()),
            length,
            is_v4,
        }
    }

    /// All of IPv4, and all of IPv6.
    #[must_use]
    pub fn everybody() -> [Self; 2] {
        use std::net::{Ipv4Addr, Ipv6Addr};
        [
            Self::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            Self::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        ]
    }

    /// Its length as it is written.
    #[must_use]
    pub fn length(self) -> u8 {
        if self.is_v4 {
            self.length - 96
        } else {
            self.length
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(self) -> std::net::IpAddr {
        if self.is_v4 {
            std::net::Ipv4Addr::from(self.address.v4_octets()).into()
        } else {
            std::net::Ipv6Addr::from(self.address.octets()).into()
        }
    }

    /// Whether an address is within.
    #[must_use]
    pub fn contains(self, address: std::net::IpAddr) -> bool {
        address.is_ipv4() == self.is_v4 && Self::new(address, self.length()) == self
    }

    /// Its key in the trie.
    #[must_use]
    pub fn key(self, generation: u8, scope: u32) -> Key {
        Key {
            prefix_length: SCOPE_BITS + u32::from(self.length),
            ..Key::of_family(generation, scope, self.address, self.is_v4)
        }
    }

    /// Its value in the trie.
    #[must_use]
    pub fn entry(self, action: Action) -> Entry {
        Entry::new(action, self.length())
    }

    /// Whether it has no bits, see [`Control::short_v6`](super::Control::short_v6).
    #[must_use]
    pub fn is_short_v6(self) -> bool {
        !self.is_v4 && self.length < SHORTEST_V6
    }

    /// Sets its bits.
    pub fn set_bits(self, generation: u8, seed: u64, words: &mut impl Words) {
        if self.is_v4 {
            let first = u32::from_be_bytes(self.address.v4_octets()) >> 8;
            let count = 1 << 24_u8.saturating_sub(self.length());
            if count < 64 {
                let bits = (first..first + count).map(|number| bit_of_24(generation, number));
                let mask = bits.fold(0, |mask, bit| mask | bit.mask);
                return words.set(bit_of_24(generation, first).word, mask);
            }
            for number in (first..first + count).step_by(64) {
                words.set(bit_of_24(generation, number).word, u64::MAX);
            }
            return;
        }
        let high = u64::from_be(self.address.words()[0]);
        if self.length >= 48 {
            let bit = bit_of_hashed(generation, !seed, high >> 16);
            words.set(bit.word, bit.mask);
        } else if !self.is_short_v6() {
            let count = 1 << 32_u8.saturating_sub(self.length);
            for number in 0..count {
                let bit = bit_of_hashed(generation, seed, (high >> 32) + number);
                words.set(bit.word, bit.mask);
            }
        }
    }
}

/// Where bits are set.
pub trait Words {
    /// Sets the bits of `mask` in a word.
    fn set(&mut self, word: u32, mask: u64);
}

/// The words of a generation's bitmap, to be emptied.
#[must_use]
pub fn words_of(generation: u8) -> std::ops::Range<u32> {
    let first = half(generation);
    debug_assert!(first >= HEADER && V4_WORDS < HALF);
    first..first + HALF
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::IpAddr};

    use super::*;
    use crate::firewall::{
        WORDS, bit_of_v4, bits_of_v6,
        lock::{PORT_WORDS, bit_of_port},
    };

    #[derive(Default)]
    struct Map(HashMap<u32, u64>);

    impl Words for Map {
        fn set(&mut self, word: u32, mask: u64) {
            assert!(word < WORDS);
            *self.0.entry(word).or_default() |= mask;
        }
    }

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap())
    }

    const SEED: u64 = 0x1234_5678_9abc_def1;

    fn is_set(map: &Map, generation: u8, address: IpAddr) -> bool {
        let holds = |bit: super::super::Bit| {
            map.0
                .get(&bit.word)
                .is_some_and(|word| word & bit.mask != 0)
        };
        if address.is_ipv4() {
            holds(bit_of_v4(generation, address.into()))
        } else {
            bits_of_v6(generation, SEED, address.into())
                .into_iter()
                .any(holds)
        }
    }

    #[test]
    fn what_a_prefix_covers_has_a_bit() {
        for (text, inside, outside) in [
            ("198.51.100.0/24", "198.51.100.255", "198.51.101.0"),
            ("198.51.100.7/32", "198.51.100.7", "198.51.99.255"),
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.32.0.0/13", "10.39.255.255", "10.40.0.0"),
            ("192.168.6.0/23", "192.168.7.1", "192.168.8.1"),
            ("0.0.0.0/0", "255.255.255.255", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("2001:db0::/28", "2001:dbf::1", "2001:dc0::1"),
            ("2001:db8:5::/48", "2001:db8:5:9::1", "2001:db8:6::1"),
            ("2001:db8:5:6::7/128", "2001:db8:5:6::7", "2001:db8:6:6::7"),
            ("2001:db8:4::/46", "2001:db8:7::", "2001:db9:7::"),
        ] {
            for generation in [6, 7] {
                let mut map = Map::default();
                prefix(text).set_bits(generation, SEED, &mut map);
                let words = words_of(generation);
                assert!(map.0.keys().all(|word| words.contains(word)), "{text}");
                assert!(is_set(&map, generation, inside.parse().unwrap()), "{text}");
                assert!(
                    !is_set(&map, generation, outside.parse().unwrap()),
                    "{text}"
                );
                assert!(
                    !is_set(&map, generation ^ 1, inside.parse().unwrap()),
                    "{text}"
                );
                assert!(prefix(text).contains(inside.parse().unwrap()), "{text}");
                assert!(!prefix(text).contains(outside.parse().unwrap()), "{text}");
            }
        }
    }

    #[test]
    fn short_prefixes_of_ipv6_have_a_flag_instead() {
        let mut map = Map::default();
        for text in ["::/0", "2000::/3", "fe80::/10", "2001::/19"] {
            assert!(prefix(text).is_short_v6(), "{text}");
            prefix(text).set_bits(0, SEED, &mut map);
        }
        assert!(map.0.is_empty());
        assert!(!prefix("2001:0::/20").is_short_v6());
        assert!(!prefix("0.0.0.0/0").is_short_v6());
    }

    #[test]
    fn keys_begin_with_generation_and_scope() {
        let key = prefix("198.51.100.0/24").key(9, 3);
        assert_eq!(key.prefix_length, 32 + 96 + 24);
        assert_eq!(u32::from_be(key.scope), 9 << 24 | 1 << 23 | 3);
        let asked = Key::of(9, 3, Address::from_v4([198, 51, 100, 7]));
        assert_eq!(asked.scope, key.scope);
        assert_eq!(u32::from_be(prefix("::/0").key(9, 3).scope), 9 << 24 | 3);
        assert_eq!(key.generation(), 9);
        assert_eq!(size_of::<Key>(), 24);
        assert_eq!(prefix("198.51.100.77/24"), prefix("198.51.100.0/24"));
        assert_eq!(prefix("198.51.100.77/24").length(), 24);
    }

    #[test]
    fn the_map_holds_both_generations_and_then_the_ports() {
        assert_eq!(words_of(0).end, words_of(1).start);
        assert_eq!(words_of(1).end, PORT_WORDS.start);
        assert_eq!(bit_of_port(false, 0).word, PORT_WORDS.start);
        let (tcp, udp) = (bit_of_port(false, u16::MAX), bit_of_port(true, 0));
        assert_eq!(tcp.word + 1, udp.word);
        assert_eq!(bit_of_port(true, u16::MAX).word + 1, WORDS);
    }
}
