//! SYN cookies (RFC 4987, section 3.6): a handshake that costs its server no memory.
//!
//! The sequence number of a SYN-ACK says what would otherwise have to be remembered of the SYN: to
//! whom it was sent, when, and how large the client's segments may be. Only who got the SYN-ACK can
//! send the acknowledgement that fits.
//!
//! Not the kernel's `bpf_tcp_raw_gen_syncookie_*`: those are made with a secret of the running
//! kernel, so a cookie would not outlive a boot nor fit in a test, and they need Linux 6.0. The
//! construction is the same, a keyed SipHash (Aumasson, Bernstein: SipHash, 2012) of both endpoints,
//! the client's number and a slow clock.
//!
//! | bits | |
//! |---|---|
//! | 31..4 | the upper bits of the hash |
//! | 3 | the lowest bit of the clock, in steps of 34 s |
//! | 2..0 | the segment size, an index of [`SEGMENT_SIZES`] |
//!
//! A cookie is taken for 34 to 69 seconds. Who forges them blindly hits one in 2^28.

use crate::{abi::Ticks, flow::FlowKey};

/// What clients announce, about, from small to large.
pub const SEGMENT_SIZES: [u16; 8] = [536, 960, 1220, 1340, 1400, 1440, 1460, 8960];

/// log2 of the ticks in a step of the clock.
const STEP: u32 = 7;
/// Ticks for which a cookie may be taken.
pub const LIFETIME: u32 = 2 << STEP;

const MAC: u32 = !0xf;
const CLOCK: u32 = 0x8;
const SIZE: u32 = 0x7;

/// The sequence number of a SYN-ACK.
///
/// `isn` is the client's sequence number, `announced` its maximum segment size, 0 if it names none.
#[inline(always)]
#[must_use]
pub fn make(seed: u64, key: &FlowKey, isn: u32, announced: u16, now: Ticks) -> u32 {
    let clock = now.0 >> STEP;
    let low = (clock << 3 & CLOCK) | size_index(announced);
    let mac = (hash(seed, key, isn, clock, low) >> 32) as u32;
    mac & MAC | low
}

/// The segment size in a cookie, if it is one of ours and not too old.
///
/// `isn` is one less than the sequence number of the client's next packet, `cookie` one less than
/// what it acknowledges.
#[inline(always)]
#[must_use]
pub fn read(seed: u64, key: &FlowKey, isn: u32, cookie: u32, now: Ticks) -> Option<u16> {
    let low = cookie & !MAC;
    let present = now.0 >> STEP;
    // The step that it was made in: this one or the one before.
    let clock = present.wrapping_sub((present << 3 ^ cookie) >> 3 & 1);
    let mac = (hash(seed, key, isn, clock, low) >> 32) as u32;
    if (mac ^ cookie) & MAC == 0 {
        Some(SEGMENT_SIZES[(cookie & SIZE) as usize])
    } else {
        None
    }
}

/// The largest size that is not larger than what was announced.
#[inline(always)]
fn size_index(announced: u16) -> u32 {
    let mut index = 0;
    for size in &SEGMENT_SIZES[1..] {
        index += u32::from(*size <= announced);
    }
    index
}

#[inline(always)]
fn hash(seed: u64, key: &FlowKey, isn: u32, clock: u32, low: u32) -> u64 {
    let [client_high, client_low] = key.client.words();
    let [service_high, service_low] = key.service.words();
    let ports = u64::from(key.client_port) | u64::from(key.service_port) << 16;
    siphash(
        [seed, seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15],
        [
            client_high,
            client_low,
            service_high,
            service_low,
            ports | u64::from(low) << 32,
            u64::from(isn) | u64::from(clock) << 32,
        ],
    )
}

/// SipHash-2-4 of six words.
#[inline(always)]
fn siphash(key: [u64; 2], words: [u64; 6]) -> u64 {
    const LENGTH: u64 = 6 * size_of::<u64>() as u64;
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for word in words {
        absorb(&mut v, word);
    }
    absorb(&mut v, LENGTH << 56);
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher as _;

    use proptest::prelude::*;

    use super::*;
    use crate::address::Address;

    const SEED: u64 = 0x1234_5678_9abc_def0;

    fn key(client: [u8; 4], port: u16) -> FlowKey {
        FlowKey {
            client: Address::from_v4(client),
            client_port: port,
            service: Address::from_v4([203, 0, 113, 10]),
            service_port: 443,
            protocol: 6,
        }
    }

    #[test]
    #[allow(
        deprecated,
        reason = "the standard library's only SipHash-2-4 with keys of one's own"
    )]
    fn the_hash_is_siphash_2_4() {
        let words = [1, u64::MAX, 0x0123_4567_89ab_cdef, 0, 77, 1 << 63];
        let mut reference = std::hash::SipHasher::new_with_keys(3, 4);
        for word in words {
            reference.write(&word.to_le_bytes());
        }
        assert_eq!(siphash([3, 4], words), reference.finish());
    }

    #[test]
    fn sizes_are_rounded_down() {
        for (announced, size) in [
            (0, 536),
            (536, 536),
            (959, 536),
            (1459, 1440),
            (1460, 1460),
            (9000, 8960),
        ] {
            assert_eq!(
                SEGMENT_SIZES[size_index(announced) as usize],
                size,
                "{announced}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_cookie_is_taken_for_a_while_and_then_no_more(
            client: [u8; 4], port: u16, isn: u32, announced: u16, made in 1000u32..1 << 30, age in 0u32..1000,
        ) {
            let key = key(client, port);
            let cookie = make(SEED, &key, isn, announced, Ticks(made));
            let taken = read(SEED, &key, isn, cookie, Ticks(made + age));
            if age < LIFETIME / 2 {
                prop_assert_eq!(taken, Some(SEGMENT_SIZES[size_index(announced) as usize]));
            } else if age >= LIFETIME {
                prop_assert_eq!(taken, None);
            }
        }

        #[test]
        fn another_endpoint_number_or_bit_does_not_fit(
            client: [u8; 4], port: u16, isn: u32, bit in 0u32..32, other_isn: u32,
        ) {
            let own = key(client, port);
            let now = Ticks(1 << 20);
            let cookie = make(SEED, &own, isn, 1460, now);
            prop_assert_eq!(read(SEED, &own, isn, cookie ^ 1 << bit, now), None);
            prop_assert_eq!(read(SEED ^ 1, &own, isn, cookie, now), None);
            let port = port.wrapping_add(1);
            prop_assert_eq!(read(SEED, &key(client, port), isn, cookie, now), None);
            if other_isn != isn {
                prop_assert_eq!(read(SEED, &own, other_isn, cookie, now), None);
            }
        }
    }
}
