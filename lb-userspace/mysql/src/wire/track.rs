//! What servers say of a session's state, at the end of OK packets.
//!
//! Each entry is a kind, a length and contents. MySQL and MariaDB share the kinds; MariaDB has no
//! entry for GTIDs but the system variable `last_gtid`.

use super::{Malformed, Reader, reader::put_text};

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracked<'p> {
    /// A system variable has a value now. `NULL` is empty.
    Variable {
        /// Its name.
        name: &'p [u8],
        /// Its value as text.
        value: &'p [u8],
    },
    /// The default database is this one; empty for none.
    Schema(&'p [u8]),
    /// Something of the session has changed since the last time that was said.
    StateChanged(bool),
    /// Transactions that the session has committed (or, on demand, all that the server has).
    Gtids(&'p [u8]),
    /// Statements that begin a transaction like the open one, or the next one; empty when it is
    /// like any other.
    Characteristics(&'p [u8]),
    /// Where the session is in its transaction.
    Transaction(Transaction),
    /// Something that nobody knows yet, by its kind.
    Unknown(u8),
}

/// Where a session is in its transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// `T` begun by a statement, `I` by itself because autocommit is off.
    pub open: Option<Open>,
    /// Tables without transactions were read.
    pub read_unsafe: bool,
    /// Tables with transactions were read.
    pub read: bool,
    /// Tables without transactions were written.
    pub wrote_unsafe: bool,
    /// Tables with transactions were written.
    pub wrote: bool,
    /// A statement ran that gives other results on another server.
    pub ran_unsafe: bool,
    /// A result was sent.
    pub sent: bool,
    /// Tables are locked by `LOCK TABLES`.
    pub locked: bool,
}

/// How a transaction was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// By `BEGIN` or `START TRANSACTION`.
    Explicit,
    /// By a statement, as autocommit is off.
    Implicit,
}

impl Transaction {
    /// Eight letters or underscores; MariaDB's are the same.
    fn read(text: &[u8]) -> Result<Self, Malformed> {
        let [open, others @ ..] = *text.first_chunk::<8>().ok_or(Malformed)?;
        let [
            read_unsafe,
            read,
            wrote_unsafe,
            wrote,
            ran_unsafe,
            sent,
            locked,
        ] = others.map(|letter| letter != b'_');
        Ok(Self {
            open: match open {
                b'T' => Some(Open::Explicit),
                b'I' => Some(Open::Implicit),
                b'_' => None,
                _ => return Err(Malformed),
            },
            read_unsafe,
            read,
            wrote_unsafe,
            wrote,
            ran_unsafe,
            sent,
            locked,
        })
    }

    fn letters(self) -> [u8; 8] {
        let letter = |is_set, letter| if is_set { letter } else { b'_' };
        [
            match self.open {
                Some(Open::Explicit) => b'T',
                Some(Open::Implicit) => b'I',
                None => b'_',
            },
            letter(self.read_unsafe, b'r'),
            letter(self.read, b'R'),
            letter(self.wrote_unsafe, b'w'),
            letter(self.wrote, b'W'),
            letter(self.ran_unsafe, b's'),
            letter(self.sent, b'S'),
            letter(self.locked, b'L'),
        ]
    }
}

const VARIABLES: u8 = 0;
const SCHEMA: u8 = 1;
const STATE_CHANGED: u8 = 2;
const GTIDS: u8 = 3;
const CHARACTERISTICS: u8 = 4;
const TRANSACTION: u8 = 5;

/// The entries of a packet, as they stand in it. They are read when somebody looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trackers<'p>(pub &'p [u8]);

impl<'p> Trackers<'p> {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// All entries. The first that is malformed is the last.
    #[must_use]
    pub const fn iter(self) -> Iter<'p> {
        Iter {
            entries: Reader(self.0),
            variables: Reader(&[]),
        }
    }
}

/// Reads entries one by one.
#[derive(Clone, Debug)]
pub struct Iter<'p> {
    entries: Reader<'p>,
    /// What is left of an entry that has several variables.
    variables: Reader<'p>,
}

impl<'p> Iter<'p> {
    fn read(&mut self) -> Option<Tracked<'p>> {
        if self.variables.is_empty() {
            let kind = self.entries.u8()?;
            let mut contents = Reader(self.entries.text()?);
            if kind != VARIABLES {
                return Self::entry(kind, &mut contents);
            }
            self.variables = contents;
        }
        let name = self.variables.text()?;
        let value = self.variables.nullable()?.unwrap_or_default();
        Some(Tracked::Variable { name, value })
    }

    fn entry(kind: u8, contents: &mut Reader<'p>) -> Option<Tracked<'p>> {
        Some(match kind {
            SCHEMA => Tracked::Schema(contents.text()?),
            // The one kind without a length of its own, whatever the manual says.
            STATE_CHANGED => Tracked::StateChanged(contents.rest() == b"1"),
            GTIDS => {
                // A way to write them; there is only one.
                contents.u8()?;
                Tracked::Gtids(contents.text()?)
            }
            CHARACTERISTICS => Tracked::Characteristics(contents.text()?),
            TRANSACTION => Tracked::Transaction(Transaction::read(contents.text()?).ok()?),
            unknown => Tracked::Unknown(unknown),
        })
    }
}

