//! The command's side of the admin socket.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

use crate::status::Status;

/// Time for the whole conversation.
const PATIENCE: Duration = Duration::from_secs(5);
/// The status of a million backends is smaller.
const LARGEST_ANSWER: usize = 1 << 30;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there.
    #[error("there is no agent at {path}: is \"lb run\" running? (--socket names another)")]
    NoAgent {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is root's.
    #[error("permission denied on {path}: run this as root")]
    PermissionDenied {
        /// The socket.
        path: PathBuf,
    },
    /// Too slow.
    #[error("the agent at {path} did not answer within {} s", PATIENCE.as_secs())]
    TimedOut {
        /// The socket.
        path: PathBuf,
    },
    /// It said no.
    #[error("the agent at {path} refused: {sentence}")]
    Refused {
        /// The socket.
        path: PathBuf,
        /// In its words.
        sentence: String,
    },
    /// It is no agent, or one of another version.
    #[error("what answers at {path} is not understood: {reason}")]
    NotUnderstood {
        /// The socket.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system refuses.
    #[error("cannot talk to the agent at {path}: {cause}")]
    System {
        /// The socket.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Asks the agent at `socket` for its status, for 5 s at most.
///
/// # Errors
/// When it does not answer, with a sentence that says why.
pub fn status(socket: &Path) -> Result<Status, Error> {
    let body = get(socket, "/status.json")?;
    serde_json::from_slice(&body).map_err(|error| Error::NotUnderstood {
        path: socket.to_owned(),
        reason: error.to_string(),
    })
}

/// The body of a GET.
fn get(socket: &Path, target: &str) -> Result<Bytes, Error> {
    let path = || socket.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::System {
            path: path(),
            cause,
        })?;
    runtime
        .block_on(async { timeout(PATIENCE, ask(socket, target)).await })
        .unwrap_or_else(|_| Err(Error::TimedOut { path: path() }))
}

async fn ask(socket: &Path, target: &str) -> Result<Bytes, Error> {
    let path = || socket.to_owned();
    let not_understood = |reason: &dyn ToString| Error::NotUnderstood {
        path: path(),
        reason: reason.to_string(),
    };
    let stream = UnixStream::connect(socket).await.map_err(|cause| {
        let kind = cause.kind();
        if kind == io::ErrorKind::NotFound || kind == io::ErrorKind::ConnectionRefused {
            Error::NoAgent { path: path() }
        } else if kind == io::ErrorKind::PermissionDenied {
            Error::PermissionDenied { path: path() }
        } else {
            Error::System {
                path: path(),
                cause,
            }
        }
    })?;
    let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| not_understood(&error))?;
    let request = Request::get(target)
        .header(header::HOST, "lb")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| not_understood(&error))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| not_understood(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER)
            .collect()
            .await
            .map_err(|error| not_understood(&error))?
            .to_bytes();
        Ok((status, body))
    };
    let driver = pin!(async move {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    });
    let (status, body) = tokio::select! {
        biased;
        answer = exchange => answer?,
        never = driver => match never {},
    };
    if status == StatusCode::OK {
        return Ok(body);
    }
    let sentence = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|answer| Some(answer.get("error")?.as_str()?.to_owned()))
        .unwrap_or_else(|| status.to_string());
    Err(Error::Refused {
        path: path(),
        sentence,
    })
}
