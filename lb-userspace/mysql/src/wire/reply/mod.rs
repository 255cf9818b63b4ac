//! Watches a server's reply go by, and knows where it ends.
//!
//! Rows are not kept: of bytes just read a [`Watch`] says how many are to be forwarded as they are.
//! Packets that decide about what follows or about the session (OK, ERR, EOF, a request for a file,
//! the number of columns, a prepared statement) are offered whole, out of the reader's own buffer.
//! That is the only thing to be waited for, and it is bounded.
//!
//! ```
//! # use lb_mysql::wire::{Capabilities, reply::{Error, Expect, Watch}};
//! # fn read(buffer: &mut Vec<u8>) { buffer.extend_from_slice(b"\x07\0\0\x01\0\0\0\x02\0\0\0") }
//! # fn send(bytes: &[u8]) {}
//! # fn main() -> Result<(), Error> {
//! let mut watch = Watch::new(Capabilities::SESSION_TRACK);
//! watch.begin(Expect::Done, 1);
//! let mut buffer = Vec::new();
//! loop {
//!     let step = watch.feed(&buffer)?;
//!     send(&buffer[..step.forward]);
//!     let mut used = step.forward;
//!     if let Some(event) = &step.event {
//!         // Look at `event.packet`, here or in place of the server's bytes.
//!         send(event.raw);
//!         used += event.raw.len();
//!     }
//!     let (is_last, must_read) = (step.is_last, step.event.is_none());
//!     buffer.drain(..used);
//!     if is_last {
//!         return Ok(());
//!     }
//!     if must_read {
//!         read(&mut buffer);
//!     }
//! }
//! # }
//! ```

mod file;
#[cfg(test)]
mod tests;
mod watch;

pub use self::{file::FileWatch, watch::Watch};
use super::{error::Refusal, ok::Done, prepared::Prepared};

/// Bytes of a packet that is offered whole, at most. The longest known are OK packets that carry
/// all of a server's GTIDs.
pub const MOST_OFFERED: usize = 1 << 20;
/// Columns of a result at most. Servers have 4096.
pub const MOST_COLUMNS: u64 = 0xffff;

/// What an answer looks like, by [its command](super::command::Command::expects).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is no answer.
    Nothing,
    /// OK, EOF or ERR.
    Done,
    /// Any number of results, with rows or without; or a request for a file.
    Results,
    /// A prepared statement, its parameters and columns.
    Prepared,
    /// Rows without columns: of a cursor.
    Rows,
    /// Columns without rows: of a table.
    Columns,
    /// A text alone.
    Text,
    /// The stream of a replication, which mostly has no end.
    Binlog,
}

/// A packet that is worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'b> {
    /// A result has ended well.
    Done(Done<'b>),
    /// The columns have ended, rows come.
    ColumnsEnd(Done<'b>),
    /// An error, which ends everything.
    Refused(Refusal<'b>),
    /// A report of progress; the answer is still to come.
    Progress,
    /// A result with so many columns begins.
    Columns(u64),
    /// A statement was prepared.
    Prepared(Prepared),
    /// The client is to send this file, and [`FileWatch`] to watch it do so.
    File(&'b [u8]),
    /// A text.
    Text(&'b [u8]),
}

/// A packet that is worth a look, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'b> {
    /// What it is.
    pub packet: Packet<'b>,
    /// It with its header, as the server sent it.
    pub raw: &'b [u8],
    /// Its sequence id as the client expects it. The server's is the same, but for that of a
    /// [farewell](Refusal::is_farewell).
    pub sequence: u8,
}

/// What to do with bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'b> {
    /// So many bytes are to be forwarded as they are.
    pub forward: usize,
    /// What stands behind them. Without it more has to be read; what was not forwarded comes again.
    pub event: Option<Event<'b>>,
    /// Bytes, counted from those that were not forwarded, without which there is nothing to say.
    pub needs: usize,
    /// Whether the reply ends here.
    pub is_last: bool,
}

/// Why a reply cannot be followed any more. The server's connection is of no use then, and the
/// client cannot be told on the same one where rows have been forwarded already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Packets are missing.
    #[error("the server's packets are out of order: {found} in the place of {expected}")]
    OutOfOrder {
        /// The sequence id that comes next.
        expected: u8,
        /// The one that came.
        found: u8,
    },
    /// A packet that should be short is not.
    #[error("the server sent a packet of {length} bytes where a short one belongs")]
    TooLong {
        /// Bytes of its payload.
        length: usize,
    },
    /// A packet that does not belong there.
    #[error("the server's answer is malformed")]
    Malformed,
    /// Bytes that nobody asked for.
    #[error("the server sent something that nobody asked for")]
    Unasked,
}
