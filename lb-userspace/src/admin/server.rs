//! The agent's side of the admin sockets.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use super::{
    Error, StatusSource,
    answers::{Answers, Openness, Peer},
    connection::converse,
    socket::{self, SocketFile},
    tcp,
};
use crate::config::model;

/// Connections at a time; more wait.
const MOST_CONNECTIONS: usize = 32;
/// Time for a client to ask and to read the answer; a list of flows may take longer.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// The admin sockets. Dropped, it stops answering and removes the Unix socket's file.
#[derive(Debug)]
pub struct Server {
    listener: Option<std::os::unix::net::UnixListener>,
    tcp: Option<tcp::Bound>,
    tcp_address: Option<SocketAddr>,
    /// Whether packets flow.
    is_up: Arc<AtomicBool>,
    accepting: Vec<AbortHandle>,
    path: PathBuf,
    // Last, so that the file outlives whatever answers on it.
    file: SocketFile,
}

impl Server {
    /// Makes what the config asks for, as [`Server::bind`] does, and the TCP socket. What is asked
    /// there waits for [`Server::begin`].
    ///
    /// # Errors
    /// When another agent answers there, when there is no token in the token file or no
    /// certificate in its, and when the system refuses.
    pub fn new(config: &model::Admin) -> Result<Self, Error> {
        let tcp = match config.listen {
            Some(address) => Some(tcp::Bound::new(address, config)?),
            None => None,
        };
        let mut server = Self::bind(&config.socket)?;
        server.tcp_address = tcp.as_ref().map(tcp::Bound::address);
        server.tcp = tcp;
        Ok(server)
    }

    /// Makes the Unix socket, mode 0600, and its folder if that is missing. Clients find it only
    /// after [`Server::serve`].
    ///
    /// # Errors
    /// When another agent answers there, and when the system refuses.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        let (file, listener) = socket::make(path)?;
        Ok(Self {
            listener: Some(listener),
            tcp: None,
            tcp_address: None,
            is_up: Arc::default(),
            accepting: Vec::new(),
            path: path.to_owned(),
            file,
        })
    }

    /// Where it listens by TCP.
    #[must_use]
    pub const fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp_address
    }

    /// Begins to answer by TCP, in the background, for as long as this server lives; `/readyz` says
    /// no until [`Server::serve`].
    ///
    /// # Errors
    /// When the system refuses.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn begin(&mut self, source: &Arc<dyn StatusSource>) -> Result<(), Error> {
        let Some(bound) = self.tcp.take() else {
            return Ok(());
        };
        let (listener, openness, identity) = bound.open()?;
        let answers = Answers::new(Arc::clone(source), openness, Arc::clone(&self.is_up));
        let accepting = tokio::spawn(tcp::accept(listener, identity, Arc::new(answers)));
        self.accepting.push(accepting.abort_handle());
        Ok(())
    }

    /// Begins to answer everywhere, in the background, for as long as this server lives. Packets
    /// flow by now.
    ///
    /// # Errors
    /// When another agent answers there since, and when the system refuses.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn serve(&mut self, source: Arc<dyn StatusSource>) -> Result<(), Error> {
        self.begin(&source)?;
        let Some(listener) = self.listener.take() else {
            return Ok(());
        };
        let listener = UnixListener::from_std(listener).map_err(|cause| Error::System {
            path: self.path.clone(),
            cause,
        })?;
        let answers = Answers::new(source, Openness::Trusted, Arc::clone(&self.is_up));
        let accepting = tokio::spawn(accept(listener, Arc::new(answers)));
        self.accepting.push(accepting.abort_handle());
        self.is_up.store(true, Ordering::Release);
        self.file.appear(&self.path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for accepting in &self.accepting {
            accepting.abort();
        }
    }
}

async fn accept(listener: UnixListener, answers: Arc<Answers>) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answers = Arc::clone(&answers);
                let peer = peer(&stream);
                connections.spawn(async move {
                    let _permit = permit;
                    converse(stream, answers, peer, CONNECTION_TIME).await;
                });
            }
            Err(error) => {
                // Out of files, say: that passes, and must not spin.
                tracing::debug!("cannot take a connection to the admin socket: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Who has connected; the kernel says so.
fn peer(stream: &UnixStream) -> Peer {
    match stream.peer_cred() {
        Ok(credentials) => Peer::Local {
            uid: credentials.uid(),
            pid: credentials.pid(),
        },
        Err(_) => Peer::Local {
            uid: u32::MAX,
            pid: None,
        },
    }
}
