//! `grpc.health.v1.Health/Check`, over HTTP/2 in clear text.

use std::{convert::Infallible, io::ErrorKind, pin::pin};

use h2::{Reason, RecvStream, client};
use hyper::{
    HeaderMap, Method, Request,
    body::Bytes,
    header::{self, HeaderName},
};

use super::{
    Answer, Connection,
    failed::{Failed, system_words},
    http::USER_AGENT,
    line::bounded,
};

/// Bytes of headers that are read at most.
const LARGEST_HEAD: u32 = 16 << 10;
/// Bytes of the answer that are read at most; it has two when all is well.
const LARGEST_ANSWER: usize = 1 << 10;
/// What the server may send without being asked on.
const WINDOW: u32 = 64 << 10;
/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Asks for the health of a service; the empty name is the server as a whole.
pub(super) async fn check(
    stream: Connection,
    authority: &str,
    service: &str,
) -> Result<Answer, Failed> {
    exchange(stream, authority, service)
        .await
        .unwrap_or_else(|error| Err(Failed::because(in_words(&error))))
}

async fn exchange(
    stream: Connection,
    authority: &str,
    service: &str,
) -> Result<Result<Answer, Failed>, h2::Error> {
    let (sender, connection) = client::Builder::new()
        .max_header_list_size(LARGEST_HEAD)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(0)
        .enable_push(false)
        .handshake::<_, Bytes>(stream)
        .await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, USER_AGENT)
        .body(())
        .expect("a valid config has hosts that fit a request");
    let exchange = async move {
        let mut sender = sender.ready().await?;
        let (response, mut body) = sender.send_request(request, false)?;
        body.send_data(message(service), true)?;
        let (head, body) = response.await?.into_parts();
        if head.status != 200 {
            let words = format!("HTTP {} and no answer of gRPC", head.status.as_u16());
            return Ok(Err(Failed::because(words)));
        }
        let (answer, trailers) = receive(body).await?;
        // Where there is no message, both come in one.
        let status = trailers
            .as_ref()
            .and_then(Status::read)
            .or_else(|| Status::read(&head.headers));
        Ok(judge(&answer, status))
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

/// Message and trailers.
async fn receive(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut answer = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        if answer.len() + chunk.len() > LARGEST_ANSWER {
            // Longer than any answer; its status does not matter.
            return Ok((vec![u8::MAX], None));
        }
        answer.extend_from_slice(&chunk);
        let _ = body.flow_control().release_capacity(chunk.len());
    }
    Ok((answer, body.trailers().await?))
}

/// How gRPC says that a call went.
struct Status {
    code: u32,
    words: String,
}

impl Status {
    fn read(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &'static str| {
            let value = headers.get(HeaderName::from_static(name))?;
            value.to_str().ok()
        };
        Some(Self {
            code: text("grpc-status")?.parse().ok()?,
            words: text("grpc-message").map(bounded).unwrap_or_default(),
        })
    }
}

fn judge(answer: &[u8], status: Option<Status>) -> Result<Answer, Failed> {
    match status {
        Some(Status { code: 0, .. }) => {}
        Some(Status { code, words }) => {
            let words = match &*words {
                "" => String::new(),
                words => format!(": {words}"),
            };
            let name = code_name(code);
            return Err(Failed::because(format!("gRPC status {code}{name}{words}")));
        }
        None => return Err(Failed::because("the answer is not gRPC")),
    }
    let words = match serving_status(answer) {
        Some(1) => return Ok(Answer::good("gRPC SERVING")),
        Some(0) => "UNKNOWN",
        Some(2) => "NOT_SERVING",
        Some(3) => "SERVICE_UNKNOWN",
        Some(_) | None => return Err(Failed::because("the answer is not of a gRPC health check")),
    };
    Ok(Answer {
        is_good: false,
        ..Answer::good(format!("gRPC {words}"))
    })
}

/// The codes that a health check may well get, in words.
const fn code_name(code: u32) -> &'static str {
    match code {
        5 => " (NOT_FOUND)",
        7 => " (PERMISSION_DENIED)",
        8 => " (RESOURCE_EXHAUSTED)",
        12 => " (UNIMPLEMENTED)",
        13 => " (INTERNAL)",
        14 => " (UNAVAILABLE)",
        16 => " (UNAUTHENTICATED)",
        _ => "",
    }
}

/// A `HealthCheckRequest` with its prefix: field 1 is the service.
fn message(service: &str) -> Bytes {
    let mut field = Vec::new();
    if !service.is_empty() {
        field.push(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            field.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend_from_slice(service.as_bytes());
    }
    let mut message = vec![0];
    message.extend_from_slice(&(field.len() as u32).to_be_bytes());
    message.append(&mut field);
    message.into()
}

/// The status in a `HealthCheckResponse`: field 1, which is left out when it is 0.
fn serving_status(answer: &[u8]) -> Option<u64> {
    let (prefix, mut message) = answer.split_at_checked(PREFIX)?;
    let (is_compressed, length) = prefix.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    if *is_compressed != 0 || length as usize != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let skipped = match key & 7 {
            0 => {
                let value = varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn in_words(error: &h2::Error) -> String {
    if let Some(cause) = error.get_io() {
        let is_closed = [ErrorKind::UnexpectedEof, ErrorKind::BrokenPipe].contains(&cause.kind());
        return if is_closed {
            "closed without an answer of gRPC".to_owned()
        } else {
            system_words(cause)
        };
    }
    match error.reason() {
        Some(Reason::FRAME_SIZE_ERROR | Reason::PROTOCOL_ERROR) if error.is_library() => {
            "the answer is not HTTP/2".to_owned()
        }
        Some(Reason::HTTP_1_1_REQUIRED) => "the server does not speak HTTP/2".to_owned(),
        Some(_) | None => bounded(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_request_is_as_protobuf_has_it() {
        assert_eq!(&*message(""), [0, 0, 0, 0, 0]);
        assert_eq!(&*message("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&"x".repeat(200));
        assert_eq!(long[..9], [0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01, b'x']);
    }

    #[test]
    fn the_answer_is_read_as_protobuf_has_it() {
        for (answer, status) in [
            (&[0, 0, 0, 0, 0][..], Some(0)),
            (&[0, 0, 0, 0, 2, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 3, 8, 0x82, 0], Some(2)),
            // Fields that nobody knows.
            (&[0, 0, 0, 0, 6, 0x12, 2, 8, 2, 8, 1], Some(1)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 2, 8], None),
            (&[0, 0, 0, 0, 2, 8, 0x80], None),
            (&[0, 0, 0, 0, 3, 0x12, 9, 1], None),
            (&[], None),
        ] {
            assert_eq!(serving_status(answer), status, "{answer:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_answer_and_no_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let length = bytes.len() as u32;
            let mut framed = vec![0];
            framed.extend_from_slice(&length.to_be_bytes());
            framed.append(&mut bytes);
            let _ = serving_status(&framed);
        }
    }
}
