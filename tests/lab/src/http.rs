//! The smallest HTTP client: one connection, one request, the answer until the server closes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The name in the header `X-Backend`.
    pub backend: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Requests `path` on a new connection. Call it inside a namespace, by
/// [`crate::Namespace::within`].
///
/// # Errors
/// When there is no connection, no answer, or none that is HTTP, within `timeout` for each step.
pub fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

fn parse(answer: &[u8]) -> Option<Response> {
    const BLANK: &[u8] = b"\r\n\r\n";
    let end = answer
        .windows(BLANK.len())
        .position(|window| window == BLANK)?;
    let (head, rest) = answer.split_at(end);
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines
        .next()?
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    let backend = lines
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("x-backend"))
        .map(|(_, value)| value.to_owned());
    Some(Response {
        status,
        backend,
        body: rest.get(BLANK.len()..)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Response, parse};

    #[test]
    fn status_backend_and_body_are_read() {
        let answer = b"HTTP/1.1 200 OK\r\nServer: x\r\nX-Backend: web1\r\n\r\nweb1\n";
        let expected = Response {
            status: 200,
            backend: Some("web1".to_owned()),
            body: b"web1\n".to_vec(),
        };
        assert_eq!(parse(answer), Some(expected));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        assert_eq!(parse(b"SSH-2.0\r\n\r\n"), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
