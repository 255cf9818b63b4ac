//! One check of one backend: a question asked over the network, within its time.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, time::Duration};

use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::config::model::{CheckKind, HealthCheck};

/// Bytes of a response's head that are read at most.
const LARGEST_HEAD: usize = 16 << 10;
/// Bytes of a response's body that are read at most, to let the server finish.
const LARGEST_BODY: usize = 64 << 10;
/// Time for the body, after the status has decided.
const BODY_TIME: Duration = Duration::from_millis(250);

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) result: Result,
    /// For people: "HTTP 200 in 1.2 ms".
    pub(super) detail: String,
    pub(super) took: Duration,
}

/// What a check says about the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Result {
    Success,
    Failure,
    /// This machine could not even ask; nothing is known about the backend.
    NotAsked,
}

/// Why there was no answer.
#[derive(Debug)]
enum Failed {
    Connect(io::Error),
    Http(hyper::Error),
}

/// What a backend said, and when.
struct Answer {
    /// Of an HTTP response.
    status: Option<StatusCode>,
    at: Instant,
}

/// Checks a backend once.
pub(super) async fn probe(address: SocketAddr, check: &HealthCheck) -> Outcome {
    let start = Instant::now();
    let deadline = start + check.timeout;
    let (result, detail, end) =
        match timeout_at(deadline, ask(address, &check.kind, deadline)).await {
            Err(_) => {
                let detail = format!("timed out after {}", in_words(check.timeout));
                (Result::Failure, detail, Instant::now())
            }
            Ok(Err(failed)) => (failed.result(), failed.in_words(), Instant::now()),
            Ok(Ok(Answer { status, at })) => {
                let good = status.is_none_or(|status| expects(&check.kind, status));
                let result = if good {
                    Result::Success
                } else {
                    Result::Failure
                };
                let took = in_words(at - start);
                let detail = match status {
                    None => format!("connected in {took}"),
                    Some(status) => format!("HTTP {} in {took}", status.as_u16()),
                };
                (result, detail, at)
            }
        };
    Outcome {
        result,
        detail,
        took: end - start,
    }
}

fn expects(kind: &CheckKind, status: StatusCode) -> bool {
    match kind {
        CheckKind::None | CheckKind::Tcp => true,
        CheckKind::Http { expect_status, .. } => expect_status.contains(status.as_u16()),
    }
}

async fn ask(
    address: SocketAddr,
    kind: &CheckKind,
    deadline: Instant,
) -> std::result::Result<Answer, Failed> {
    let stream = TcpStream::connect(address).await.map_err(Failed::Connect)?;
    match kind {
        CheckKind::None | CheckKind::Tcp => Ok(Answer {
            status: None,
            at: Instant::now(),
        }),
        CheckKind::Http { path, .. } => get(stream, address, path, deadline)
            .await
            .map_err(Failed::Http),
    }
}

/// Sends a GET. The head of the response is the answer, whatever becomes of its body.
async fn get(
    stream: TcpStream,
    address: SocketAddr,
    path: &str,
    deadline: Instant,
) -> std::result::Result<Answer, hyper::Error> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await?;
    let request = Request::get(path)
        .header(header::HOST, host(address))
        .header(
            header::USER_AGENT,
            concat!("lb/", env!("CARGO_PKG_VERSION"), " health check"),
        )
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .expect("a valid config has paths that fit a request");
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let answer = Answer {
            status: Some(response.status()),
            at: Instant::now(),
        };
        // The status has decided; the rest is politeness, so that the server can write it.
        let enough = deadline.min(answer.at + BODY_TIME);
        let _ = timeout_at(enough, discard(response.into_body())).await;
        Ok(answer)
    };
    // The connection works for the exchange and never outlives it.
    let driver = pin!(async move {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    });
    tokio::select! {
        biased;
        answer = exchange => answer,
        never = driver => match never {},
    }
}

async fn discard(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > LARGEST_BODY {
            return;
        }
    }
}

/// The backend as a `Host` header names it.
fn host(address: SocketAddr) -> String {
    match (address, address.port()) {
        (SocketAddr::V4(v4), 80) => v4.ip().to_string(),
        (SocketAddr::V6(v6), 80) => format!("[{}]", v6.ip()),
        _ => address.to_string(),
    }
}

impl Failed {
    fn result(&self) -> Result {
        match self {
            // What this machine lacks is not the backend's fault.
            Self::Connect(error) => match error.raw_os_error() {
                Some(
                    libc::EMFILE
                    | libc::ENFILE
                    | libc::ENOBUFS
                    | libc::ENOMEM
                    | libc::EADDRNOTAVAIL
                    | libc::EAGAIN,
                ) => Result::NotAsked,
                _ => Result::Failure,
            },
            Self::Http(_) => Result::Failure,
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Connect(error) if self.result() == Result::NotAsked => {
                format!("not checked: {}", system_words(error))
            }
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "connect refused".to_owned()
            }
            Self::Connect(error) => format!("connect failed: {}", system_words(error)),
            Self::Http(error) if error.is_parse_too_large() => {
                "the head of the HTTP response is too large".to_owned()
            }
            Self::Http(error) if error.is_parse() => "the answer is not HTTP".to_owned(),
            Self::Http(error) if error.is_incomplete_message() => {
                "closed without an HTTP response".to_owned()
            }
            Self::Http(error) => match std::error::Error::source(error)
                .and_then(|source| source.downcast_ref::<io::Error>())
            {
                Some(cause) => system_words(cause),
                None => error.to_string(),
            },
        }
    }
}

/// "no route to host", without a number.
fn system_words(error: &io::Error) -> String {
    let words = error.to_string();
    let plain = words.split(" (os error").next().unwrap_or_default();
    plain.to_lowercase()
}

/// "1.2 ms", "1.0 s"
pub(super) fn in_words(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1000.0)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_a_port_where_it_is_not_the_usual() {
        for (address, expected) in [
            ("10.0.0.11:80", "10.0.0.11"),
            ("10.0.0.11:8080", "10.0.0.11:8080"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]:8080", "[2001:db8::1]:8080"),
        ] {
            assert_eq!(host(address.parse().unwrap()), expected);
        }
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        assert_eq!(in_words(Duration::from_micros(1234)), "1.2 ms");
        assert_eq!(in_words(Duration::from_millis(1000)), "1.0 s");
    }

    #[test]
    fn what_this_machine_lacks_is_not_held_against_the_backend() {
        let failed = Failed::Connect(io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(failed.result(), Result::NotAsked);
        assert_eq!(failed.in_words(), "not checked: too many open files");
        let failed = Failed::Connect(io::Error::from_raw_os_error(libc::EHOSTUNREACH));
        assert_eq!(failed.result(), Result::Failure);
        assert_eq!(failed.in_words(), "connect failed: no route to host");
    }
}
