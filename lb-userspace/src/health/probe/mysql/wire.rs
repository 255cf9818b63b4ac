//! MySQL's packets, as far as a check needs them. Whatever is read is bounded: a server that says
//! more is no server to be checked.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::health::probe::{
    failed::{Failed, system_words},
    line::bounded,
};

/// Bytes of a packet that are read at most.
const LONGEST: usize = 16 << 10;
/// Columns of a result at most.
const MOST_COLUMNS: u64 = 256;
/// Rows of a result at most.
const MOST_ROWS: usize = 64;

/// Something that both plain and encrypted connections are.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Packets over a connection.
pub(super) struct Packets<T> {
    pub(super) stream: T,
    /// Of the next packet.
    pub(super) sequence: u8,
}

impl<T: Stream> Packets<T> {
    pub(super) async fn receive(&mut self) -> Result<Vec<u8>, Failed> {
        let mut head = [0; 4];
        let ended = |error: &io::Error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                "closed without an answer of MySQL".to_owned()
            } else {
                system_words(error)
            }
        };
        let read = self.stream.read_exact(&mut head).await;
        read.map_err(|error| Failed::because(ended(&error)))?;
        let [a, b, c, sequence] = head;
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        if length > LONGEST || sequence != self.sequence {
            return Err(not_mysql());
        }
        self.sequence = sequence.wrapping_add(1);
        let mut packet = vec![0; length];
        let read = self.stream.read_exact(&mut packet).await;
        read.map_err(|error| Failed::because(ended(&error)))?;
        Ok(packet)
    }

    pub(super) async fn send(&mut self, packet: &[u8]) -> Result<(), Failed> {
        let [a, b, c, _] = (packet.len() as u32).to_le_bytes();
        let mut framed = vec![a, b, c, self.sequence];
        framed.extend_from_slice(packet);
        self.sequence = self.sequence.wrapping_add(1);
        let sent = self.stream.write_all(&framed).await;
        sent.map_err(|error| Failed::because(system_words(&error)))?;
        let flushed = self.stream.flush().await;
        flushed.map_err(|error| Failed::because(system_words(&error)))
    }

    /// Asks for rows of texts, by the names of their columns; an error of the server is told.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Rows, Refused> {
        self.sequence = 0;
        let mut packet = vec![0x03];
        packet.extend_from_slice(sql.as_bytes());
        self.send(&packet).await?;
        let head = self.receive().await?;
        if let Some(error) = ServerError::read(&head) {
            return Err(Refused::Server(error));
        }
        let columns = Reader(&head)
            .number()
            .filter(|count| *count <= MOST_COLUMNS);
        let mut names = Vec::new();
        for _ in 0..columns.ok_or_else(not_mysql)? {
            let definition = self.receive().await?;
            let mut reader = Reader(&definition);
            // Catalog, schema, table, original table, name.
            let name = (0..5).map(|_| reader.text()).last().flatten().flatten();
            names.push(String::from_utf8_lossy(name.ok_or_else(not_mysql)?).into_owned());
        }
        let mut rows = Vec::new();
        let mut ends = if names.is_empty() { 0 } else { 2 };
        while ends > 0 {
            let packet = self.receive().await?;
            if let Some(error) = ServerError::read(&packet) {
                return Err(Refused::Server(error));
            }
            if packet.first() == Some(&0xfe) && packet.len() < 9 {
                ends -= 1;
            } else if ends == 2 || rows.len() >= MOST_ROWS {
                return Err(not_mysql().into());
            } else {
                let mut reader = Reader(&packet);
                let row: Option<Vec<_>> = names
                    .iter()
                    .map(|_| {
                        let text = reader.text()?;
                        Some(text.map(|text| String::from_utf8_lossy(text).into_owned()))
                    })
                    .collect();
                rows.push(row.ok_or_else(not_mysql)?);
            }
        }
        Ok(Rows { names, rows })
    }
}

pub(super) fn not_mysql() -> Failed {
    Failed::because("the answer is not MySQL")
}

/// Why a query has no rows.
pub(super) enum Refused {
    /// The server says so.
    Server(ServerError),
    /// There is no such answer.
    Failed(Failed),
}

impl From<Failed> for Refused {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Server(error) => error.into(),
            Refused::Failed(failed) => failed,
        }
    }
}

/// What a server refuses with.
pub(super) struct ServerError {
    pub(super) code: u16,
    words: String,
}

impl ServerError {
    /// The error that a packet is, if it is one.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let (code, words) = packet.strip_prefix(&[0xff])?.split_first_chunk()?;
        // Before the login there is no SQL state.
        let words = match words {
            [b'#', _, _, _, _, _, rest @ ..] => rest,
            words => words,
        };
        Some(Self {
            code: u16::from_le_bytes(*code),
            words: bounded(&String::from_utf8_lossy(words)),
        })
    }
}

impl From<ServerError> for Failed {
    fn from(error: ServerError) -> Self {
        Self::because(format!("MySQL error {}: {}", error.code, error.words))
    }
}

/// The rows of a result.
pub(super) struct Rows {
    names: Vec<String>,
    pub(super) rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// The value of a column that has one of these names, if there is such a column; `NULL` is
    /// none.
    pub(super) fn value<'r>(
        &self,
        row: &'r [Option<String>],
        names: &[&str],
    ) -> Option<Option<&'r str>> {
        let is_meant = |own: &String| names.iter().any(|name| own.eq_ignore_ascii_case(name));
        let index = self.names.iter().position(is_meant)?;
        Some(row.get(index)?.as_deref())
    }
}

/// Takes a packet apart.
pub(super) struct Reader<'p>(pub(super) &'p [u8]);

impl<'p> Reader<'p> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'p [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// Up to a zero, which is taken too.
    pub(super) fn until_zero(&mut self) -> Option<&'p [u8]> {
        let length = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(length)?;
        self.take(1)?;
        Some(text)
    }

    /// A number of one to nine bytes.
    fn number(&mut self) -> Option<u64> {
        let [first] = self.array()?;
        let length = match first {
            0..=0xfa => return Some(first.into()),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            0xfb | 0xff => return None,
        };
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(self.take(length)?);
        Some(u64::from_le_bytes(bytes))
    }

    /// A text behind its length; `NULL` is none.
    fn text(&mut self) -> Option<Option<&'p [u8]>> {
        if self.0.first() == Some(&0xfb) {
            self.take(1)?;
            return Some(None);
        }
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_read_as_the_protocol_has_them() {
        let mut reader = Reader(b"\xfa\xfc\x01\x02\xfd\x01\x00\x01\x03abc\xfbx\0y");
        assert_eq!(reader.number(), Some(250));
        assert_eq!(reader.number(), Some(513));
        assert_eq!(reader.number(), Some(65_537));
        assert_eq!(reader.text(), Some(Some(&b"abc"[..])));
        assert_eq!(reader.text(), Some(None));
        assert_eq!(reader.until_zero(), Some(&b"x"[..]));
        assert_eq!(reader.until_zero(), None);
        for short in [&b""[..], b"\xfc\x01", b"\xff", b"\x05abc"] {
            assert_eq!(Reader(short).text(), None, "{short:?}");
        }
    }

    #[test]
    fn errors_are_read_with_and_without_a_state() {
        for packet in [&b"\xff\x10\x04Too many"[..], b"\xff\x10\x04#08004Too many"] {
            let error = ServerError::read(packet).map(Failed::from);
            assert_eq!(error.unwrap().words, "MySQL error 1040: Too many");
        }
        assert!(ServerError::read(b"\x00\x10").is_none());
        assert!(ServerError::read(b"\xff\x10").is_none());
    }
}
