//! Other balancers of the same services: each tells the others of its connections, so that they go on
//! when packets come to another one. `docs/cluster.md` says what survives.
//!
//! [`wire`] has the bytes and [`session`] what protects them, both pure; [`directory`] says what a
//! flow of another balancer means here and [`tables`] puts it into the flow table; [`worker`] is the
//! thread that does it all. The data path tells of flows by [`lb_common::sync`].

mod cost;
mod directory;
mod interfaces;
mod key;
mod session;
mod tables;
mod tally;
mod waiting;
mod window;
pub mod wire;
mod worker;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lb_common::{abi::features, tables::FlowTable};
use nix::sys::socket::{setsockopt, sockopt};

pub use self::{
    cost::{Cost, cost},
    directory::Directory,
};
use self::{
    key::Key,
    tables::Tables,
    tally::{Fate, PeerTally, Refused, Tally},
    worker::{Given, Worker},
};
use crate::secret_file;
use crate::{config::model, dataplane, status};

/// Bytes of what comes that the kernel keeps until they are read.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Why this one does not take part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The secret.
    #[error(transparent)]
    Key(#[from] secret_file::Error),
    /// The socket.
    #[error("cannot listen for other balancers at {address} (cluster.listen): {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        cause: io::Error,
    },
    /// The tables.
    #[error("cannot map the flow table for other balancers: {0}")]
    Map(#[source] io::Error),
    /// The thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// Everything that can be refused before the data path is touched.
#[derive(Debug)]
pub struct Prepared {
    config: model::Cluster,
    key: Arc<Key>,
    socket: UdpSocket,
}

impl Prepared {
    /// Reads the secret and listens.
    ///
    /// # Errors
    /// When there is no secret, or the address cannot be had.
    pub fn new(config: &model::Cluster) -> Result<Self, Error> {
        let key = Arc::new(Key::read(&config.key_file)?);
        let listen = |cause| Error::Listen {
            address: config.listen,
            cause,
        };
        let socket = UdpSocket::bind(config.listen).map_err(listen)?;
        tune(&socket).map_err(listen)?;
        Ok(Self {
            config: config.clone(),
            key,
            socket,
        })
    }

    /// Begins to talk to the others, about flows in these tables, which mean what the directory says.
    /// Where nobody followed them before, others are waited for ([`Cluster::is_caught_up`]).
    ///
    /// # Errors
    /// When the tables cannot be mapped or there is no thread.
    pub fn start(
        self,
        tables: &dataplane::Tables,
        directory: Directory,
        waits: bool,
    ) -> Result<Cluster, Error> {
        let directory = Arc::new(Mutex::new(Arc::new(directory)));
        let mut tally = Tally::new(&self.config.peers);
        tally.is_caught_up = !waits;
        let tally = Arc::new(Mutex::new(tally));
        let cluster = Cluster {
            stop: Arc::default(),
            directory,
            tally,
            thread: None,
            again: Self {
                config: self.config.clone(),
                key: Arc::clone(&self.key),
                socket: self.socket.try_clone().map_err(Error::Thread)?,
            },
        };
        cluster.begin(self.socket, tables)
    }
}

/// The conversation; it ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    again: Prepared,
    stop: Arc<AtomicBool>,
    directory: Arc<Mutex<Arc<Directory>>>,
    tally: Arc<Mutex<Tally>>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    fn begin(mut self, socket: UdpSocket, tables: &dataplane::Tables) -> Result<Self, Error> {
        let is_caught_up = self.lock_tally().is_caught_up;
        let given = Given {
            socket,
            key: Arc::clone(&self.again.key),
            peers: self.again.config.peers.clone(),
            rings: tables.sync(),
            stop: Arc::clone(&self.stop),
            directory: Arc::clone(&self.directory),
            tally: Arc::clone(&self.tally),
            waits: (!is_caught_up).then_some(self.again.config.catch_up),
        };
        let settings = *tables.settings();
        let ports = (settings.features & features::FULL_NAT != 0).then(|| tables.ports());
        let flows = tables.flows().tables().clone();
        let all = 0..flows.buckets(FlowTable::Established);
        drop(
            flows
                .window(FlowTable::Established, all.clone())
                .map_err(Error::Map)?,
        );
        let thread = thread::Builder::new()
            .name("lb-cluster".to_owned())
            .spawn(move || match flows.window(FlowTable::Established, all) {
                Ok(established) => {
                    let tables = Tables {
                        settings,
                        established: &established,
                        ports,
                    };
                    Worker::new(given, tables).work();
                }
                Err(error) => tracing::error!("{}", Error::Map(error)),
            })
            .map_err(Error::Thread)?;
        self.thread = Some(thread);
        Ok(self)
    }

    /// Goes on with other tables.
    ///
    /// # Errors
    /// When they cannot be mapped or there is no thread.
    pub fn move_to(mut self, tables: &dataplane::Tables) -> Result<Self, Error> {
        self.end();
        self.stop = Arc::default();
        let socket = self.again.socket.try_clone().map_err(Error::Thread)?;
        self.begin(socket, tables)
    }

    /// Says what the tables hold now.
    pub fn set_directory(&self, directory: Directory) {
        *self
            .directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
    }

    /// Whether the others have told of all their connections, as far as they are there, or were
    /// waited for long enough.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        // Nothing will come any more.
        let has_ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        has_ended || self.lock_tally().is_caught_up
    }

    fn lock_tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> status::Cluster {
        let tally = self.lock_tally();
        let now = Instant::now();
        let peer = |peer: &PeerTally| status::ClusterPeer {
            address: peer.address.to_string(),
            up: peer.is_up,
            has_told: peer.has_told,
            heard_seconds: peer
                .heard
                .map(|at| seconds(now.saturating_duration_since(at))),
            sessions: peer.sessions,
            flows_sent: peer.flows_sent,
            flows_received: peer.flows_received,
            bytes_sent: peer.bytes_sent,
            bytes_received: peer.bytes_received,
        };
        status::Cluster {
            listen: self.again.config.listen.to_string(),
            caught_up: tally.is_caught_up,
            peers: tally.peers.iter().map(peer).collect(),
            flows: tally.fates.labelled(Fate::LABELS),
            refused: tally.refused.labelled(Refused::LABELS),
            overwritten: tally.overwritten,
            unsent: tally.unsent,
            shared_addresses: tally.shared.iter().map(ToString::to_string).collect(),
        }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes a socket wait for as long as a worker has time, and keep what comes meanwhile.
fn tune(socket: &UdpSocket) -> io::Result<()> {
    socket.set_read_timeout(Some(worker::TICK / 2))?;
    socket.set_write_timeout(Some(worker::TICK / 2))?;
    // Needs CAP_NET_ADMIN beyond net.core.rmem_max; the rest is as good as it gets.
    if setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(&socket.as_fd(), sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    }
    Ok(())
}

fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1000.0).round() / 1000.0
}
