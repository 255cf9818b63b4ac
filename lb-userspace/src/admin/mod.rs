//! The admin socket: HTTP and JSON between the running agent and `lb status`.

pub mod client;
mod server;
mod socket;

use std::{io, path::PathBuf};

pub use self::server::Server;
use crate::status::Status;

/// Where the server has its answers from.
pub trait StatusSource: Send + Sync {
    /// As of now. It may take its time; the server calls it on a thread where that is allowed.
    fn status(&self) -> Status;
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
