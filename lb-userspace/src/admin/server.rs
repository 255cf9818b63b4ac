//! The agent's side of the admin socket.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Mutex, Semaphore},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    Error, StatusSource,
    socket::{self, SocketFile},
};

/// Connections at a time; more wait.
const MOST_CONNECTIONS: usize = 32;
/// Time for a client to ask.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Time for a client to ask and to read the answer.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// The admin socket. Dropped, it stops answering and removes the socket's file.
#[derive(Debug)]
pub struct Server {
    listener: Option<std::os::unix::net::UnixListener>,
    accepting: Option<AbortHandle>,
    path: PathBuf,
    // Last, so that the file outlives whatever answers on it.
    file: SocketFile,
}

impl Server {
    /// Makes the socket, mode 0600, and its folder if that is missing. Clients find it only after
    /// [`Server::serve`].
    ///
    /// # Errors
    /// When another agent answers there, and when the system refuses.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        let (file, listener) = socket::make(path)?;
        Ok(Self {
            listener: Some(listener),
            accepting: None,
            path: path.to_owned(),
            file,
        })
    }

    /// Begins to answer, in the background, for as long as this server lives.
    ///
    /// # Errors
    /// When another agent answers there since, and when the system refuses.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn serve(&mut self, source: Arc<dyn StatusSource>) -> Result<(), Error> {
        let Some(listener) = self.listener.take() else {
            return Ok(());
        };
        let listener = UnixListener::from_std(listener).map_err(|cause| Error::System {
            path: self.path.clone(),
            cause,
        })?;
        let accepting = tokio::spawn(accept(listener, source));
        self.accepting = Some(accepting.abort_handle());
        self.file.appear(&self.path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

/// The source, asked by one client at a time.
struct Answers {
    source: Arc<dyn StatusSource>,
    turn: Mutex<()>,
}

async fn accept(listener: UnixListener, source: Arc<dyn StatusSource>) {
    let answers = Arc::new(Answers {
        source,
        turn: Mutex::new(()),
    });
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
                connections.spawn(async move {
                    let _permit = permit;
                    // A client that is too slow, or not HTTP, is its own problem.
                    let _ = timeout(CONNECTION_TIME, converse(stream, answers)).await;
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

async fn converse(stream: UnixStream, answers: Arc<Answers>) {
    let service = service_fn(move |request| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answers.answer(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .keep_alive(false)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("admin socket: {error}");
    }
}

impl Answers {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/status.json") => self.status().await,
            (_, "/status.json") => {
                let mut response =
                    refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here");
                response
                    .headers_mut()
                    .insert(header::ALLOW, header::HeaderValue::from_static("GET"));
                response
            }
            _ => refusal(
                StatusCode::NOT_FOUND,
                "there is nothing here; try /status.json",
            ),
        }
    }

    async fn status(&self) -> Response<Full<Bytes>> {
        let _turn = self.turn.lock().await;
        let source = Arc::clone(&self.source);
        let written =
            tokio::task::spawn_blocking(move || serde_json::to_vec(&source.status())).await;
        match written {
            Ok(Ok(body)) => json(StatusCode::OK, body),
            Ok(Err(_)) | Err(_) => refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the status could not be read",
            ),
        }
    }
}

fn refusal(status: StatusCode, sentence: &str) -> Response<Full<Bytes>> {
    json(
        status,
        serde_json::json!({ "error": sentence })
            .to_string()
            .into_bytes(),
    )
}

fn json(status: StatusCode, mut body: Vec<u8>) -> Response<Full<Bytes>> {
    body.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
