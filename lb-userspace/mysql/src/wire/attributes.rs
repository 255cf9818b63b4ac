//! What a client says of itself when it logs in: its name, its version, its machine.

use super::{Reader, reader::put_text};

/// Bytes of attributes at most, as servers have it.
pub const MOST_ATTRIBUTES: usize = 64 << 10;

/// What a client says of itself: names and values, as they stand in the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'p>(&'p [u8]);

impl<'p> Attributes<'p> {
    /// Reads them behind their length. They have to be whole.
    pub(super) fn read(reader: &mut Reader<'p>) -> Option<Self> {
        let attributes = Self(reader.text()?);
        let mut rest = Reader(attributes.0);
        while !rest.is_empty() {
            rest.text()?;
            rest.text()?;
        }
        (attributes.0.len() <= MOST_ATTRIBUTES).then_some(attributes)
    }

    /// Those that were made by [`put_attribute`].
    #[must_use]
    pub const fn made(bytes: &'p [u8]) -> Self {
        Self(bytes)
    }

    /// Names and values.
    pub fn iter(self) -> impl Iterator<Item = (&'p [u8], &'p [u8])> {
        let mut reader = Reader(self.0);
        std::iter::from_fn(move || Some((reader.text()?, reader.text()?)))
    }

    /// As they stand in the packet, without their length.
    #[must_use]
    pub const fn bytes(self) -> &'p [u8] {
        self.0
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        put_text(out, self.0);
    }
}

/// Appends an attribute to bytes for [`Attributes::made`].
pub fn put_attribute(out: &mut Vec<u8>, name: &str, value: &str) {
    put_text(out, name.as_bytes());
    put_text(out, value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_whole_or_not_at_all() {
        let bytes = b"\x0a\x03_os\x03bsd\x01arest";
        assert_eq!(Attributes::read(&mut Reader(bytes)), None);
        let bytes = b"\x08\x03_os\x03bsdrest";
        let mut reader = Reader(bytes);
        let attributes = Attributes::read(&mut reader).unwrap();
        let pairs: Vec<_> = attributes.iter().collect();
        assert_eq!(pairs, [(&b"_os"[..], &b"bsd"[..])]);
        assert_eq!(reader.0, b"rest");
        let mut made = Vec::new();
        put_attribute(&mut made, "_os", "bsd");
        assert_eq!(attributes, Attributes::made(&made));
    }
}
