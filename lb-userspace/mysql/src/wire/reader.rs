//! Takes payloads apart, and puts them together.
//!
//! A number of variable length is one byte up to 250, or a first byte that says how many follow:
//! `fc` two, `fd` three, `fe` eight. `fb` stands for `NULL` where a text may be none.

/// The first byte of a text that is `NULL`.
pub const NULL: u8 = 0xfb;

/// Takes a payload apart from its beginning. Whatever is not there is `None`.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'p>(pub &'p [u8]);

impl<'p> Reader<'p> {
    /// The next bytes.
    pub fn take(&mut self, length: usize) -> Option<&'p [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next bytes, as many as the caller has place for.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// A number of one byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// A number of two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// A number of four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Up to a zero, which is taken too.
    pub fn until_zero(&mut self) -> Option<&'p [u8]> {
        let length = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(length)?;
        self.take(1)?;
        Some(text)
    }

    /// Up to a zero, which is taken too, or to the end: some clients leave the last zero out.
    pub fn until_zero_or_end(&mut self) -> &'p [u8] {
        self.until_zero().unwrap_or_else(|| self.rest())
    }

    /// A number of one to nine bytes.
    pub fn number(&mut self) -> Option<u64> {
        let length = match self.u8()? {
            small @ 0..=0xfa => return Some(small.into()),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            NULL | 0xff => return None,
        };
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(self.take(length)?);
        Some(u64::from_le_bytes(bytes))
    }

    /// A text behind its length.
    pub fn text(&mut self) -> Option<&'p [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    /// A text behind its length, where `NULL` is the inner `None`.
    pub fn nullable(&mut self) -> Option<Option<&'p [u8]>> {
        if self.0.first() == Some(&NULL) {
            self.take(1)?;
            return Some(None);
        }
        self.text().map(Some)
    }

    /// What is left, all of it.
    pub fn rest(&mut self) -> &'p [u8] {
        std::mem::take(&mut self.0)
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Appends a number of variable length.
pub fn put_number(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_le_bytes();
    match number {
        0..=0xfa => out.push(bytes[0]),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&bytes[..2]);
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend_from_slice(&bytes[..3]);
        }
        0x100_0000.. => {
            out.push(0xfe);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends a text behind its length.
pub fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Appends a text and a zero. A zero inside would end it early, so that the rest is left out.
pub fn put_zero_ended(out: &mut Vec<u8>, text: &[u8]) {
    let end = text.iter().position(|byte| *byte == 0);
    out.extend_from_slice(&text[..end.unwrap_or(text.len())]);
    out.push(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_texts_are_read_as_the_protocol_has_them() {
        let mut reader = Reader(b"\xfa\xfc\x01\x02\xfd\x01\x00\x01\x03abc\xfbx\0y");
        assert_eq!(reader.number(), Some(250));
        assert_eq!(reader.number(), Some(513));
        assert_eq!(reader.number(), Some(65_537));
        assert_eq!(reader.nullable(), Some(Some(&b"abc"[..])));
        assert_eq!(reader.nullable(), Some(None));
        assert_eq!(reader.until_zero(), Some(&b"x"[..]));
        assert_eq!(reader.until_zero(), None);
        assert_eq!(reader.until_zero_or_end(), b"y");
        for short in [&b""[..], b"\xfc\x01", b"\xff", b"\x05abc"] {
            assert_eq!(Reader(short).nullable(), None, "{short:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_put_is_read(number in prop_oneof![0..300_u64, 0..0x1_0010_u64, any::<u64>()], text: Vec<u8>) {
            let mut out = Vec::new();
            put_number(&mut out, number);
            put_text(&mut out, &text);
            let mut reader = Reader(&out);
            prop_assert_eq!(reader.number(), Some(number));
            prop_assert_eq!(reader.text(), Some(&text[..]));
            prop_assert!(reader.is_empty());
        }
    }
}
