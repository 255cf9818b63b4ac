//! Watches a client send a file for `LOAD DATA LOCAL`.

use super::Error;
use crate::wire::packet::{HEADER, Header};

/// The client's half of a reply with a [file](super::Packet::File): packets of contents, and an
/// empty one at the end, which alone says that there is no such file.
#[derive(Clone, Debug)]
pub struct FileWatch {
    next_sequence: u8,
    /// Of the current packet.
    left: usize,
    /// The next packet belongs to the same payload, so that an empty one is not the end.
    goes_on: bool,
    is_ended: bool,
}

impl FileWatch {
    /// For the client's packets behind the request with that sequence id.
    #[must_use]
    pub const fn new(request: u8) -> Self {
        Self {
            next_sequence: request.wrapping_add(1),
            left: 0,
            goes_on: false,
            is_ended: false,
        }
    }

    /// How many of these bytes are to be forwarded to the server as they are. At the end that is
    /// not all of them: what follows are commands.
    ///
    /// # Errors
    /// When packets are out of order.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let mut at = 0;
        while !self.is_ended {
            if self.left > 0 {
                let here = self.left.min(bytes.len() - at);
                self.left -= here;
                at += here;
                if self.left > 0 {
                    break;
                }
            }
            let Some(header) = Header::read(&bytes[at..]) else {
                break;
            };
            if header.sequence != self.next_sequence {
                return Err(Error::OutOfOrder {
                    expected: self.next_sequence,
                    found: header.sequence,
                });
            }
            self.next_sequence = header.sequence.wrapping_add(1);
            self.is_ended = header.length == 0 && !self.goes_on;
            self.goes_on = header.goes_on();
            self.left = header.length;
            at += HEADER;
        }
        Ok(at)
    }

    /// Whether the file has been sent.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The sequence id of the next packet: of the server's answer, at the end.
    #[must_use]
    pub const fn next_sequence(&self) -> u8 {
        self.next_sequence
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::packet::{FULL, put};

    /// Feeds pieces as a reader would, and gives what was forwarded.
    fn forwarded(stream: &[u8], pieces: impl Iterator<Item = usize>) -> (usize, FileWatch) {
        let mut watch = FileWatch::new(1);
        let (mut seen, mut at) = (0, 0);
        for piece in pieces.chain([stream.len()]) {
            seen = (seen + piece).min(stream.len());
            at += watch.feed(&stream[at..seen]).unwrap();
        }
        (at, watch)
    }

    #[test]
    fn a_full_packet_and_its_empty_rest_are_no_end() {
        let mut stream = Vec::new();
        let mut sequence = 2;
        put(&mut stream, &mut sequence, &vec![7; FULL]);
        put(&mut stream, &mut sequence, b"");
        let end = stream.len();
        stream.extend_from_slice(b"\x01\0\0\0\x0e");
        let (at, watch) = forwarded(&stream, std::iter::empty());
        assert_eq!((at, watch.is_ended()), (end, true));
        assert_eq!(watch.next_sequence(), 5);
    }

    #[test]
    fn packets_out_of_order_are_refused() {
        let (expected, found) = (2, 3);
        let error = Error::OutOfOrder { expected, found };
        assert_eq!(FileWatch::new(1).feed(b"\x01\0\0\x03a"), Err(error));
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..5),
            cuts in proptest::collection::vec(0..9_usize, 0..30)
        ) {
            let mut stream = Vec::new();
            let mut sequence = 2;
            chunks.iter().for_each(|chunk| put(&mut stream, &mut sequence, chunk));
            put(&mut stream, &mut sequence, b"");
            let end = stream.len();
            stream.extend_from_slice(b"\x01\0\0\0\x0e");
            let (at, watch) = forwarded(&stream, cuts.into_iter());
            prop_assert_eq!((at, watch.is_ended(), watch.next_sequence()), (end, true, sequence));
        }

        #[test]
        fn garbage_is_no_panic(bytes: Vec<u8>) {
            let _ = FileWatch::new(1).feed(&bytes);
        }
    }
}
