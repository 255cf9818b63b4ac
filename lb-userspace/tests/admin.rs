//! The admin socket, from both sides.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{Read as _, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use lb_userspace::{
    admin::{Error, Pieces, Server, StatusSource, client},
    flow_list::Query,
    status::{Agent, Counts, Status},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

struct Fixed;

impl StatusSource for Fixed {
    fn status(&self) -> Status {
        status()
    }

    fn flows(&self, _: &Query) -> Result<Box<dyn Pieces>, String> {
        Err("there are no flows here".to_owned())
    }

    fn capture(&self, _: &lb_userspace::capture::Query) -> Result<Box<dyn Pieces>, String> {
        Err("nothing can be captured here".to_owned())
    }

    fn why(&self, _: &lb_userspace::why::Query) -> Result<lb_userspace::why::Answer, String> {
        Err("nothing can be asked here".to_owned())
    }
}

fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        agent: Agent {
            pid: 4711,
            uptime_seconds: 3.2,
            config_file: "lb.toml".to_owned(),
            config_generation: 1,
            abi: 1,
        },
        interfaces: Vec::new(),
        services: Vec::new(),
        verdicts: Counts(vec![
            ("steered".to_owned(), 7),
            ("pass_not_ours".to_owned(), 0),
        ]),
        flow_tables: Vec::new(),
        events: Counts::default(),
        app_host: None,
        mysql: None,
        cluster: None,
        announced: Vec::new(),
    }
}

/// A folder that does not exist yet, for the socket.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/lb.sock");
    (folder, path)
}

fn serving(path: &Path) -> (Runtime, Server) {
    let runtime = Runtime::new().unwrap();
    let mut server = Server::bind(path).unwrap();
    runtime.block_on(async { server.serve(Arc::new(Fixed)).unwrap() });
    (runtime, server)
}

/// What the server says to these bytes.
fn says(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_status_arrives_as_it_was_sent() {
    let (_folder, path) = place();
    let (_runtime, _server) = serving(&path);
    assert_eq!(client::status(&path).unwrap(), status());
}

#[test]
fn the_socket_is_its_owner_s_alone_and_goes_with_the_server() {
    let (_folder, path) = place();
    let (_runtime, server) = serving(&path);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_change_that_cannot_be_made_is_refused_and_nothing_else_is_allowed_there() {
    let (_folder, path) = place();
    let (_runtime, _server) = serving(&path);
    for (request, status) in [
        (
            "DELETE /backends/web/web1 HTTP/1.1\r\nHost: lb\r\n\r\n",
            404,
        ),
        ("DELETE /backends/web HTTP/1.1\r\nHost: lb\r\n\r\n", 404),
        (
            "PATCH /backends/web/web1 HTTP/1.1\r\nHost: lb\r\nContent-Length: 2\r\n\r\n{}",
            400,
        ),
        (
            "PATCH /backends/web/web1 HTTP/1.1\r\nHost: lb\r\nContent-Length: 12\r\n\r\n{\"weight\":3}",
            404,
        ),
        (
            "POST /reload HTTP/1.1\r\nHost: lb\r\nContent-Length: 0\r\n\r\n",
            503,
        ),
        ("GET /reload HTTP/1.1\r\nHost: lb\r\n\r\n", 405),
        (
            "POST /mysql/switchover HTTP/1.1\r\nHost: lb\r\nContent-Length: 2\r\n\r\n{}",
            400,
        ),
        (
            "POST /mysql/failover HTTP/1.1\r\nHost: lb\r\nContent-Length: 2\r\n\r\n{}",
            404,
        ),
        ("GET /backends/web/web1 HTTP/1.1\r\nHost: lb\r\n\r\n", 405),
    ] {
        let answer = says(&path, request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

#[test]
fn what_is_not_there_or_not_allowed_is_refused_in_json() {
    let (_folder, path) = place();
    let (_runtime, _server) = serving(&path);
    let answer = says(&path, "GET /nothing HTTP/1.1\r\nHost: lb\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(
        answer
            .ends_with("{\"error\":\"there is nothing here; try /, /metrics, /healthz, /readyz, /openapi.json, /status.json, /events.json, /flows.json, /why.json, /capture.pcapng, /mysql/sessions.json, /mysql/digests.json, /mysql/sessions/ID, /firewall.json, /firewall, /backends/SERVICE/BACKEND, /reload, /mysql/switchover, /mysql/failover or /mysql/rejoin\"}\n"),
        "{answer}"
    );
    let answer = says(
        &path,
        "POST /status.json HTTP/1.1\r\nHost: lb\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(
        answer.to_lowercase().contains("\r\nallow: get, head\r\n"),
        "{answer}"
    );
    assert!(says(&path, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

#[test]
fn a_second_agent_is_refused_and_a_dead_one_s_socket_replaced() {
    let (_folder, path) = place();
    let (_runtime, server) = serving(&path);
    let error = Server::bind(&path).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(
        error.to_string().contains("another agent answers on "),
        "{error}"
    );
    assert!(client::status(&path).is_ok(), "the first goes on");
    drop(server);

    // A killed process leaves its socket behind.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let (_runtime, _server) = serving(&path);
    assert!(client::status(&path).is_ok());
}

#[test]
fn the_socket_appears_when_it_answers_and_not_in_place_of_another_s() {
    let (_folder, path) = place();
    let runtime = Runtime::new().unwrap();
    let mut early = Server::bind(&path).unwrap();
    assert!(!path.exists());
    let error = Server::bind(&path).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    let other = UnixListener::bind(&path).unwrap();
    let error = runtime
        .block_on(async { early.serve(Arc::new(Fixed)) })
        .unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    drop((early, other));
    let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_socket_that_another_agent_made_since_is_left_alone() {
    let (_folder, path) = place();
    let (_runtime, old) = serving(&path);
    std::fs::remove_file(&path).unwrap();
    let (_new_runtime, _new) = serving(&path);
    drop(old);
    assert!(client::status(&path).is_ok());
}

#[test]
fn a_file_that_is_no_socket_is_never_deleted() {
    let (_folder, path) = place();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let error = Server::bind(&path).unwrap_err();
    assert!(matches!(error, Error::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn clients_that_say_nothing_do_not_keep_others_out() {
    let (_folder, path) = place();
    let (_runtime, _server) = serving(&path);
    let silent: Vec<UnixStream> = (0..20)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    assert!(client::status(&path).is_ok());
    drop(silent);
}

#[test]
fn the_client_says_what_is_wrong() {
    let (folder, path) = place();
    let sentence = |path: &Path| client::status(path).unwrap_err().to_string();
    assert_eq!(
        sentence(&path),
        format!(
            "there is no agent at {}: is \"lb run\" running? (--socket names another)",
            path.display()
        )
    );

    let stale = folder.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    assert!(sentence(&stale).starts_with("there is no agent at "));

    let other = folder.path().join("other.sock");
    let listener = UnixListener::bind(&other).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    assert!(
        sentence(&other).contains(" is not understood: "),
        "{}",
        sentence(&other)
    );
}

#[test]
fn the_client_gives_up_after_five_seconds() {
    let (folder, _) = place();
    let path = folder.path().join("hung.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let start = Instant::now();
    let sentence = client::status(&path).unwrap_err().to_string();
    assert_eq!(
        sentence,
        format!("the agent at {} did not answer within 5 s", path.display())
    );
    let took = start.elapsed();
    assert!(
        took > Duration::from_secs(4) && took < Duration::from_secs(7),
        "{took:?}"
    );
}
