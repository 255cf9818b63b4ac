//! The admin API: HTTP and JSON between the running agent and commands such as `lb status`, on a
//! Unix socket and, if the config says so, on a TCP socket, where strangers are.

mod answers;
mod changes;
pub mod client;
mod connection;
mod endpoint;
mod guests;
mod held;
mod listing;
mod openapi;
mod reply;
mod server;
mod socket;
mod tcp;
mod tls;
mod token;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use lb_mysql::proxy::Proxy;

pub use self::openapi::{document as openapi, reference};
pub use self::server::Server;
pub use self::tls::Error as TlsError;
use crate::{
    capture,
    control::{
        Act, Changes, Fault, NewPrimary, Pattern, PrimaryChanged, Refusal, ReloadWish, Reloaded,
    },
    events::EventLog,
    firewall,
    flow_list::Query,
    metrics::Measures,
    mysql,
    status::Status,
    why,
};

/// Where the server has its answers from.
pub trait StatusSource: Send + Sync {
    /// As of now. It may take its time; the server calls it on a thread where that is allowed.
    fn status(&self) -> Status;

    /// The MySQL proxy, if there is one.
    fn mysql(&self) -> Option<&Proxy> {
        None
    }

    /// What happened lately.
    fn events(&self) -> Arc<EventLog> {
        EventLog::new()
    }

    /// What the metrics have beside the status. As for that.
    fn measures(&self) -> Measures {
        Measures::default()
    }

    /// Why packets do not flow although the agent has started, if they do not. As for the status.
    fn unready(&self) -> Option<String> {
        None
    }

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

    /// Changes backends at run time, as somebody asks who is named in words, and returns when that
    /// is in effect. As for the status.
    ///
    /// # Errors
    /// When nothing was changed, and why: here, because there is no backend.
    fn act(&self, pattern: Pattern, _act: Act, _who: String) -> Result<Changes, Refusal> {
        let sentence = format!("there is no backend {pattern}: this agent has no services");
        Err(Refusal::new(Fault::NotFound, sentence))
    }

    /// Reads the config file again and goes on with what it says. As for [`StatusSource::act`].
    ///
    /// # Errors
    /// When nothing was changed, and why: here, because it never is.
    fn reload(&self, _wish: &ReloadWish, _who: &str) -> Result<Reloaded, Refusal> {
        let sentence = "this agent cannot take another config over; it takes a restart";
        Err(Refusal::new(Fault::Failed, sentence))
    }

    /// Makes another server of MySQL the primary, and returns when that is done or given up. As for
    /// [`StatusSource::act`].
    ///
    /// # Errors
    /// When nothing was done, and why.
    fn change_primary(&self, change: NewPrimary, who: &str) -> Result<PrimaryChanged, Refusal> {
        mysql::change_primary(None, change, who)
    }

    /// What the firewall has. As for the status.
    fn firewall(&self) -> firewall::Document {
        firewall::Document::default()
    }

    /// Changes the firewall. As for [`StatusSource::act`].
    ///
    /// # Errors
    /// When nothing was changed, and why: here, because there is none.
    fn change_firewall(
        &self,
        _wish: firewall::Wish,
        _who: &str,
    ) -> Result<firewall::Changed, Refusal> {
        let sentence = "this agent steers nothing, so it has no firewall";
        Err(Refusal::new(Fault::NotFound, sentence))
    }

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
    /// The TCP socket.
    #[error("cannot listen on {address} (admin.listen): {}", listen_reason(cause))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// There are to be changes over TCP, and there is no secret.
    #[error(transparent)]
    Token(#[from] crate::secret_file::Error),
    /// What is said over TCP is to be encrypted, and cannot be.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What to do about it, where that is known.
fn listen_reason(cause: &io::Error) -> String {
    let kind = cause.kind();
    if kind == io::ErrorKind::AddrInUse {
        "another program listens there; choose another port".to_owned()
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "this host does not have that address".to_owned()
    } else if kind == io::ErrorKind::PermissionDenied {
        "only root may use ports below 1024".to_owned()
    } else {
        cause.to_string()
    }
}
