//! Framing: payloads behind a header of three bytes of length and one of sequence.
//!
//! A payload of [`FULL`] bytes and more comes in several packets: all but the last are full, so
//! that one of exactly [`FULL`] bytes is followed by an empty packet. Sequence ids count the packets
//! of an exchange, from zero at each command, and go round.

use std::borrow::Cow;

/// Bytes of a header.
pub const HEADER: usize = 4;
/// Bytes of payload in a packet that is followed by more of the same payload.
pub const FULL: usize = 0xff_ffff;

/// What stands before a packet's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload in this packet.
    pub length: usize,
    /// Of this packet.
    pub sequence: u8,
}

impl Header {
    /// The header at the beginning of these bytes, if it is there as a whole.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, sequence] = *bytes.first_chunk()?;
        Some(Self {
            length: u32::from_le_bytes([a, b, c, 0]) as usize,
            sequence,
        })
    }

    /// The bytes of it. A length that is not [`FULL`] or less is cut to what fits.
    #[must_use]
    pub const fn bytes(self) -> [u8; HEADER] {
        let [a, b, c, ..] = self.length.to_le_bytes();
        [a, b, c, self.sequence]
    }

    /// Whether the payload goes on in the next packet.
    #[must_use]
    pub const fn goes_on(self) -> bool {
        self.length == FULL
    }
}

/// Why framing cannot go on. All of them end the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Packets are missing, or the peer has counted wrong.
    #[error("packets out of order: {found} in the place of {expected}")]
    OutOfOrder {
        /// The sequence id that comes next.
        expected: u8,
        /// The one that came.
        found: u8,
    },
    /// More than is accepted here.
    #[error("a packet of more than {most} bytes")]
    TooLong {
        /// Bytes of payload that are accepted.
        most: usize,
    },
}

/// What [`measure`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// So many bytes have to be there at least before there is anything new to say.
    Needs(usize),
    /// The payload is there as a whole.
    Whole(Extent),
}

/// Where a payload lies in the bytes it was found in, with its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from its first header to its end.
    pub bytes: usize,
    /// Bytes of payload, without headers.
    pub payload: usize,
    /// The sequence id of the packet that follows.
    pub next_sequence: u8,
}

/// Looks for a whole payload at the beginning of bytes that may end anywhere. The first packet has
/// to have that sequence id; the payload at most so many bytes, headers not counted.
///
/// # Errors
/// When it is longer, as soon as its headers say so, or the sequence ids are not in order.
pub fn measure(bytes: &[u8], first_sequence: u8, most: usize) -> Result<Measure, Error> {
    let mut extent = Extent {
        bytes: 0,
        payload: 0,
        next_sequence: first_sequence,
    };
    loop {
        let Some(header) = Header::read(&bytes[extent.bytes..]) else {
            return Ok(Measure::Needs(extent.bytes + HEADER));
        };
        if header.sequence != extent.next_sequence {
            return Err(Error::OutOfOrder {
                expected: extent.next_sequence,
                found: header.sequence,
            });
        }
        extent.next_sequence = header.sequence.wrapping_add(1);
        extent.payload += header.length;
        if extent.payload > most {
            return Err(Error::TooLong { most });
        }
        extent.bytes += HEADER + header.length;
        if extent.bytes > bytes.len() {
            return Ok(Measure::Needs(extent.bytes));
        }
        if !header.goes_on() {
            return Ok(Measure::Whole(extent));
        }
    }
}

/// The payload of bytes that [`measure`] found whole. It is copied only where it comes in several
/// packets.
#[must_use]
pub fn payload(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut pieces = pieces(bytes);
    let first = pieces.next().unwrap_or_default();
    match pieces.next() {
        None | Some([]) => Cow::Borrowed(first),
        Some(second) => {
            let mut all = [first, second].concat();
            pieces.for_each(|piece| all.extend_from_slice(piece));
            Cow::Owned(all)
        }
    }
}

fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let header = Header::read(bytes)?;
        let (piece, rest) = bytes[HEADER..].split_at_checked(header.length)?;
        bytes = if header.goes_on() { rest } else { &[] };
        Some(piece)
    })
}

/// Appends a payload with its headers, and counts the packets.
pub fn put(out: &mut Vec<u8>, sequence: &mut u8, payload: &[u8]) {
    let mut rest = payload;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(FULL));
        let header = Header {
            length: piece.len(),
            sequence: *sequence,
        };
        *sequence = sequence.wrapping_add(1);
        out.extend_from_slice(&header.bytes());
        out.extend_from_slice(piece);
        rest = after;
        if !header.goes_on() {
            return;
        }
    }
}

/// Appends a packet whose payload is made in place: for payloads that are known to be short.
pub fn put_with(out: &mut Vec<u8>, sequence: &mut u8, make: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    make(out);
    let length = out.len() - start - HEADER;
    if length >= FULL {
        let payload = out.split_off(start).split_off(HEADER);
        return put(out, sequence, &payload);
    }
    let header = Header {
        length,
        sequence: *sequence,
    };
    *sequence = sequence.wrapping_add(1);
    out[start..start + HEADER].copy_from_slice(&header.bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 64 << 20;

    fn framed(payload: &[u8], mut sequence: u8) -> (Vec<u8>, u8) {
        let mut out = Vec::new();
        put(&mut out, &mut sequence, payload);
        (out, sequence)
    }

    #[test]
    fn a_payload_of_sixteen_mebibytes_comes_in_two_packets() {
        for (length, packets) in [(FULL - 1, 1), (FULL, 2), (FULL + 1, 2), (2 * FULL, 3)] {
            let long: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let (bytes, next) = framed(&long, 0xff);
            assert_eq!(bytes.len(), length + packets * HEADER);
            let whole = measure(&bytes, 0xff, MOST);
            let extent = Extent {
                bytes: bytes.len(),
                payload: length,
                next_sequence: next,
            };
            assert_eq!(whole, Ok(Measure::Whole(extent)));
            assert_eq!(payload(&bytes).as_ref(), &long[..], "{length}");
            let mut made = vec![7];
            let mut sequence = 0xff;
            put_with(&mut made, &mut sequence, |out| out.extend_from_slice(&long));
            assert!(made[1..] == bytes[..] && sequence == next, "{length}");
            let cut = bytes.len() - 1;
            let needs = Measure::Needs(bytes.len());
            assert_eq!(measure(&bytes[..cut], 0xff, MOST), Ok(needs));
        }
    }

    #[test]
    fn what_is_too_long_or_out_of_order_is_refused_by_its_header() {
        let (bytes, _) = framed(&[7; 100], 3);
        let too_long = Error::TooLong { most: 99 };
        assert_eq!(measure(&bytes[..4], 3, 99), Err(too_long));
        let (expected, found) = (2, 3);
        let error = Error::OutOfOrder { expected, found };
        assert_eq!(measure(&bytes[..4], 2, 100), Err(error));
        assert_eq!(measure(&bytes[..4], 3, 100), Ok(Measure::Needs(104)));
        assert_eq!(measure(&bytes[..3], 3, 100), Ok(Measure::Needs(4)));
    }

    proptest! {
        #[test]
        fn what_is_framed_is_measured(content: Vec<u8>, sequence: u8, behind: Vec<u8>) {
            let (mut bytes, next_sequence) = framed(&content, sequence);
            let extent = Extent { bytes: bytes.len(), payload: content.len(), next_sequence };
            bytes.extend_from_slice(&behind);
            let whole = measure(&bytes, sequence, MOST);
            prop_assert_eq!(whole, Ok(Measure::Whole(extent)));
            let found = payload(&bytes);
            prop_assert_eq!(found.as_ref(), &content[..]);
        }

        #[test]
        fn anything_is_measured_without_a_panic(bytes: Vec<u8>, sequence in 0..2_u8) {
            let _ = measure(&bytes, sequence, 1000);
            let _ = payload(&bytes);
        }
    }
}
