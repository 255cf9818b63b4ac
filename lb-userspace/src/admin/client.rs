//! The command's side of the admin socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{
    capture,
    control::{
        Act, Changes, NewPrimary, Pattern, PrimaryChanged, PrimaryKind, PrimaryWish, ReloadWish,
        Reloaded,
    },
    events, firewall,
    flow_list::Query,
    mysql::seen as mysql,
    query_string::escape,
    status::Status,
    why,
};

/// Time for the whole conversation.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same of whoever asks every second.
const READY_PATIENCE: Duration = Duration::from_secs(1);
/// The same where a config is read and a program may be loaded.
const RELOAD_PATIENCE: Duration = Duration::from_secs(60);
/// The same for another primary, which takes as long as the config allows.
const PRIMARY_PATIENCE: Duration = Duration::from_secs(3 * 3600);
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
    #[error(
        "the agent at {path} did not answer within {} s{}",
        patience.as_secs(),
        if *may_follow { "; what was asked for may still be done" } else { "" }
    )]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        patience: Duration,
        /// Whether that was for a change.
        may_follow: bool,
    },
    /// It said no.
    #[error("the agent at {path} refused: {sentence}")]
    Refused {
        /// The socket.
        path: PathBuf,
        /// In its words.
        sentence: String,
    },
    /// It said no to a change, because what was asked for is wrong.
    #[error("{sentence}")]
    Wrong {
        /// In its words.
        sentence: String,
        /// The problems of a config, a line each.
        problems: Vec<String>,
    },
    /// It is no agent, or one of another version.
    #[error("what answers at {path} is not understood: {reason}")]
    NotUnderstood {
        /// The socket.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It ended in the middle of a list.
    #[error(
        "the agent at {path} broke off in the middle of the list: it stopped, or waited too long \
         for this command to go on reading"
    )]
    BrokenOff {
        /// The socket.
        path: PathBuf,
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

/// Whether the agent is ready, see `/readyz`.
///
/// # Errors
/// When it is not, or does not answer.
pub fn ready(socket: &Path) -> Result<(), Error> {
    get_within(socket, "/readyz", READY_PATIENCE).map(drop)
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

/// Asks the agent at `socket` what would become of a packet, for 5 s at most.
///
/// # Errors
/// When it does not answer, or says no, with a sentence that says why.
pub fn why(socket: &Path, query: &why::Query) -> Result<why::Answer, Error> {
    let body = get(socket, &format!("/why.json?{}", query.encode()))?;
    serde_json::from_slice(&body).map_err(|error| Error::NotUnderstood {
        path: socket.to_owned(),
        reason: error.to_string(),
    })
}

/// Asks the agent at `socket` for the sessions of its MySQL proxy, for 5 s at most.
///
/// # Errors
/// When it does not answer, or has no such proxy, with a sentence that says why.
pub fn mysql_sessions(socket: &Path) -> Result<mysql::Sessions, Error> {
    document(socket, "/mysql/sessions.json")
}

/// Asks the agent at `socket` for the kinds of statements that its MySQL proxy has seen, for 5 s at
/// most.
///
/// # Errors
/// As [`mysql_sessions`].
pub fn mysql_digests(socket: &Path) -> Result<mysql::Digests, Error> {
    document(socket, "/mysql/digests.json")
}

/// Has the agent at `socket` end a session of its MySQL proxy, for 5 s at most.
///
/// # Errors
/// When it does not answer, or there is no such session, with a sentence that says why.
pub fn mysql_kill(socket: &Path, id: u32) -> Result<mysql::Killed, Error> {
    let target = format!("/mysql/sessions/{id}");
    post(socket, Method::DELETE, &target, Vec::new(), PATIENCE)
}

fn document<T: DeserializeOwned>(socket: &Path, target: &str) -> Result<T, Error> {
    let body = get(socket, target)?;
    serde_json::from_slice(&body).map_err(|error| Error::NotUnderstood {
        path: socket.to_owned(),
        reason: error.to_string(),
    })
}

/// Asks the agent at `socket` what happened, for 5 s at most after the time that the query waits.
///
/// # Errors
/// When it does not answer, with a sentence that says why.
pub fn events(socket: &Path, query: &events::Query) -> Result<events::Page, Error> {
    let target = format!("/events.json?{}", query.encode());
    let body = get_within(socket, &target, query.wait + PATIENCE)?;
    serde_json::from_slice(&body).map_err(|error| Error::NotUnderstood {
        path: socket.to_owned(),
        reason: error.to_string(),
    })
}

/// Asks the agent at `socket` for flows, and hands on the [document](crate::flow_list::document)
/// piece by piece until `take` fails. The agent may be silent for 5 s at most; `take` may take its
/// time.
///
/// # Errors
/// When the agent does not answer, or breaks off, with a sentence that says why; within, what
/// `take` failed with.
pub fn flows<E>(
    socket: &Path,
    query: &Query,
    take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Result<(), E>, Error> {
    let target = format!("/flows.json?{}", query.encode());
    block_on(socket, stream(socket, &target, take))
}

/// Asks the agent at `socket` for a file of packets, and hands it on piece by piece until `take`
/// fails, the capture is over, or somebody presses Ctrl-C. The agent may be silent for 5 s at most.
///
/// # Errors
/// As [`flows`].
pub fn capture<E>(
    socket: &Path,
    query: &capture::Query,
    take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Result<(), E>, Error> {
    let target = format!("/capture.pcapng?{}", query.encode());
    block_on(socket, async {
        let mut terminate = signal(SignalKind::terminate()).ok();
        let terminated = async {
            match &mut terminate {
                Some(terminate) => drop(terminate.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = stream(socket, &target, take) => result,
            _ = tokio::signal::ctrl_c() => Ok(Ok(())),
            () = terminated => Ok(Ok(())),
        }
    })
}

async fn stream<E>(
    socket: &Path,
    target: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Result<(), E>, Error> {
    let mut body = in_time(socket, open(socket, target)).await?;
    loop {
        let next = async { Ok(body.frame().await) };
        let Some(frame) = in_time(socket, next).await? else {
            return Ok(Ok(()));
        };
        let frame = frame.map_err(|_| Error::BrokenOff {
            path: socket.to_owned(),
        })?;
        if let Some(piece) = frame.data_ref()
            && let Err(error) = take(piece)
        {
            return Ok(Err(error));
        }
    }
}

/// Has the agent at `socket` change backends, for 5 s at most.
///
/// # Errors
/// When nothing was changed, with a sentence that says why.
pub fn act(socket: &Path, pattern: &Pattern, act: Act) -> Result<Changes, Error> {
    let target = format!(
        "/backends/{}/{}",
        escape(&pattern.service),
        escape(&pattern.backend)
    );
    let (method, body) = match act {
        Act::Set(change) => {
            let body = serde_json::to_vec(&change).map_err(|error| Error::NotUnderstood {
                path: socket.to_owned(),
                reason: error.to_string(),
            })?;
            (Method::PATCH, body)
        }
        Act::Reset => (Method::DELETE, Vec::new()),
    };
    post(socket, method, &target, body, PATIENCE)
}

/// Has the agent at `socket` read its config file again, for a minute at most if it answers at all
/// within 5 s.
///
/// # Errors
/// As [`act`].
pub fn reload(socket: &Path, wish: &ReloadWish) -> Result<Reloaded, Error> {
    // Whether it answers at all is known sooner.
    get(socket, "/healthz")?;
    let body = serde_json::to_vec(wish).unwrap_or_default();
    post(socket, Method::POST, "/reload", body, RELOAD_PATIENCE)
}

/// Asks the agent at `socket` what its firewall has, for 5 s at most.
///
/// # Errors
/// When it does not answer, with a sentence that says why.
pub fn firewall(socket: &Path) -> Result<firewall::Document, Error> {
    document(socket, "/firewall.json")
}

/// Has the agent at `socket` change its firewall, for a minute at most.
///
/// # Errors
/// When it does not answer, or nothing was changed, with a sentence that says why.
pub fn change_firewall(socket: &Path, wish: &firewall::Wish) -> Result<firewall::Changed, Error> {
    get(socket, "/healthz")?;
    let body = serde_json::to_vec(wish).map_err(|error| Error::NotUnderstood {
        path: socket.to_owned(),
        reason: error.to_string(),
    })?;
    post(socket, Method::POST, "/firewall", body, RELOAD_PATIENCE)
}

/// Has the agent at `socket` make another server of MySQL the primary, for as long as its config says
/// that this may take, if it answers at all within 5 s.
///
/// # Errors
/// As [`act`].
pub fn change_primary(socket: &Path, change: &NewPrimary) -> Result<PrimaryChanged, Error> {
    get(socket, "/healthz")?;
    let target = match change.kind {
        PrimaryKind::Switchover => "/mysql/switchover",
        PrimaryKind::Failover => "/mysql/failover",
        PrimaryKind::Rejoin => "/mysql/rejoin",
    };
    let wish = PrimaryWish {
        to: change.to.clone(),
        check: change.check,
    };
    let body = serde_json::to_vec(&wish).map_err(|error| Error::NotUnderstood {
        path: socket.to_owned(),
        reason: error.to_string(),
    })?;
    post(socket, Method::POST, target, body, PRIMARY_PATIENCE)
}

fn post<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    target: &str,
    body: Vec<u8>,
    patience: Duration,
) -> Result<T, Error> {
    let ask = async {
        let body = send(socket, method, target, body.into()).await?;
        collect(socket, body).await
    };
    let ask = async {
        timeout(patience, ask).await.unwrap_or_else(|_| {
            Err(Error::TimedOut {
                path: socket.to_owned(),
                patience,
                may_follow: true,
            })
        })
    };
    let body = block_on(socket, ask)?;
    serde_json::from_slice(&body).map_err(|error| Error::NotUnderstood {
        path: socket.to_owned(),
        reason: error.to_string(),
    })
}

/// The body of a GET.
fn get(socket: &Path, target: &str) -> Result<Bytes, Error> {
    get_within(socket, target, PATIENCE)
}

fn get_within(socket: &Path, target: &str, patience: Duration) -> Result<Bytes, Error> {
    let ask = async {
        let body = open(socket, target).await?;
        collect(socket, body).await
    };
    block_on(socket, within(socket, patience, ask))
}

fn block_on<T>(
    socket: &Path,
    conversation: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::System {
            path: socket.to_owned(),
            cause,
        })?;
    runtime.block_on(conversation)
}

async fn in_time<T>(
    socket: &Path,
    act: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    within(socket, PATIENCE, act).await
}

async fn within<T>(
    socket: &Path,
    patience: Duration,
    act: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(patience, act).await.unwrap_or_else(|_| {
        Err(Error::TimedOut {
            path: socket.to_owned(),
            patience,
            may_follow: false,
        })
    })
}

/// The body of a GET that was answered with success.
async fn open(socket: &Path, target: &str) -> Result<Incoming, Error> {
    send(socket, Method::GET, target, Bytes::new()).await
}

/// The body of a request that was answered with success.
async fn send(socket: &Path, method: Method, target: &str, body: Bytes) -> Result<Incoming, Error> {
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
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| not_understood(&error))?;
    // What goes wrong there is seen here too. It ends with the runtime.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "lb")
        .header(header::CONNECTION, "close")
        .body(Full::new(body))
        .map_err(|error| not_understood(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| not_understood(&error))?;
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response.into_body());
    }
    let body = collect(socket, response.into_body()).await?;
    let answer = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
    let sentence = answer["error"].as_str().map(str::to_owned);
    let sentence = sentence.unwrap_or_else(|| status.to_string());
    if let Some(problems) = answer["problems"].as_array() {
        return Err(Error::Wrong {
            sentence,
            problems: problems
                .iter()
                .filter_map(|problem| Some(problem.as_str()?.to_owned()))
                .collect(),
        });
    }
    Err(Error::Refused {
        path: path(),
        sentence,
    })
}

async fn collect(socket: &Path, body: Incoming) -> Result<Bytes, Error> {
    let collected = Limited::new(body, LARGEST_ANSWER).collect().await;
    collected
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| Error::NotUnderstood {
            path: socket.to_owned(),
            reason: error.to_string(),
        })
}
