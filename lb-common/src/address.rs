//! One address type for IPv4 and IPv6.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An IP address as tables hold it: 16 bytes in network order, IPv4 as `::ffff:a.b.c.d`
/// (RFC 4291, section 2.5.5.2).
///
/// Kept as two words so that a comparison is two instructions; the words are the memory's, so no
/// byte is swapped on the hot path.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Address {
    words: [u64; 2],
}

impl Address {
    /// From an IPv4 address in network order.
    #[inline(always)]
    #[must_use]
    pub fn from_v4(octets: [u8; 4]) -> Self {
        let low = u64::from(u32::from_ne_bytes(octets));
        let mapped = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        #[cfg(target_endian = "little")]
        let word = mapped | (low << 32);
        #[cfg(target_endian = "big")]
        let word = mapped | low;
        Self { words: [0, word] }
    }

    /// From an IPv6 address in network order.
    #[inline(always)]
    #[must_use]
    pub fn from_v6(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self {
            words: [
                u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
                u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
            ],
        }
    }

    /// From the two words of [`Address::words`].
    #[inline(always)]
    #[must_use]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self { words }
    }

    /// The 16 bytes as two words of memory, first the bytes 0 to 7.
    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> [u64; 2] {
        self.words
    }

    /// The last four bytes, which hold an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub fn v4_octets(self) -> [u8; 4] {
        let [_, _, _, _, a, b, c, d] = self.words[1].to_ne_bytes();
        [a, b, c, d]
    }

    /// All 16 bytes in network order.
    #[inline(always)]
    #[must_use]
    pub fn octets(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.words[0].to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.words[1].to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Whether no host may have it as its own: unspecified, loopback, multicast, broadcast
    /// (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5).
    #[inline(always)]
    #[must_use]
    pub fn is_martian(self) -> bool {
        let [high, low] = self.words;
        if self.is_v4() {
            let [first, ..] = self.v4_octets();
            return first == 0 || first == 127 || first >= 224;
        }
        let is_multicast = high.to_ne_bytes()[0] == 0xff;
        is_multicast || (high == 0 && low & !1u64.to_be() == 0)
    }

    /// Whether this is an address of IPv6 that holds on one link only (RFC 4291, section 2.5.6).
    #[inline(always)]
    #[must_use]
    pub fn is_link_local(self) -> bool {
        let [first, second, ..] = self.words[0].to_ne_bytes();
        first == 0xfe && second & 0xc0 == 0x80
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub fn is_v4(self) -> bool {
        self == Self::from_v4(self.v4_octets())
    }
}

#[cfg(any(test, feature = "host"))]
impl From<std::net::IpAddr> for Address {
    fn from(address: std::net::IpAddr) -> Self {
        match address {
            std::net::IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            std::net::IpAddr::V6(v6) => Self::from_v6(v6.octets()),
        }
    }
}

#[cfg(any(test, feature = "host"))]
impl From<Address> for std::net::IpAddr {
    fn from(address: Address) -> Self {
        std::net::Ipv6Addr::from(address.octets()).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn martians_are_known() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
        ] {
            assert!(
                Address::from(text.parse::<IpAddr>().unwrap()).is_martian(),
                "{text}"
            );
        }
        for text in [
            "1.0.0.0",
            "10.0.0.1",
            "223.255.255.255",
            "::2",
            "fe80::1",
            "2001:db8::1",
        ] {
            assert!(
                !Address::from(text.parse::<IpAddr>().unwrap()).is_martian(),
                "{text}"
            );
        }
    }

    #[test]
    fn link_local_addresses_are_those_of_ipv6() {
        let is_link_local =
            |text: &str| Address::from(text.parse::<IpAddr>().unwrap()).is_link_local();
        for text in ["fe80::1", "fe80:1::1", "febf::ffff"] {
            assert!(is_link_local(text), "{text}");
        }
        for text in ["fec0::1", "fe7f::1", "2001:db8::1", "169.254.0.1", "::"] {
            assert!(!is_link_local(text), "{text}");
        }
    }

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        for text in ["203.0.113.10", "2001:db8::10", "0.0.0.0", "::1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Address::from(ip)), ip);
            assert_eq!(Address::from(ip).is_v4(), ip.is_ipv4());
        }
    }
}
