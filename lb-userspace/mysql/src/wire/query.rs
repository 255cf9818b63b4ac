//! `COM_QUERY`, with and without attributes, and values of the binary protocol, which the
//! attributes are.

use super::{Capabilities, Reader};

/// A statement as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'p> {
    /// The text.
    pub sql: &'p [u8],
    /// Attributes of the statement.
    pub attributes: Attributes<'p>,
}

impl<'p> Query<'p> {
    /// Reads the payload behind the first byte.
    #[inline]
    pub(super) fn read(payload: &'p [u8], client: Capabilities) -> Option<Self> {
        if !client.has(Capabilities::QUERY_ATTRIBUTES) {
            return Some(Self {
                sql: payload,
                attributes: Attributes::default(),
            });
        }
        let mut reader = Reader(payload);
        let count = reader.number()?;
        // How many sets of values there are: always one.
        (reader.number()? == 1).then_some(())?;
        let attributes = Attributes::read(&mut reader, usize::try_from(count).ok()?)?;
        Some(Self {
            sql: reader.rest(),
            attributes,
        })
    }
}

/// Attributes of a statement, as they stand in the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'p> {
    nulls: &'p [u8],
    types: &'p [u8],
    values: &'p [u8],
}

/// An attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'p> {
    /// Its name; empty for a parameter of a prepared statement.
    pub name: &'p [u8],
    /// Its type, and whether it is unsigned.
    pub kind: [u8; 2],
    /// Its value as the binary protocol has it, `NULL` as none. Texts are without their length.
    pub value: Option<&'p [u8]>,
}

impl<'p> Attributes<'p> {
    fn read(reader: &mut Reader<'p>, count: usize) -> Option<Self> {
        if count == 0 {
            return Some(Self::default());
        }
        let nulls = reader.take(count.div_ceil(8))?;
        // Types are always with them.
        (reader.u8()? == 1).then_some(())?;
        let types = types(reader, count, true)?;
        let values = reader.0;
        let mut kinds = Reader(types);
        for index in 0..count {
            let kind: [u8; 2] = kinds.array()?;
            kinds.text()?;
            if !is_null(nulls, index) {
                value(reader, kind[0])?;
            }
        }
        let values = &values[..values.len() - reader.0.len()];
        Some(Self {
            nulls,
            types,
            values,
        })
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.types.is_empty()
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Attribute<'p>> {
        let (mut types, mut values) = (Reader(self.types), Reader(self.values));
        (0..).map_while(move |index| {
            let kind: [u8; 2] = types.array()?;
            let name = types.text()?;
            let value = if is_null(self.nulls, index) {
                None
            } else {
                Some(value(&mut values, kind[0])?)
            };
            Some(Attribute { name, kind, value })
        })
    }
}

fn is_null(nulls: &[u8], index: usize) -> bool {
    let byte = nulls.get(index / 8).copied().unwrap_or_default();
    byte >> (index % 8) & 1 != 0
}

/// The types of so many parameters, with names where that was agreed on.
pub(super) fn types<'p>(
    reader: &mut Reader<'p>,
    count: usize,
    have_names: bool,
) -> Option<&'p [u8]> {
    let before = reader.0;
    if have_names {
        for _ in 0..count {
            reader.take(2)?;
            reader.text()?;
        }
    } else {
        reader.take(count.checked_mul(2)?)?;
    }
    Some(&before[..before.len() - reader.0.len()])
}

/// A value of that type. Texts and times are without their length.
fn value<'p>(reader: &mut Reader<'p>, kind: u8) -> Option<&'p [u8]> {
    const NULL: u8 = 6;
    match kind {
        // Tiny, and MySQL's boolean.
        1 | 244 => reader.take(1),
        // Short and year.
        2 | 13 => reader.take(2),
        // Long, float, int24.
        3 | 4 | 9 => reader.take(4),
        // Double and longlong.
        5 | 8 => reader.take(8),
        NULL => reader.take(0),
        // Timestamp, date, time, datetime: a byte of length, which is as a short number.
        7 | 10..=12 => reader.text(),
        // Decimals, texts, bits, blobs, JSON, geometry.
        0 | 15 | 16 | 242 | 243 | 245..=255 => reader.text(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WITH: Capabilities = Capabilities::QUERY_ATTRIBUTES;

    #[test]
    fn a_query_is_the_text_behind_its_attributes() {
        let plain = Query::read(b"SELECT 1", Capabilities::NONE).unwrap();
        assert_eq!(plain.sql, b"SELECT 1");
        let none = Query::read(b"\x00\x01SELECT 1", WITH).unwrap();
        assert_eq!((none.sql, none.attributes.is_empty()), (plain.sql, true));
        let mut packet = b"\x04\x01\x02\x01".to_vec();
        packet.extend_from_slice(b"\xfe\0\x02id\x03\0\0\x08\x80\x01n\x0c\0\x01d");
        packet.extend_from_slice(b"\x03abc\x01\x02\x03\x04\x05\x06\x07\x08\x04\xe5\x07\x01\x01");
        packet.extend_from_slice(b"SELECT 1");
        let some = Query::read(&packet, WITH).unwrap();
        assert_eq!(some.sql, plain.sql);
        let attributes: Vec<_> = some.attributes.iter().collect();
        let attribute = |name, kind, value| Attribute { name, kind, value };
        assert_eq!(
            attributes,
            [
                attribute(&b"id"[..], [0xfe, 0], Some(&b"abc"[..])),
                attribute(b"", [3, 0], None),
                attribute(b"n", [8, 0x80], Some(b"\x01\x02\x03\x04\x05\x06\x07\x08")),
                attribute(b"d", [12, 0], Some(b"\xe5\x07\x01\x01")),
            ]
        );
        for length in 0..packet.len() - b"SELECT 1".len() {
            assert_eq!(Query::read(&packet[..length], WITH), None, "{length}");
        }
        for malformed in [
            &b"\0\x02SELECT 1"[..],
            b"\x01\x01\0\0",
            b"\x01\x01\0\x01\x63\0\0SELECT 1",
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(Query::read(malformed, WITH), None, "{malformed:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(count in 0..20_u8, mut payload: Vec<u8>) {
            payload.splice(..0, [count, 1]);
            if let Some(query) = Query::read(&payload, WITH) {
                prop_assert_eq!(query.attributes.iter().count(), usize::from(count));
            }
        }
    }
}