impl<'p> Iterator for Iter<'p> {
    type Item = Result<Tracked<'p>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.entries.is_empty() && self.variables.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_none() {
            // What follows cannot be told apart any more.
            self.entries.rest();
            self.variables.rest();
        }
        Some(read.ok_or(Malformed))
    }
}

/// Appends an entry; unknown ones have no contents.
pub fn put(out: &mut Vec<u8>, tracked: Tracked<'_>) {
    let mut contents = Vec::new();
    let kind = match tracked {
        Tracked::Variable { name, value } => {
            put_text(&mut contents, name);
            put_text(&mut contents, value);
            VARIABLES
        }
        Tracked::Schema(name) => {
            put_text(&mut contents, name);
            SCHEMA
        }
        Tracked::StateChanged(is_changed) => {
            contents.push(if is_changed { b'1' } else { b'0' });
            STATE_CHANGED
        }
        Tracked::Gtids(gtids) => {
            contents.push(0);
            put_text(&mut contents, gtids);
            GTIDS
        }
        Tracked::Characteristics(statements) => {
            put_text(&mut contents, statements);
            CHARACTERISTICS
        }
        Tracked::Transaction(transaction) => {
            put_text(&mut contents, &transaction.letters());
            TRANSACTION
        }
        Tracked::Unknown(kind) => kind,
    };
    out.push(kind);
    put_text(out, &contents);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<Result<Tracked<'_>, Malformed>> {
        Trackers(bytes).iter().collect()
    }

    fn variable<'p>(name: &'p str, value: &'p str) -> Tracked<'p> {
        Tracked::Variable {
            name: name.as_bytes(),
            value: value.as_bytes(),
        }
    }

    #[test]
    fn entries_are_read_as_servers_send_them() {
        let transaction = Transaction {
            open: Some(Open::Explicit),
            read: true,
            wrote: true,
            ..Transaction::default()
        };
        for (bytes, expected) in [
            (&b"\x01\x05\x04test"[..], vec![Tracked::Schema(b"test")]),
            (b"\x02\x01\x31", vec![Tracked::StateChanged(true)]),
            (
                b"\x00\x0f\x0aautocommit\x03OFF",
                vec![variable("autocommit", "OFF")],
            ),
            // MariaDB puts several into one entry; one of them is NULL.
            (
                b"\x00\x08\x01a\x011\x02bc\xfb",
                vec![variable("a", "1"), variable("bc", "")],
            ),
            (b"\x03\x06\x00\x04u:42", vec![Tracked::Gtids(b"u:42")]),
            (
                b"\x05\x09\x08T_R_W___\x04\x01\x00",
                vec![
                    Tracked::Transaction(transaction),
                    Tracked::Characteristics(b""),
                ],
            ),
            (b"\x7f\x02ab", vec![Tracked::Unknown(0x7f)]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(Ok).collect();
            assert_eq!(read(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_first_malformed_entry_is_the_last() {
        let schema = Ok(Tracked::Schema(b"a"));
        assert_eq!(
            read(b"\x01\x02\x01a\x01\x09\x01b"),
            [schema, Err(Malformed)]
        );
        for malformed in [
            &b"\x05\x02\x01T"[..],
            b"\x05\x09\x08X_______",
            b"\x00\x02\x01a",
            b"\x01",
        ] {
            assert_eq!(read(malformed), [Err(Malformed)], "{malformed:?}");
        }
    }

    fn any_transaction() -> impl Strategy<Value = Transaction> {
        let open = prop_oneof![
            Just(None),
            Just(Some(Open::Explicit)),
            Just(Some(Open::Implicit))
        ];
        (open, any::<[bool; 7]>()).prop_map(|(open, flags)| {
            let [
                read_unsafe,
                read,
                wrote_unsafe,
                wrote,
                ran_unsafe,
                sent,
                locked,
            ] = flags;
            Transaction {
                open,
                read_unsafe,
                read,
                wrote_unsafe,
                wrote,
                ran_unsafe,
                sent,
                locked,
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_made_is_read(a: Vec<u8>, b: Vec<u8>, flag: bool, transaction in any_transaction()) {
            let all = [
                Tracked::Variable { name: &a, value: &b },
                Tracked::Schema(&b),
                Tracked::StateChanged(flag),
                Tracked::Gtids(&a),
                Tracked::Characteristics(&a),
                Tracked::Transaction(transaction),
                Tracked::Unknown(99),
            ];
            let mut out = Vec::new();
            all.iter().for_each(|tracked| put(&mut out, *tracked));
            let expected: Vec<_> = all.into_iter().map(Ok).collect();
            prop_assert_eq!(read(&out), expected);
        }

        #[test]
        fn garbage_is_no_panic_and_has_an_end(bytes: Vec<u8>) {
            prop_assert!(read(&bytes).len() <= bytes.len() + 1);
        }
    }
}
