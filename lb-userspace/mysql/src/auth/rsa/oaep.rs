//! How a message is padded before it is encrypted, and found again.
//!
//! `00, masked seed, masked (digest of no label, zeros, 01, message)`. Whether what was decrypted is
//! such a thing must not be seen from the time it takes: whoever can tell decrypts messages of
//! others, question by question.

use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::auth::scramble::sha1;

/// Bytes of a seed, and of a digest.
pub(super) const SEED: usize = 20;

/// Pads a message to that length; nothing where it is too long.
pub(super) fn pad(
    message: &[u8],
    mut seed: [u8; SEED],
    length: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    let block = length.checked_sub(SEED + 1)?;
    let zeros = block.checked_sub(SEED + 1 + message.len())?;
    let mut padded = Zeroizing::new(Vec::with_capacity(length));
    padded.push(0);
    padded.extend_from_slice(&[0; SEED]);
    padded.extend_from_slice(sha1(&[]).as_ref());
    padded.resize(1 + SEED + SEED + zeros, 0);
    padded.push(1);
    padded.extend_from_slice(message);
    let (head, data) = padded.split_at_mut(1 + SEED);
    mask(data, &seed);
    mask(&mut seed, data);
    head[1..].copy_from_slice(&seed);
    Some(padded)
}

/// The message in what was decrypted, if there is one.
pub(super) fn find(padded: &mut [u8]) -> Option<&[u8]> {
    let (first, rest) = padded.split_first_mut()?;
    let (seed, data) = rest.split_at_mut_checked(SEED)?;
    if data.len() <= SEED {
        return None;
    }
    mask(seed, data);
    mask(data, seed);
    let digest = sha1(&[]);
    let mut is_good = first.ct_eq(&0) & data[..SEED].ct_eq(digest.as_ref());
    let mut is_before = Choice::from(1);
    let mut start = 0_u32;
    for (index, byte) in (SEED as u32..).zip(&data[SEED..]) {
        let is_one = byte.ct_eq(&1);
        start.conditional_assign(&(index + 1), is_before & is_one);
        is_good &= !is_before | is_one | byte.ct_eq(&0);
        is_before &= !is_one;
    }
    is_good &= !is_before;
    bool::from(is_good).then(|| &data[start as usize..])
}

/// `data ^ MGF1(seed)`
fn mask(data: &mut [u8], seed: &[u8]) {
    for (count, chunk) in (0u32..).zip(data.chunks_mut(SEED)) {
        let bits = sha1(&[seed, &count.to_be_bytes()]);
        let pairs = chunk.iter_mut().zip(bits.as_ref());
        pairs.for_each(|(byte, bit)| *byte ^= bit);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_its_beginning_there_is_no_message() {
        let mut padded = vec![0; 128];
        padded[1 + SEED..1 + 2 * SEED].copy_from_slice(sha1(&[]).as_ref());
        for (last, is_found) in [(0, false), (1, true), (2, false)] {
            padded[127] = last;
            let mut masked = padded.clone();
            let (seed, data) = masked[1..].split_at_mut(SEED);
            mask(data, seed);
            mask(seed, data);
            assert_eq!(find(&mut masked).is_some(), is_found, "{last}");
        }
    }

    proptest! {
        #[test]
        fn what_is_padded_is_found(
            message in proptest::collection::vec(any::<u8>(), 0..87), seed: [u8; SEED]
        ) {
            let mut padded = pad(&message, seed, 128).unwrap();
            prop_assert_eq!(padded.len(), 128);
            prop_assert_eq!(find(&mut padded), Some(&message[..]));
        }

        #[test]
        fn what_was_changed_is_not(seed: [u8; SEED], at in 0..128_usize, with in 1..=255_u8) {
            let mut padded = pad(b"message", seed, 128).unwrap();
            padded[at] ^= with;
            // The seed itself depends on all the rest.
            prop_assert_eq!(find(&mut padded), None);
        }

        #[test]
        fn garbage_is_no_panic(mut padded: Vec<u8>) {
            let _ = find(&mut padded);
        }
    }
}
