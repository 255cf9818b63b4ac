//! DER, as far as keys and certificates need it.

/// A sequence.
pub const SEQUENCE: u8 = 0x30;
/// An integer.
pub const INTEGER: u8 = 0x02;
/// A string of bits, which begins with the number of those that do not count.
pub const BIT_STRING: u8 = 0x03;

/// Contents of the next element of DER and what follows it, if the element has that tag.
#[must_use]
pub fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ 0..0x80 => (short, rest),
        long => {
            // What has 16 MiB and more is no key and no certificate.
            let bytes = long & 0x7f;
            let (length, rest) = rest.split_at_checked(bytes).filter(|_| bytes <= 3)?;
            let length = length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
    };
    (*found == tag)
        .then(|| rest.split_at_checked(length))
        .flatten()
}

/// An element of less than 64 KiB.
#[must_use]
pub fn made(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match (contents.len() as u16).to_be_bytes() {
        [0, short @ 0..0x80] => out.push(short),
        [0, short] => out.extend([0x81, short]),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(contents);
    out
}

/// A number that is not negative, from its bytes.
#[must_use]
pub fn made_integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut contents = bytes[zeros..].to_vec();
    // A first bit would be a sign.
    if contents.first().is_none_or(|first| *first >= 0x80) {
        contents.insert(0, 0);
    }
    made(INTEGER, &contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff] {
            let contents = vec![7; length];
            let mut der = made(SEQUENCE, &contents);
            der.push(9);
            assert_eq!(element(SEQUENCE, &der), Some((&contents[..], &[9][..])));
            assert_eq!(element(INTEGER, &der), None);
            assert_eq!(element(SEQUENCE, &der[..der.len() - 2]), None);
        }
        assert_eq!(made_integer(&[0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(made_integer(&[0, 0, 3]), [2, 1, 3]);
        assert_eq!(made_integer(&[]), [2, 1, 0]);
    }
}
