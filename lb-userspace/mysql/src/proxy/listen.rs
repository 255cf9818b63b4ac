//! Clients come in: by TCP and by a Unix socket, each handed to the worker that has the fewest.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, UnixListener},
    sync::mpsc::UnboundedSender,
    time::sleep,
};

use super::{keepalive, shared::Shared};

/// Clients that may wait to be accepted.
const BACKLOG: u32 = 4096;
/// How long accepting rests when the system has nothing left for another connection.
const REST: Duration = Duration::from_millis(100);

/// Why the proxy cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address.
    #[error("mysql.listen: cannot listen on {address}: {source}")]
    Tcp {
        /// It.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The Unix socket.
    #[error("mysql.unix_socket: cannot listen on {}: {source}", path.display())]
    Unix {
        /// It.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A client that has come in.
#[derive(Debug)]
pub(super) enum Arrived {
    /// By TCP.
    Tcp(std::net::TcpStream),
    /// By the Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

/// What clients come in by.
#[derive(Debug)]
pub(super) enum Door {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket, which is removed at the end.
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "its drop matters")] Removed,
    ),
}

/// A file that is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // It may be gone; there is nobody to tell who could do something about it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Opens a TCP address. Within a runtime.
pub(super) fn tcp(address: SocketAddr) -> Result<Door, Error> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        keepalive::of_clients(&socket);
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let listener = listen().map_err(|source| Error::Tcp { address, source })?;
    Ok(Door::Tcp(listener))
}

/// Opens a Unix socket, for everybody, as MySQL's own: whoever comes has to log in. One that a dead
/// proxy left is replaced, anything else is not.
pub(super) fn unix(path: &Path) -> Result<Door, Error> {
    let listen = || {
        if let Ok(found) = fs::symlink_metadata(path) {
            let is_dead = found.file_type().is_socket()
                && std::os::unix::net::UnixStream::connect(path).is_err();
            if !is_dead {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "it is there, and in use or no socket",
                ));
            }
            fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        Ok(listener)
    };
    let listener = listen().map_err(|source| Error::Unix {
        path: path.to_owned(),
        source,
    })?;
    Ok(Door::Unix(listener, Removed(path.to_owned())))
}

/// Lets clients in for as long as it runs.
pub(super) async fn accept(
    door: Door,
    shared: Arc<Shared>,
    workers: Vec<UnboundedSender<Arrived>>,
) {
    loop {
        let arrived = match &door {
            Door::Tcp(listener) => match listener.accept().await {
                Ok((stream, _)) => {
                    // The first answer would wait for an acknowledgement otherwise.
                    let _ = stream.set_nodelay(true);
                    stream.into_std().map(Arrived::Tcp)
                }
                Err(error) => Err(error),
            },
            Door::Unix(listener, _) => match listener.accept().await {
                Ok((stream, _)) => stream.into_std().map(Arrived::Unix),
                Err(error) => Err(error),
            },
        };
        match arrived {
            Ok(arrived) => {
                let sessions = |worker: usize| {
                    let counters = &shared.workers[worker];
                    counters.sessions.load(Ordering::Relaxed)
                };
                let fewest = (0..workers.len()).min_by_key(|worker| sessions(*worker));
                let Some(worker) = fewest else { return };
                shared.workers[worker]
                    .sessions
                    .fetch_add(1, Ordering::Relaxed);
                if workers[worker].send(arrived).is_err() {
                    return;
                }
            }
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                shared.tell_rarely(&format!("cannot accept clients of MySQL: {error}"));
                sleep(REST).await;
            }
        }
    }
}

/// Errors that say nothing of the next client.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
