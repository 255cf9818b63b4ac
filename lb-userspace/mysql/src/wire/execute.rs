//! `COM_STMT_EXECUTE`, and MariaDB's for many rows.
//!
//! A client sends the types of its parameters with the first execution of a statement, and may
//! leave them out afterwards. A server that executes the statement for the first time then needs
//! those that were sent to another one: [`Execute::types`] are to be kept, and
//! [`Execute::complete`] puts them in.

use super::{Capabilities, Malformed, Reader, command::Command, query};

/// The flag of a read-only cursor, the only one that servers have.
pub const CURSOR_READ_ONLY: u8 = 1;
/// The flag of an execution that counts its parameters itself.
const COUNTS_PARAMETERS: u8 = 8;
/// The flag of a bulk execution that sends types.
const BULK_SENDS_TYPES: u16 = 128;

/// An execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'p> {
    payload: &'p [u8],
    /// Of the statement.
    pub statement: u32,
    /// Whether a cursor is asked for, which pins the session to the server.
    pub wants_cursor: bool,
    /// Types of the parameters, with their names where attributes were agreed on, if they are sent.
    pub types: Option<&'p [u8]>,
    /// Of parameters and attributes.
    count: usize,
    /// Whether types have names.
    has_names: bool,
    /// Where it is said whether types follow; none where nothing is sent.
    says_types: Option<Place>,
}

/// Where it is said whether types follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A byte there, types behind it.
    Byte(usize),
    /// A flag in the head, types behind that.
    BulkFlags,
}

impl<'p> Execute<'p> {
    /// Reads the payload, its first byte included, of a statement with so many parameters.
    ///
    /// # Errors
    /// When it is malformed; it is best left to a server to say so.
    pub fn read(
        payload: &'p [u8],
        parameters: u16,
        capabilities: Capabilities,
    ) -> Result<Self, Malformed> {
        let command = payload.first().copied().and_then(Command::from_byte);
        let read = if command == Some(Command::BulkExecute) {
            Self::parse_bulk(payload, parameters)
        } else {
            Self::parse(payload, parameters, capabilities)
        };
        read.ok_or(Malformed)
    }

    fn parse(payload: &'p [u8], parameters: u16, capabilities: Capabilities) -> Option<Self> {
        let mut reader = Reader(payload.strip_prefix(&[Command::Execute as u8])?);
        let statement = reader.u32()?;
        let flags = reader.u8()?;
        // Iterations: always one.
        reader.u32()?;
        let has_attributes = capabilities.has(Capabilities::QUERY_ATTRIBUTES);
        let mut count = usize::from(parameters);
        // Servers look at the flag only where there is no parameter.
        if has_attributes && (count > 0 || flags & COUNTS_PARAMETERS != 0) {
            count = usize::try_from(reader.number()?).ok()?;
        }
        let mut execute = Self {
            payload,
            statement,
            wants_cursor: flags & CURSOR_READ_ONLY != 0,
            types: None,
            count,
            has_names: has_attributes,
            says_types: None,
        };
        if count > 0 {
            reader.take(count.div_ceil(8))?;
            execute.says_types = Some(Place::Byte(payload.len() - reader.0.len()));
            if reader.u8()? == 1 {
                execute.types = Some(query::types(&mut reader, count, has_attributes)?);
            }
        }
        Some(execute)
    }

    fn parse_bulk(payload: &'p [u8], parameters: u16) -> Option<Self> {
        let mut reader = Reader(payload.strip_prefix(&[Command::BulkExecute as u8])?);
        let statement = reader.u32()?;
        let flags = reader.u16()?;
        let sends = flags & BULK_SENDS_TYPES != 0;
        let types = sends.then(|| query::types(&mut reader, parameters.into(), false));
        Some(Self {
            payload,
            statement,
            wants_cursor: false,
            types: match types {
                Some(types) => Some(types?),
                None => None,
            },
            count: parameters.into(),
            has_names: false,
            says_types: Some(Place::BulkFlags),
        })
    }

    /// Whether types have to be put in for a server that has not seen any.
    #[must_use]
    pub const fn lacks_types(&self) -> bool {
        self.types.is_none() && self.says_types.is_some()
    }

