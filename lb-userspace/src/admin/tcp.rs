//! The admin API over TCP: for everybody who can reach it, so with limits on everything.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{StatusCode, header::RETRY_AFTER};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Error,
    answers::{Answers, Openness, Peer},
    connection::converse,
    guests::{Guests, Refused, Visit},
    tls::Identity,
    token::Token,
};
use crate::config::model;

/// Connections at a time; more are sent away.
const MOST_CONNECTIONS: usize = 64;
/// Those among them that only addresses without another connection get.
const KEPT_FREE: usize = 16;
/// Clients that are told at a time why they are sent away; the others just are.
const MOST_REFUSALS: usize = 32;
/// Time for a client to ask and to read the answer; a list of flows may take longer.
const CONNECTION_TIME: Duration = Duration::from_secs(15);
/// Time for a client to shake hands before that.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Bound and listening, and nobody answers yet.
#[derive(Debug)]
pub(super) struct Bound {
    listener: std::net::TcpListener,
    token: Option<Token>,
    identity: Option<Identity>,
    address: SocketAddr,
}

impl Bound {
    pub(super) fn new(address: SocketAddr, config: &model::Admin) -> Result<Self, Error> {
        let token = config.token_file.as_deref().map(Token::read).transpose()?;
        let identity = config.tls.clone().map(Identity::read).transpose()?;
        let failed = |cause| Error::Listen { address, cause };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            token,
            identity,
            address,
        })
    }

    /// Where it listens, with the port that the system chose if it was to choose one.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Splits it into what accepts and what is told.
    pub(super) fn open(self) -> Result<(TcpListener, Openness, Option<Identity>), Error> {
        let address = self.address;
        let rights = if self.token.is_some() {
            "changes need the token"
        } else {
            "read-only"
        };
        let listener = TcpListener::from_std(self.listener)
            .map_err(|cause| Error::Listen { address, cause })?;
        let scheme = if self.identity.is_some() {
            "https"
        } else {
            "http"
        };
        tracing::info!("the admin API is on {scheme}://{address} ({rights})");
        Ok((listener, Openness::Public(self.token), self.identity))
    }
}

/// Takes connections until it is dropped.
pub(super) async fn accept(
    listener: TcpListener,
    identity: Option<Identity>,
    answers: Arc<Answers>,
) {
    let mut identity = identity;
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let refusals = Arc::new(Semaphore::new(MOST_REFUSALS));
    let guests = Arc::new(Guests::default());
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, say: that passes, and must not spin.
                tracing::debug!("cannot take a connection to the admin port: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        match enter(&room, &guests, from.ip()) {
            Ok(held) => {
                let answers = Arc::clone(&answers);
                let acceptor = identity.as_mut().map(Identity::acceptor);
                connections.spawn(async move {
                    let _held = held;
                    let peer = Peer::Remote(from);
                    match acceptor {
                        None => converse(stream, answers, peer, CONNECTION_TIME).await,
                        Some(acceptor) => {
                            if let Some(stream) = encrypted(&acceptor, stream, from).await {
                                converse(stream, answers, peer, CONNECTION_TIME).await;
                            }
                        }
                    }
                });
            }
            // A sentence would have to be encrypted, which costs more than it is worth.
            Err(_) if identity.is_some() => {}
            Err(refused) => {
                // Without one the connection just ends: nobody waits for those who are refused.
                if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                    connections.spawn(async move {
                        let _permit = permit;
                        send_away(stream, refused, from.ip()).await;
                    });
                }
            }
        }
    }
}

/// Shakes hands, for a few seconds at most.
async fn encrypted(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    from: SocketAddr,
) -> Option<TlsStream<TcpStream>> {
    let why = match timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it takes too long".to_owned(),
    };
    tracing::debug!("admin: {from}: no TLS: {why}");
    None
}

/// Lets a connection in, or not. It never waits, so that those who are refused delay nobody.
fn enter(
    room: &Arc<Semaphore>,
    guests: &Arc<Guests>,
    from: IpAddr,
) -> Result<(OwnedSemaphorePermit, Visit), Refused> {
    let visit = guests.enter(from, Instant::now())?;
    if !visit.is_only() && room.available_permits() <= KEPT_FREE {
        return Err(Refused::Full);
    }
    let permit = Arc::clone(room).try_acquire_owned();
    permit
        .map(|permit| (permit, visit))
        .map_err(|_| Refused::Full)
}

/// Says why, without reading what is asked: that is cheap, and quick.
async fn send_away(mut stream: TcpStream, refused: Refused, from: IpAddr) {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let (wait, sentence) = match refused {
        Refused::TooMany => (1, "too many connections from your address; close some"),
        Refused::TooFast(wait) => (
            wait.as_secs() + 1,
            "too many requests from your address; ask less often",
        ),
        Refused::Full => (1, "too many connections from everywhere; ask again"),
    };
    let body = format!("{}\n", serde_json::json!({ "error": sentence }));
    let answer = format!(
        "HTTP/1.1 {} {}\r\n{RETRY_AFTER}: {wait}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
    );
    tracing::debug!("admin: {from} is sent away: {sentence}");
    let send = async {
        // A client that does not take it is no loss.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        // What is not read when the socket closes would have the answer thrown away on its way.
        let _ = stream.read(&mut [0; 4096]).await;
    };
    let _ = timeout(Duration::from_millis(200), send).await;
}
