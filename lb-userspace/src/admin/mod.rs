//! The admin socket: HTTP and JSON between the running agent and commands such as `lb status`.

pub mod client;
mod listing;
mod server;
mod socket;

use std::{io, path::PathBuf};

pub use self::server::Server;
use crate::{capture, flow_list::Query, status::Status, why};

/// Where the server has its answers from.
pub trait StatusSource: Send + Sync {
    /// As of now. It may take its time; the server calls it on a thread where that is allowed.
    fn status(&self) -> Status;

    /// Begins to list flows. As for the status.
    ///
    /// # Errors
    /// With a sentence, when the query names what does not exist.
    fn flows(&self, query: &Query) -> Result<Box<dyn Pieces>, String>;

    /// Begins to capture packets. As for the status.
    ///
    /// # Errors
    /// With a sentence, when the query names what does not exist, or capturing is not possible.
    fn capture(&self, query: &capture::Query) -> Result<Box<dyn Pieces>, String>;

    /// Says what would become of a packet. As for the status.
    ///
    /// # Errors
    /// With a sentence, when there can be no such packet, or it cannot be tried.
    fn why(&self, query: &why::Query) -> Result<why::Answer, String>;
}

/// An answer in the making, in pieces: a [document](crate::flow_list::document) of flows, or a
/// file of captured packets.
pub trait Pieces: Send {
    /// Appends the next piece, which may be empty, and says whether there are more. It may take
    /// some milliseconds; the server calls it on a thread where that is allowed, and only when the
    /// client has taken the piece before.
    fn next(&mut self, piece: &mut Vec<u8>) -> bool;
}

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another agent has it.
    #[error(
        "another agent answers on {path}; stop it first, or give this one its own admin.socket"
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// It would have to be deleted, and is not ours.
    #[error("cannot make the admin socket {path}: a file that is not a socket is in its place")]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot make the admin socket {path}: {cause}")]
    System {
        /// The socket.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}
