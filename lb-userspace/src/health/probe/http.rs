//! A GET, over whatever connects.

use std::{convert::Infallible, error::Error as _, io, net::SocketAddr, pin::pin, time::Duration};

use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};

use super::{
    Answer,
    failed::{Failed, system_words},
};
use crate::config::model::Get;

/// Bytes of a response's head that are read at most.
const LARGEST_HEAD: usize = 16 << 10;
/// Bytes of a response's body that are read at most, to let the server finish.
const LARGEST_BODY: usize = 64 << 10;
/// Time for the body, after the status has decided.
const BODY_TIME: Duration = Duration::from_millis(250);
/// What servers are told of who asks.
pub(super) const USER_AGENT: &str = concat!("lb/", env!("CARGO_PKG_VERSION"), " health check");

/// Sends a GET. The head of the response is the answer, whatever becomes of its body.
pub(super) async fn get<Stream>(
    stream: Stream,
    host: &str,
    get: &Get,
    deadline: Instant,
) -> Result<Answer, Failed>
where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    exchange(stream, host, get, deadline)
        .await
        .map_err(|error| Failed::because(in_words(&error)))
}

async fn exchange<Stream>(
    stream: Stream,
    host: &str,
    get: &Get,
    deadline: Instant,
) -> Result<Answer, hyper::Error>
where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await?;
    let request = Request::get(&get.path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .expect("a valid config has paths and hosts that fit a request");
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let answer = Answer {
            is_good: get.expect_status.contains(status),
            ..Answer::good(format!("HTTP {status}"))
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

/// What the `Host` header says: what the config says, else the name that TLS asked for, else the
/// address.
pub(super) fn host(
    host: Option<&str>,
    sni: Option<&str>,
    address: SocketAddr,
    usual_port: u16,
) -> String {
    let is_usual = address.port() == usual_port;
    match (host, sni) {
        (Some(host), _) => host.to_owned(),
        (None, Some(name)) if is_usual => name.to_owned(),
        (None, Some(name)) => format!("{name}:{}", address.port()),
        (None, None) => match address {
            SocketAddr::V4(v4) if is_usual => v4.ip().to_string(),
            SocketAddr::V6(v6) if is_usual => format!("[{}]", v6.ip()),
            SocketAddr::V4(_) | SocketAddr::V6(_) => address.to_string(),
        },
    }
}

fn in_words(error: &hyper::Error) -> String {
    if error.is_parse_too_large() {
        return "the head of the HTTP response is too large".to_owned();
    }
    if error.is_parse() {
        return "the answer is not HTTP".to_owned();
    }
    if error.is_incomplete_message() {
        return "closed without an HTTP response".to_owned();
    }
    match error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
    {
        Some(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
            "closed without an HTTP response".to_owned()
        }
        Some(cause) => system_words(cause),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {

    #[test]
    fn the_host_has_a_port_where_it_is_not_the_usual() {
        for (host, sni, address, expected) in [
            (None, None, "10.0.0.11:80", "10.0.0.11"),
            (None, None, "10.0.0.11:8080", "10.0.0.11:8080"),
            (None, None, "[2001:db8::1]:80", "[2001:db8::1]"),
            (None, None, "[2001:db8::1]:8080", "[2001:db8::1]:8080"),
            (None, Some("a.example"), "10.0.0.11:80", "a.example"),
            (None, Some("a.example"), "10.0.0.11:81", "a.example:81"),
            (
                Some("b.example"),
                Some("a.example"),
                "10.0.0.11:81",
                "b.example",
            ),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(super::host(host, sni, address, 80), expected);
        }
    }
}
