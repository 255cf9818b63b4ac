//! Checks by TCP and HTTP, and the rhythm of all of them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lb_userspace::{
    config::model::{CheckKind, Get, HealthCheck, StatusCodes},
    health::{Health, Monitor, Target},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::{SECOND, check, first, nobody, target};

fn http() -> HealthCheck {
    let expect_status = StatusCodes(vec![200..=399]);
    check(CheckKind::Http(Get {
        path: "/healthz?deep=1".to_owned(),
        host: None,
        expect_status,
    }))
}

/// A server that gets the head of each request and may do what it likes.
async fn server<F, Served>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream, String) -> Served + Send + Sync + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let serve = Arc::clone(&serve);
            tokio::spawn(async move {
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n")
                    && stream.read(&mut byte).await.unwrap_or(0) > 0
                {
                    request.push(byte[0]);
                }
                serve(stream, String::from_utf8(request).unwrap()).await;
            });
        }
    });
    address
}

/// A server that always says the same.
async fn says(answer: &'static str) -> SocketAddr {
    server(move |mut stream, _| async move {
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await
}

#[tokio::test]
async fn a_tcp_check_connects() {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let report = first(target(
        "a",
        listener.local_addr().unwrap(),
        check(CheckKind::Tcp),
    ))
    .await;
    assert_eq!((report.health, report.changed), (Health::Up, true));
    assert!(
        report.detail.starts_with("connected in "),
        "{}",
        report.detail
    );

    let report = first(target("b", nobody().await, check(CheckKind::Tcp))).await;
    assert_eq!((report.health, report.changed), (Health::Down, true));
    assert_eq!(report.detail, "connect refused");
}

#[tokio::test]
async fn a_check_may_have_a_port_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = Some(listener.local_addr().unwrap().port());
    let check = HealthCheck {
        port,
        ..check(CheckKind::Tcp)
    };
    assert_eq!(
        first(target("a", nobody().await, check)).await.health,
        Health::Up
    );
}

#[tokio::test]
async fn without_a_check_a_backend_is_up() {
    let report = first(target("a", nobody().await, check(CheckKind::None))).await;
    assert_eq!((report.health, report.changed), (Health::Up, true));
    assert_eq!(report.detail, "not checked");
}

#[tokio::test]
async fn an_http_check_asks_politely() {
    let (sent, mut requests) = mpsc::channel(8);
    let address = server(move |mut stream, request| {
        let sent = sent.clone();
        async move {
            let _ = sent.send(request).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    let report = first(target("a", address, http())).await;
    assert_eq!(report.health, Health::Up);
    assert!(
        report.detail.starts_with("HTTP 204 in "),
        "{}",
        report.detail
    );
    let request = requests.recv().await.unwrap().to_lowercase();
    assert!(
        request.starts_with("get /healthz?deep=1 http/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains(&format!("host: {address}\r\n")),
        "{request}"
    );
    assert!(request.contains("connection: close\r\n"), "{request}");
}

#[tokio::test]
async fn an_answer_is_judged_by_its_status() {
    for (answer, health, detail) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            Health::Up,
            "HTTP 200 in ",
        ),
        ("HTTP/1.0 200 OK\r\n\r\nok", Health::Up, "HTTP 200 in "),
        (
            "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n",
            Health::Up,
            "HTTP 302 in ",
        ),
        (
            "HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n",
            Health::Down,
            "HTTP 503 in ",
        ),
        (
            "HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n",
            Health::Down,
            "HTTP 404 in ",
        ),
        ("", Health::Down, "closed without an HTTP response"),
        (
            "HTTP/1.1 200 OK\r\nContent-",
            Health::Down,
            "closed without an HTTP response",
        ),
        (
            "220 mail.example ESMTP\r\n",
            Health::Down,
            "the answer is not HTTP",
        ),
    ] {
        let report = first(target("a", says(answer).await, http())).await;
        assert_eq!(report.health, health, "{answer}");
        assert!(
            report.detail.starts_with(detail),
            "{answer:?}: {}",
            report.detail
        );
    }
}

#[tokio::test]
async fn a_check_ends_in_its_time_whatever_the_server_does() {
    let silent = server(|stream, _| async move {
        sleep(60 * SECOND).await;
        drop(stream);
    })
    .await;
    let dripping = server(|mut stream, _| async move {
        while stream.write_all(b"H").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    for address in [silent, dripping] {
        let start = Instant::now();
        let report = first(target("a", address, http())).await;
        assert_eq!(report.health, Health::Down);
        assert!(start.elapsed() < 8 * SECOND, "{:?}", start.elapsed());
        assert!(
            ["timed out after 500.0 ms", "the answer is not HTTP"]
                .contains(&report.detail.as_str()),
            "{}",
            report.detail
        );
    }
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_matter() {
    let address = server(|mut stream, _| async move {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
            .await;
        sleep(60 * SECOND).await;
    })
    .await;
    for timeout in [SECOND, 9 * SECOND] {
        let start = Instant::now();
        let report = first(target("a", address, HealthCheck { timeout, ..http() })).await;
        assert_eq!(report.health, Health::Up, "{}", report.detail);
        assert!(report.took < timeout && start.elapsed() < 8 * SECOND);
    }
}

#[tokio::test]
async fn a_server_that_floods_is_read_no_further_than_needed() {
    let written = Arc::new(AtomicUsize::new(0));
    for (head, detail) in [
        (
            "HTTP/1.1 200 OK\r\nX-Endless: ",
            "the head of the HTTP response is too large",
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", "HTTP 200 in "),
    ] {
        written.store(0, Ordering::Relaxed);
        let count = Arc::clone(&written);
        let address = server(move |mut stream, _| {
            let count = Arc::clone(&count);
            async move {
                let _ = stream.write_all(head.as_bytes()).await;
                while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                    count.fetch_add(4096, Ordering::Relaxed);
                }
            }
        })
        .await;
        let report = first(target("a", address, http())).await;
        assert!(report.detail.starts_with(detail), "{}", report.detail);
        sleep(Duration::from_millis(200)).await;
        // What fits socket buffers, and not one check's time of writing.
        assert!(written.load(Ordering::Relaxed) < 32 << 20, "{written:?}");
    }
}

#[tokio::test]
async fn a_head_has_its_limit_even_when_it_ends() {
    let address = server(|mut stream, _| async move {
        let head = format!(
            "HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n",
            "x".repeat(64 << 10)
        );
        let _ = stream.write_all(head.as_bytes()).await;
    })
    .await;
    let report = first(target("a", address, http())).await;
    assert_eq!(report.health, Health::Down);
    assert_eq!(report.detail, "the head of the HTTP response is too large");
}

#[tokio::test]
async fn rise_and_fall_are_counted_over_checks() {
    let broken = Arc::new(AtomicUsize::new(0));
    let address = server({
        let broken = Arc::clone(&broken);
        move |mut stream, _| {
            let status = if broken.load(Ordering::Relaxed) == 0 {
                "200 OK"
            } else {
                "500 No"
            };
            async move {
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await;
    let (reports, mut reported) = mpsc::channel(16);
    let monitor = Monitor::start(vec![target("a", address, http())], reports);
    assert_eq!(reported.recv().await.unwrap().health, Health::Up);
    for (status, needed, health) in [(1, 3, Health::Down), (0, 2, Health::Up)] {
        broken.store(status, Ordering::Relaxed);
        let mut seen = 0;
        loop {
            let report = reported.recv().await.unwrap();
            let as_asked = report.detail.starts_with("HTTP 500") == (status == 1);
            seen += usize::from(as_asked);
            assert_eq!(report.changed, report.health == health);
            if report.changed {
                break;
            }
        }
        assert_eq!(seen, needed);
    }
    monitor.stop();
    while reported.recv().await.is_some() {}
}

#[tokio::test]
async fn what_was_known_before_is_not_changed_by_one_check() {
    let known = Target {
        initial: Some(Health::Up),
        ..target("a", nobody().await, http())
    };
    let (reports, mut reported) = mpsc::channel(16);
    let _monitor = Monitor::start(vec![known], reports);
    for health in [Health::Up, Health::Up, Health::Down] {
        assert_eq!(reported.recv().await.unwrap().health, health);
    }
}

/// 300 backends that answer and 300 that do not: those that answer are asked in their rhythm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_servers_delay_nobody_else_s_check() {
    let good = says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let patient = HealthCheck {
        interval: SECOND,
        timeout: 30 * SECOND,
        ..http()
    };
    let targets = (0..300).flat_map(|index| {
        [
            target(
                &format!("good{index}"),
                good,
                HealthCheck {
                    timeout: 5 * SECOND,
                    ..patient.clone()
                },
            ),
            target(
                &format!("slow{index}"),
                slow.local_addr().unwrap(),
                patient.clone(),
            ),
        ]
    });
    let (reports, mut reported) = mpsc::channel(16);
    let _monitor = Monitor::start(targets.collect(), reports);
    let mut seen = 0;
    let _ = timeout(Duration::from_millis(3500), async {
        while let Some(report) = reported.recv().await {
            assert!(report.key.backend.starts_with("good"), "{report:?}");
            assert_eq!(report.health, Health::Up, "{report:?}");
            seen += 1;
        }
    })
    .await;
    assert!(
        (400..=1400).contains(&seen),
        "{seen} checks of 300 backends in 3.5 s"
    );
}
