//! The agent's side of the admin socket.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::{Either, Full};
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
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    task::{AbortHandle, JoinSet},
    time::{sleep, sleep_until},
};

use super::{
    Error, Pieces, StatusSource,
    listing::{Deadline, Listing},
    socket::{self, SocketFile},
};
use crate::{capture, flow_list::Query, why};

/// Connections at a time; more wait.
const MOST_CONNECTIONS: usize = 32;
/// Time for a client to ask.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Time for a client to ask and to read the answer; a list of flows may take longer.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// Lists of flows at a time; more are refused, so that others find a connection.
const MOST_LISTINGS: usize = 4;
/// Captures at a time, which lists do not keep out.
const MOST_CAPTURES: usize = 1;

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

/// The source, asked for its status by one client at a time.
struct Answers {
    source: Arc<dyn StatusSource>,
    turn: Mutex<()>,
    listings: Arc<Semaphore>,
    captures: Arc<Semaphore>,
}

type Answer = Response<Either<Full<Bytes>, Listing>>;

async fn accept(listener: UnixListener, source: Arc<dyn StatusSource>) {
    let answers = Arc::new(Answers {
        source,
        turn: Mutex::new(()),
        listings: Arc::new(Semaphore::new(MOST_LISTINGS)),
        captures: Arc::new(Semaphore::new(MOST_CAPTURES)),
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
                    let deadline = Deadline::after(CONNECTION_TIME);
                    tokio::select! {
                        () = converse(stream, answers, deadline.clone()) => {}
                        () = passed(&deadline) => {}
                    }
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

/// Waits until a deadline has passed, which may be postponed meanwhile.
async fn passed(deadline: &Deadline) {
    loop {
        let end = deadline.get();
        sleep_until(end).await;
        if deadline.get() <= end {
            return;
        }
    }
}

async fn converse(stream: UnixStream, answers: Arc<Answers>, deadline: Deadline) {
    let service = service_fn(move |request| {
        let (answers, deadline) = (Arc::clone(&answers), deadline.clone());
        async move { Ok::<_, Infallible>(answers.answer(&request, deadline).await) }
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
    async fn answer(&self, request: &Request<Incoming>, deadline: Deadline) -> Answer {
        let is_get = request.method() == Method::GET;
        match request.uri().path() {
            "/status.json" if is_get => self.status().await,
            "/flows.json" if is_get => {
                let query = request.uri().query().unwrap_or_default();
                self.flows(query, deadline).await
            }
            "/why.json" if is_get => {
                let query = request.uri().query().unwrap_or_default();
                self.why(query).await
            }
            "/capture.pcapng" if is_get => {
                let query = request.uri().query().unwrap_or_default();
                self.capture(query, deadline).await
            }
            "/status.json" | "/flows.json" | "/why.json" | "/capture.pcapng" => {
                let mut response =
                    refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here");
                response
                    .headers_mut()
                    .insert(header::ALLOW, header::HeaderValue::from_static("GET"));
                response
            }
            _ => refusal(
                StatusCode::NOT_FOUND,
                "there is nothing here; try /status.json, /flows.json, /why.json or /capture.pcapng",
            ),
        }
    }

    async fn status(&self) -> Answer {
        let _turn = self.turn.lock().await;
        let source = Arc::clone(&self.source);
        let written =
            tokio::task::spawn_blocking(move || serde_json::to_vec(&source.status())).await;
        match written {
            Ok(Ok(mut body)) => {
                body.push(b'\n');
                json(StatusCode::OK, Either::Left(Full::new(body.into())))
            }
            Ok(Err(_)) | Err(_) => refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the status could not be read",
            ),
        }
    }

    async fn why(&self, query: &str) -> Answer {
        let query = match why::Query::decode(query) {
            Ok(query) => query,
            Err(sentence) => return refusal(StatusCode::BAD_REQUEST, &sentence),
        };
        let source = Arc::clone(&self.source);
        let answered = tokio::task::spawn_blocking(move || {
            let answer = source.why(&query)?;
            serde_json::to_vec(&answer).map_err(|error| error.to_string())
        });
        match answered.await {
            Ok(Ok(mut body)) => {
                body.push(b'\n');
                json(StatusCode::OK, Either::Left(Full::new(body.into())))
            }
            Ok(Err(sentence)) => refusal(StatusCode::UNPROCESSABLE_ENTITY, &sentence),
            Err(_) => refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the packet could not be tried",
            ),
        }
    }

    async fn flows(&self, query: &str, deadline: Deadline) -> Answer {
        let query = match Query::decode(query) {
            Ok(query) => query,
            Err(sentence) => return refusal(StatusCode::BAD_REQUEST, &sentence),
        };
        let source = Arc::clone(&self.source);
        let begin = move || source.flows(&query);
        let Ok(permit) = Arc::clone(&self.listings).try_acquire_owned() else {
            let sentence = format!(
                "{MOST_LISTINGS} lists of flows are being read already; wait for one of them, or \
                 end it"
            );
            return refusal(StatusCode::SERVICE_UNAVAILABLE, &sentence);
        };
        pieces(begin, deadline, permit, "application/json").await
    }

    async fn capture(&self, query: &str, deadline: Deadline) -> Answer {
        let query = match capture::Query::decode(query) {
            Ok(query) => query,
            Err(sentence) => return refusal(StatusCode::BAD_REQUEST, &sentence),
        };
        let source = Arc::clone(&self.source);
        let begin = move || source.capture(&query);
        let Ok(permit) = Arc::clone(&self.captures).try_acquire_owned() else {
            let sentence = "somebody captures already; there is one capture at a time";
            return refusal(StatusCode::SERVICE_UNAVAILABLE, sentence);
        };
        pieces(begin, deadline, permit, "application/octet-stream").await
    }
}

async fn pieces(
    begin: impl FnOnce() -> Result<Box<dyn Pieces>, String> + Send + 'static,
    deadline: Deadline,
    permit: OwnedSemaphorePermit,
    kind: &'static str,
) -> Answer {
    match tokio::task::spawn_blocking(begin).await {
        Ok(Ok(pieces)) => {
            let listing = Listing::new(pieces, deadline, permit);
            answer(StatusCode::OK, kind, Either::Right(listing))
        }
        Ok(Err(sentence)) => refusal(StatusCode::NOT_FOUND, &sentence),
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "it could not be begun"),
    }
}

fn refusal(status: StatusCode, sentence: &str) -> Answer {
    let body = format!("{}\n", serde_json::json!({ "error": sentence }));
    json(status, Either::Left(Full::new(body.into())))
}

fn json(status: StatusCode, body: Either<Full<Bytes>, Listing>) -> Answer {
    answer(status, "application/json", body)
}

fn answer(status: StatusCode, kind: &'static str, body: Either<Full<Bytes>, Listing>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