    /// Appends the payload for a server that has not seen the types yet: with these, if it lacks
    /// them. There may be more, as attributes come behind parameters and need not come again; with
    /// fewer it stays as it is, and the server will say so.
    pub fn complete(&self, types: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let types = query::types(&mut Reader(types), self.count, self.has_names);
        match (self.says_types, types) {
            (Some(place), Some(types)) if self.types.is_none() => {
                let at = match place {
                    Place::Byte(at) => at + 1,
                    Place::BulkFlags => 7,
                };
                let (head, values) = self.payload.split_at(at);
                out.extend_from_slice(head);
                match place {
                    Place::Byte(at) => out[start + at] = 1,
                    Place::BulkFlags => out[start + 5] |= BULK_SENDS_TYPES as u8,
                }
                out.extend_from_slice(types);
                out.extend_from_slice(values);
            }
            (Some(_) | None, _) => out.extend_from_slice(self.payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: Capabilities = Capabilities::NONE;
    const NEW: Capabilities = Capabilities::QUERY_ATTRIBUTES;

    /// An execution of statement 1: what it says of types, them and the values.
    fn execution(flags: u8, before: &[u8], says: u8, types: &[u8]) -> Vec<u8> {
        let head = [0x17, 1, 0, 0, 0, flags, 1, 0, 0, 0];
        [&head, before, &[says], types, b"\x07\0\0\0\x03abc"].concat()
    }

    #[test]
    fn types_are_found_and_put_in() {
        let counted = CURSOR_READ_ONLY | COUNTS_PARAMETERS;
        let (plain, named) = (&b"\x03\0\xfd\0"[..], &b"\x03\0\x00\xfd\0\x04name"[..]);
        let bulk = |flag, types: &[u8]| {
            let head = [0xfa, 1, 0, 0, 0, flag, 0];
            [&head, types, b"\0\x07\0\0\0\0\x03abc"].concat()
        };
        for (name, client, parameters, with, without, types, wants_cursor) in [
            (
                "two parameters",
                OLD,
                2,
                execution(0, b"\0", 1, plain),
                execution(0, b"\0", 0, b""),
                plain,
                false,
            ),
            (
                "a parameter and an attribute",
                NEW,
                1,
                execution(counted, b"\x02\0", 1, named),
                execution(counted, b"\x02\0", 0, b""),
                named,
                true,
            ),
            (
                "many rows",
                OLD,
                2,
                bulk(128, plain),
                bulk(0, b""),
                plain,
                false,
            ),
        ] {
            let first = Execute::read(&with, parameters, client).unwrap();
            assert_eq!((first.statement, first.types), (1, Some(types)), "{name}");
            assert_eq!(first.wants_cursor, wants_cursor, "{name}");
            let second = Execute::read(&without, parameters, client).unwrap();
            assert!(second.lacks_types() && !first.lacks_types(), "{name}");
            for execute in [first, second] {
                let mut out = vec![9];
                execute.complete(types, &mut out);
                assert_eq!(out[1..], with, "{name}");
            }
        }
    }

    #[test]
    fn types_of_attributes_that_are_gone_are_left_out() {
        let kept = b"\x03\0\x00\xfd\0\x04name";
        let head = [0x17, 1, 0, 0, 0, COUNTS_PARAMETERS, 1, 0, 0, 0];
        let without = [&head, &b"\x01\0\0\x07\0\0\0"[..]].concat();
        let with = [&head, &b"\x01\0\x01\x03\0\0\x07\0\0\0"[..]].concat();
        let execute = Execute::read(&without, 1, NEW).unwrap();
        for (kept, expected) in [(&kept[..], &with), (&kept[..1], &without)] {
            let mut out = Vec::new();
            execute.complete(kept, &mut out);
            assert_eq!(&out, expected);
        }
    }

    #[test]
    fn a_count_is_there_with_attributes_or_parameters() {
        // As MySQL 9.7 has it, which does not look at the flag where there are parameters.
        let counted = execution(0, b"\x02\0", 1, b"\x03\0\0\xfd\0\0");
        let execute = Execute::read(&counted, 2, NEW).unwrap();
        assert_eq!(execute.types, Some(&b"\x03\0\0\xfd\0\0"[..]));
        let alone = execution(COUNTS_PARAMETERS, b"\x01\0", 1, b"\x03\0\x01n");
        let execute = Execute::read(&alone, 0, NEW).unwrap();
        assert_eq!(execute.types, Some(&b"\x03\0\x01n"[..]));
        let none = execution(0, b"", 0, b"");
        assert_eq!(Execute::read(&none, 0, NEW).unwrap().types, None);
    }

    #[test]
    fn an_execution_without_parameters_has_no_types() {
        let packet = [0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0];
        for client in [OLD, NEW] {
            let execute = Execute::read(&packet, 0, client).unwrap();
            assert!(!execute.lacks_types());
            let mut out = Vec::new();
            execute.complete(b"", &mut out);
            assert_eq!(out, packet);
        }
        for (malformed, parameters) in [(&packet[..9], 0), (&packet[..], 1), (&b"\xfa\x01"[..], 1)]
        {
            let read = Execute::read(malformed, parameters, OLD);
            assert_eq!(read, Err(Malformed), "{malformed:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(
            is_bulk: bool, flags in 0..10_u8, rest: Vec<u8>, parameters in 0..20_u16, types: Vec<u8>
        ) {
            let command = if is_bulk { 0xfa } else { 0x17 };
            let payload = [&[command, 1, 0, 0, 0, flags, 0, 0, 0, 0], &rest[..]].concat();
            for client in [OLD, NEW] {
                if let Ok(execute) = Execute::read(&payload, parameters, client) {
                    execute.complete(&types, &mut Vec::new());
                }
            }
        }
    }
}
