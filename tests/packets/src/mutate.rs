//! Breaking frames: bits, lengths, headers, tags, extension headers.

use fastrand::Rng;

use crate::network_offset;

const VLAN: [u8; 2] = [0x81, 0x00];
const SERVICE_VLAN: [u8; 2] = [0x88, 0xa8];

/// Changes a frame in one to three ways. `other` is a frame to take pieces from. What comes out
/// has at least 14 bytes and at most 3,400.
pub fn mutate(rng: &mut Rng, frame: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..rng.u8(1..=3) {
        one_way(rng, frame, other);
    }
    frame.resize(frame.len().clamp(14, 3400), 0);
}

fn one_way(rng: &mut Rng, frame: &mut Vec<u8>, other: &[u8]) {
    let network = network_offset(frame);
    let is_v4 = frame.get(network).is_some_and(|byte| byte >> 4 == 4);
    match rng.u8(..22) {
        0..=2 => flip_bits(rng, frame),
        3 => frame.truncate(rng.usize(..=frame.len())),
        4 => {
            // Near the ends of headers, where it matters.
            let ends = [14, 18, 34, 38, 42, 54, 58, 62, 74, 78];
            frame.truncate(ends[rng.usize(..ends.len())] + rng.usize(..3));
        }
        5 => frame.extend((0..rng.usize(1..64)).map(|_| 0)),
        6 => {
            let at = network + if is_v4 { 2 } else { 4 };
            let lie = [
                rng.u16(..),
                rng.u16(..64),
                (frame.len().saturating_sub(network) as u16).wrapping_add_signed(rng.i16(-3..4)),
            ];
            put(frame, at, &lie[rng.usize(..3)].to_be_bytes());
        }
        7 => put(frame, network + if is_v4 { 8 } else { 7 }, &[rng.u8(..3)]),
        8 => put(frame, network, &[rng.u8(..)]),
        9 => put(frame, network + 6, &rng.u16(..).to_be_bytes()),
        10 => {
            let protocols = [0, 1, 6, 17, 43, 44, 50, 51, 58, 59, 60, rng.u8(..)];
            let at = network + if is_v4 { 9 } else { 6 };
            put(frame, at, &[protocols[rng.usize(..protocols.len())]]);
        }
        11 => swap(frame, 0, 6, 6),
        12 if is_v4 => swap(frame, network + 12, network + 16, 4),
        12 => swap(frame, network + 8, network + 24, 16),
        13 => {
            let at = network + if is_v4 { 20 } else { 40 };
            swap(frame, at, at + 2, 2);
        }
        14 => {
            let tags = [VLAN, SERVICE_VLAN];
            let [a, b] = tags[rng.usize(..2)];
            insert(frame, 12, &[a, b, rng.u8(..), rng.u8(..)]);
        }
        15 if is_v4 => add_options(rng, frame, network),
        15..=17 if !is_v4 => add_extension(rng, frame, network),
        16 => {
            // TCP flags and header length.
            let at = network + if is_v4 { 32 } else { 52 };
            put(frame, at, &rng.u16(..).to_be_bytes());
        }
        17 => {
            // The UDP checksum.
            put(frame, network + if is_v4 { 26 } else { 46 }, &[0, 0]);
        }
        18 => splice(rng, frame, other),
        19 => {
            let at = rng.usize(..frame.len().max(1));
            let noise: Vec<u8> = (0..rng.usize(1..24)).map(|_| rng.u8(..)).collect();
            put(frame, at, &noise);
        }
        20 => put(frame, 0, &[rng.u8(..)]),
        _ => {
            let kinds = [0x0806, 0x8847, 0x8863, 0x8864, rng.u16(..)];
            put(frame, 12, &kinds[rng.usize(..kinds.len())].to_be_bytes());
        }
    }
}

/// Writes as much as there is room for.
fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    for (target, byte) in frame.iter_mut().skip(at).zip(bytes) {
        *target = *byte;
    }
}

fn swap(frame: &mut [u8], a: usize, b: usize, length: usize) {
    for index in 0..length {
        if b + index < frame.len() {
            frame.swap(a + index, b + index);
        }
    }
}

fn insert(frame: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if at <= frame.len() {
        frame.splice(at..at, bytes.iter().copied());
    }
}

fn flip_bits(rng: &mut Rng, frame: &mut [u8]) {
    for _ in 0..rng.u8(1..9) {
        // Mostly in the headers.
        let range = if rng.u8(..4) == 0 {
            frame.len()
        } else {
            frame.len().min(80)
        };
        let at = rng.usize(..range.max(1));
        if let Some(byte) = frame.get_mut(at) {
            *byte ^= 1 << rng.u8(..8);
        }
    }
}

/// IPv4 options; the lengths are put right, or not.
fn add_options(rng: &mut Rng, frame: &mut Vec<u8>, network: usize) {
    let words = rng.u8(1..11);
    let options: Vec<u8> = (0..words * 4).map(|_| rng.u8(..8)).collect();
    insert(frame, network + 20, &options);
    if rng.u8(..4) > 0 {
        put(frame, network, &[0x45 + words.min(10)]);
        fix_length(frame, network, true);
    }
}

/// An IPv6 extension header in front of what there is; the lengths are put right, or not.
fn add_extension(rng: &mut Rng, frame: &mut Vec<u8>, network: usize) {
    let kinds = [0, 43, 44, 60];
    let kind = kinds[rng.usize(..kinds.len())];
    let units = if rng.u8(..8) == 0 { rng.u8(..) } else { 0 };
    let mut extension = vec![0; 8 + 8 * usize::from(units)];
    let Some(next) = frame.get(network + 6).copied() else {
        return;
    };
    extension[0] = next;
    extension[1] = if kind == 44 { rng.u8(..) } else { units };
    if kind == 44 && rng.bool() {
        let piece = rng.u16(..).to_be_bytes();
        extension[2..4].copy_from_slice(&piece);
    }
    insert(frame, network + 40, &extension);
    put(frame, network + 6, &[kind]);
    if rng.u8(..4) > 0 {
        fix_length(frame, network, false);
    }
}

fn fix_length(frame: &mut [u8], network: usize, is_v4: bool) {
    let there = frame.len().saturating_sub(network);
    if is_v4 {
        put(frame, network + 2, &(there as u16).to_be_bytes());
    } else {
        let payload = there.saturating_sub(40) as u16;
        put(frame, network + 4, &payload.to_be_bytes());
    }
}

/// The head of one frame on the tail of another.
fn splice(rng: &mut Rng, frame: &mut Vec<u8>, other: &[u8]) {
    let cut = rng.usize(..=frame.len().min(other.len()));
    if rng.bool() {
        frame.truncate(cut);
        frame.extend_from_slice(&other[cut..]);
    } else {
        frame[..cut].copy_from_slice(&other[..cut]);
    }
}
