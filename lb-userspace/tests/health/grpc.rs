//! Checks by gRPC's health protocol, of servers that speak it, badly or not at all.

use std::net::SocketAddr;

use h2::server::{self, SendResponse};
use hyper::{HeaderMap, Request, Response, body::Bytes};
use lb_userspace::{
    config::model::{CheckKind, HealthCheck},
    health::Health,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{SECOND, check, first, target};

fn grpc(service: &str) -> HealthCheck {
    let kind = CheckKind::Grpc {
        host: None,
        service: service.to_owned(),
    };
    HealthCheck {
        timeout: 2 * SECOND,
        ..check(kind)
    }
}

fn trailers(status: &str, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    if !message.is_empty() {
        trailers.insert("grpc-message", message.parse().unwrap());
    }
    trailers
}

fn respond(mut respond: SendResponse<Bytes>, body: &'static [u8], trailers: Option<HeaderMap>) {
    let head = Response::builder().header("content-type", "application/grpc");
    let mut send = respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap();
    let is_end = trailers.is_none();
    send.send_data(Bytes::from_static(body), is_end).unwrap();
    if let Some(trailers) = trailers {
        send.send_trailers(trailers).unwrap();
    }
}

/// A server that gets the bytes of each request's message.
async fn server<F>(serve: F) -> SocketAddr
where
    F: Fn(&Request<()>, &[u8], SendResponse<Bytes>) + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serve = serve.clone();
            tokio::spawn(async move {
                let mut connection = server::handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let serve = serve.clone();
                    tokio::spawn(async move {
                        let (head, mut body) = request.into_parts();
                        let mut message = Vec::new();
                        while let Some(Ok(chunk)) = body.data().await {
                            message.extend_from_slice(&chunk);
                        }
                        serve(&Request::from_parts(head, ()), &message, respond);
                    });
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn the_health_of_a_service_is_asked_for() {
    let address = server(|request, message, response| {
        let is_asked = request.uri().path() == "/grpc.health.v1.Health/Check"
            && request.method() == "POST"
            && request.headers()["content-type"] == "application/grpc"
            && request.headers()["te"] == "trailers";
        assert!(is_asked, "{request:?}");
        match message {
            b"\0\0\0\0\x00" => respond(response, b"\0\0\0\0\x02\x08\x01", Some(trailers("0", ""))),
            b"\0\0\0\0\x06\x0a\x04shop" => {
                respond(response, b"\0\0\0\0\x02\x08\x02", Some(trailers("0", "")));
            }
            _ => respond(response, b"", Some(trailers("5", "unknown service"))),
        }
    })
    .await;
    for (service, health, detail) in [
        ("", Health::Up, "gRPC SERVING in "),
        ("shop", Health::Down, "gRPC NOT_SERVING in "),
        (
            "other",
            Health::Down,
            "gRPC status 5 (NOT_FOUND): unknown service",
        ),
    ] {
        let report = first(target("a", address, grpc(service))).await;
        assert_eq!(report.health, health, "{}", report.detail);
        assert!(report.detail.starts_with(detail), "{}", report.detail);
    }
}

#[tokio::test]
async fn servers_that_answer_otherwise_are_told() {
    type Answer = fn(SendResponse<Bytes>);
    let answers: [(Answer, &str); 6] = [
        (
            |mut response| {
                let head = Response::builder()
                    .header("grpc-status", "12")
                    .body(())
                    .unwrap();
                response.send_response(head, true).unwrap();
            },
            "gRPC status 12 (UNIMPLEMENTED)",
        ),
        (
            |mut response| {
                let head = Response::builder().status(404).body(()).unwrap();
                response.send_response(head, true).unwrap();
            },
            "HTTP 404 and no answer of gRPC",
        ),
        (
            |response| respond(response, b"hello", None),
            "the answer is not gRPC",
        ),
        (
            |response| respond(response, b"hello", Some(trailers("0", ""))),
            "the answer is not of a gRPC health check",
        ),
        (
            |response| respond(response, &[0; 5000], Some(trailers("0", ""))),
            "the answer is not gRPC",
        ),
        (
            |mut response| response.send_reset(h2::Reason::REFUSED_STREAM),
            "stream error received: refused stream before processing any application logic",
        ),
    ];
    for (answer, detail) in answers {
        let address = server(move |_, _, response| answer(response)).await;
        let report = first(target("a", address, grpc(""))).await;
        assert_eq!((report.health, &*report.detail), (Health::Down, detail));
    }
}

#[tokio::test]
async fn what_is_not_http_2_is_told_and_costs_little() {
    for (says, then, detail) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            &b""[..],
            "the answer is not HTTP/2",
        ),
        (b"", b"", "closed without an answer of gRPC"),
        (b"SSH-2.0-OpenSSH\r\n", b"", "the answer is not HTTP/2"),
        // Settings without end, then a header without end.
        (
            b"\0\0\0\x04\0\0\0\0\0",
            b"\0\0\0\x04\0\0\0\0\0",
            "timed out after 2.0 s",
        ),
        (
            b"\0\0\0\x04\0\0\0\0\0\0\0\0\x01\0\0\0\0\x01",
            b"\0\0\x04\x09\0\0\0\0\x01\x40\x01x\0",
            "",
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(says).await;
                    let block = then.repeat(256);
                    while !block.is_empty() && stream.write_all(&block).await.is_ok() {}
                });
            }
        });
        let start = std::time::Instant::now();
        let report = first(target("a", address, grpc(""))).await;
        assert_eq!(report.health, Health::Down);
        assert!(
            report.detail.starts_with(detail),
            "{:?}: {}",
            says,
            report.detail
        );
        assert!(start.elapsed() < 4 * SECOND, "{:?}", start.elapsed());
    }
}
