//! MySQL's packets, as far as a check needs them. Whatever is read is bounded: a server that says
//! more is no server to be checked.

use std::io;

use lb_mysql::wire::{
    Capabilities, Reader,
    command::Command,
    error::Refusal,
    ok::ends_rows,
    packet::{self, HEADER, Header},
};
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
        let mut head = [0; HEADER];
        let ended = |error: &io::Error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                "closed without an answer of MySQL".to_owned()
            } else {
                system_words(error)
            }
        };
        let read = self.stream.read_exact(&mut head).await;
        read.map_err(|error| Failed::because(ended(&error)))?;
        let Some(Header { length, sequence }) = Header::read(&head) else {
            return Err(not_mysql());
        };
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
        let mut framed = Vec::new();
        packet::put(&mut framed, &mut self.sequence, packet);
        let sent = self.stream.write_all(&framed).await;
        sent.map_err(|error| Failed::because(system_words(&error)))?;
        let flushed = self.stream.flush().await;
        flushed.map_err(|error| Failed::because(system_words(&error)))
    }

    /// Asks for rows of texts, by the names of their columns; an error of the server is told.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Rows, Refused> {
        self.sequence = 0;
        let mut packet = vec![Command::Query as u8];
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
            let name = (0..5).map(|_| reader.text()).last().flatten();
            names.push(String::from_utf8_lossy(name.ok_or_else(not_mysql)?).into_owned());
        }
        let mut rows = Vec::new();
        let mut ends = if names.is_empty() { 0 } else { 2 };
        while ends > 0 {
            let packet = self.receive().await?;
            if let Some(error) = ServerError::read(&packet) {
                return Err(Refused::Server(error));
            }
            let first = packet.first().copied().unwrap_or_default();
            if ends_rows(first, packet.len(), Capabilities::NONE) {
                ends -= 1;
            } else if ends == 2 || rows.len() >= MOST_ROWS {
                return Err(not_mysql().into());
            } else {
                let mut reader = Reader(&packet);
                let row: Option<Vec<_>> = names
                    .iter()
                    .map(|_| {
                        let text = reader.nullable()?;
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
        Refusal::read(packet).map(Self::from)
    }
}

impl From<Refusal<'_>> for ServerError {
    fn from(refusal: Refusal<'_>) -> Self {
        Self {
            code: refusal.code,
            words: bounded(&String::from_utf8_lossy(refusal.message)),
        }
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
