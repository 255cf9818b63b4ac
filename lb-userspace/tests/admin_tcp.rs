//! The admin API by TCP: what strangers are told, and what they cannot do to anybody else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use lb_userspace::{
    admin::{Pieces, Server, StatusSource, client},
    config::model::Admin,
    control::{Act, Changes, Pattern, Refusal, ReloadWish, Reloaded},
    flow_list::Query,
    status::{Agent, Counts, Status},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const TOKEN: &str = "correct-horse-battery";

#[derive(Default)]
struct Source {
    /// Time that a status takes.
    takes: Duration,
    asked: AtomicUsize,
    /// Bytes of the config file's name, to make a large status.
    large: usize,
    is_detached: AtomicBool,
    /// Who changed what.
    changes: Mutex<Vec<String>>,
}

impl StatusSource for Source {
    fn status(&self) -> Status {
        self.asked.fetch_add(1, Ordering::Relaxed);
        thread::sleep(self.takes);
        Status {
            version: "0.1.0".to_owned(),
            agent: Agent {
                pid: 4711,
                uptime_seconds: 3.2,
                config_file: "x".repeat(self.large),
                config_generation: 1,
                abi: 1,
            },
            interfaces: Vec::new(),
            services: Vec::new(),
            verdicts: Counts(vec![("steered".to_owned(), 7)]),
            flow_tables: Vec::new(),
            events: Counts::default(),
            app_host: None,
            mysql: None,
            cluster: None,
            announced: Vec::new(),
        }
    }

    fn unready(&self) -> Option<String> {
        let detached = self.is_detached.load(Ordering::Relaxed);
        detached.then(|| "steering is not attached to eth1".to_owned())
    }

    fn act(&self, pattern: Pattern, act: Act, who: String) -> Result<Changes, Refusal> {
        let change = format!("{pattern} {act:?} by {who}");
        self.changes.lock().unwrap().push(change);
        Ok(Changes::default())
    }

    fn reload(&self, _: &ReloadWish, who: &str) -> Result<Reloaded, Refusal> {
        let change = format!("reload by {who}");
        self.changes.lock().unwrap().push(change);
        Ok(Reloaded::default())
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

/// A server on loopback. The fields are dropped in this order.
struct Stage {
    server: Server,
    source: Arc<Source>,
    runtime: Runtime,
    address: SocketAddr,
    folder: TempDir,
}

impl Stage {
    fn new(listen: &str, token: Option<&str>, source: Source) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token_file = token.map(|token| {
            let file = folder.path().join("token");
            fs::write(&file, token).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            file
        });
        let runtime = Runtime::new().unwrap();
        let mut server = Server::new(&Admin {
            socket: folder.path().join("lb.sock"),
            listen: Some(listen.parse().unwrap()),
            token_file,
            tls: None,
        })
        .unwrap();
        let address = server.tcp_address().unwrap();
        let source = Arc::new(source);
        let shared: Arc<dyn StatusSource> = Arc::<Source>::clone(&source);
        runtime.block_on(async { server.begin(&shared).unwrap() });
        Self {
            server,
            source,
            runtime,
            address,
            folder,
        }
    }

    fn serving(listen: &str, token: Option<&str>) -> Self {
        let mut stage = Self::new(listen, token, Source::default());
        stage.serve();
        stage
    }

    fn serve(&mut self) {
        let source = Arc::<Source>::clone(&self.source);
        let server = &mut self.server;
        self.runtime
            .block_on(async { server.serve(source).unwrap() });
    }

    fn ask(&self, request: &str) -> String {
        ask(self.address, request)
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: lb\r\n\r\n"))
    }

    fn get_with(&self, path: &str, header: &str) -> String {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: lb\r\n{header}\r\n\r\n"
        ))
    }
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // It may be sent away before it has said everything.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[track_caller]
fn is(answer: &str, code: u16, words: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
    assert!(answer.contains(words), "{words:?} is not in {answer}");
}

#[test]
fn strangers_may_look_and_not_touch() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let stage = Stage::serving(listen, None);
        is(&stage.get("/status.json"), 200, "\"steered\":7");
        is(
            &stage.get("/metrics"),
            200,
            "\nlb_verdicts_total{verdict=\"steered\"} 7\n",
        );
        is(&stage.get("/healthz"), 200, "{\"alive\":true}");
        let metrics = stage.get("/metrics").to_lowercase();
        assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        for guarded in [
            "/flows.json",
            "/why.json",
            "/capture.pcapng",
            "/mysql/sessions.json",
            "/mysql/digests.json",
        ] {
            is(
                &stage.get_with(guarded, &format!("Authorization: Bearer {TOKEN}")),
                403,
                "is answered over TCP only with a token, and the config names no admin.token_file",
            );
        }
        is(
            &stage.get("/etc/passwd"),
            404,
            "there is nothing here; try /, /metrics, ",
        );
        let posted = stage.ask("POST /metrics HTTP/1.1\r\nHost: lb\r\nContent-Length: 0\r\n\r\n");
        is(&posted, 405, "only GET is allowed here");
        // As watchers of uptime ask.
        let head = stage.ask("HEAD /healthz HTTP/1.1\r\nHost: lb\r\n\r\n");
        is(&head, 200, "content-length: 15\r\n");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        let socket = stage.folder.path().join("lb.sock");
        assert!(
            client::status(&socket).is_ok(),
            "the Unix socket answers as well"
        );
    }
}

#[test]
fn the_token_opens_everything() {
    let stage = Stage::serving("127.0.0.1:0", Some(&format!("{TOKEN}\n")));
    is(&stage.get("/status.json"), 200, "steered");
    let bare = stage.get("/flows.json");
    is(
        &bare,
        401,
        "GET /flows.json needs the token of admin.token_file",
    );
    assert!(
        bare.to_lowercase()
            .contains("\r\nwww-authenticate: bearer\r\n"),
        "{bare}"
    );
    for wrong in [
        "Bearer correct-horse-batterz",
        "Bearer correct-horse",
        "Basic x",
    ] {
        let header = format!("Authorization: {wrong}");
        is(
            &stage.get_with("/flows.json", &header),
            401,
            "needs the token",
        );
    }
    let header = format!("Authorization: Bearer {TOKEN}");
    is(
        &stage.get_with("/flows.json", &header),
        404,
        "there are no flows here",
    );
}

#[test]
fn changes_need_the_token_and_name_who_asked() {
    let stage = Stage::serving("127.0.0.1:0", Some(TOKEN));
    let header = format!("Authorization: Bearer {TOKEN}\r\n");
    let requests = |header: &str| {
        let body = r#"{"state":"drain"}"#;
        let length = body.len();
        [
            format!(
                "PATCH /backends/web/web1 HTTP/1.1\r\nHost: l\r\n{header}Content-Length: {length}\r\n\r\n{body}"
            ),
            format!("DELETE /backends/web/web1 HTTP/1.1\r\nHost: l\r\n{header}\r\n"),
            format!("POST /reload HTTP/1.1\r\nHost: l\r\n{header}Content-Length: 0\r\n\r\n"),
        ]
    };
    for request in requests("") {
        is(
            &stage.ask(&request),
            401,
            "needs the token of admin.token_file",
        );
    }
    assert!(stage.source.changes.lock().unwrap().is_empty());
    for request in requests(&header) {
        is(&stage.ask(&request), 200, "");
    }
    let changes = stage.source.changes.lock().unwrap().join("\n");
    assert_eq!(changes.matches(" by 127.0.0.1:").count(), 3, "{changes}");
    assert!(changes.starts_with("web/web1 Set(Change { weight: None, state: Some(Drain) }) by "));

    let closed = Stage::serving("127.0.0.1:0", None);
    for request in requests(&header) {
        is(
            &closed.ask(&request),
            403,
            "the config names no admin.token_file",
        );
    }
    assert!(closed.source.changes.lock().unwrap().is_empty());
}

#[test]
fn readiness_comes_with_packets_and_goes_with_them() {
    let mut stage = Stage::new("127.0.0.1:0", None, Source::default());
    is(&stage.get("/healthz"), 200, "alive");
    is(
        &stage.get("/readyz"),
        503,
        "the agent is starting: it does not steer yet",
    );
    stage.serve();
    is(&stage.get("/readyz"), 200, "{\"ready\":true}");
    stage.source.is_detached.store(true, Ordering::Relaxed);
    is(
        &stage.get("/readyz"),
        503,
        "steering is not attached to eth1",
    );
}

#[test]
fn what_cannot_be_opened_is_told_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let sentence = |listen: &str, token_file| {
        let error = Server::new(&Admin {
            socket: folder.path().join("lb.sock"),
            listen: Some(listen.parse().unwrap()),
            token_file,
            tls: None,
        })
        .unwrap_err();
        error.to_string()
    };
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    assert_eq!(
        sentence(&taken, None),
        format!(
            "cannot listen on {taken} (admin.listen): another program listens there; choose \
             another port"
        )
    );
    assert_eq!(
        sentence("192.0.2.1:9900", None),
        "cannot listen on 192.0.2.1:9900 (admin.listen): this host does not have that address"
    );
    let readable = folder.path().join("token");
    fs::write(&readable, TOKEN).unwrap();
    fs::set_permissions(&readable, fs::Permissions::from_mode(0o644)).unwrap();
    let said = sentence("127.0.0.1:0", Some(readable));
    assert!(
        said.starts_with("every user of this host can read the token file "),
        "{said}"
    );
    assert!(
        !folder.path().join("lb.sock").exists(),
        "nothing is left behind"
    );
}

#[test]
fn connections_that_say_nothing_are_few_and_end() {
    let stage = Stage::serving("127.0.0.1:0", None);
    let silent: Vec<TcpStream> = (0..8)
        .map(|_| TcpStream::connect(stage.address).unwrap())
        .collect();
    let sent_away = stage.get("/healthz");
    is(
        &sent_away,
        429,
        "too many connections from your address; close some",
    );
    assert!(sent_away.contains("\r\nretry-after: 1\r\n"), "{sent_away}");
    // Another address is another guest, and the Unix socket knows no guests.
    is(&from([127, 0, 0, 2], stage.address), 200, "alive");
    assert!(client::status(&stage.folder.path().join("lb.sock")).is_ok());
    for mut stream in silent {
        let mut rest = Vec::new();
        // They are cut off when the time to ask is over.
        let _ = stream.read_to_end(&mut rest);
    }
    is(&stage.get("/healthz"), 200, "alive");
}

/// `GET /healthz` from another address of loopback.
fn from(source: [u8; 4], to: SocketAddr) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((source, 0))).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    let mut stream = stream;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: lb\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn whoever_asks_too_often_waits() {
    let stage = Stage::serving("127.0.0.1:0", None);
    let answers: Vec<String> = (0..200).map(|_| stage.get("/healthz")).collect();
    let served = answers.iter().filter(|a| a.contains("200 OK")).count();
    assert!((60..200).contains(&served), "{served}");
    let refused = answers.iter().find(|a| !a.contains("200 OK")).unwrap();
    is(
        refused,
        429,
        "too many requests from your address; ask less often",
    );
    is(&from([127, 0, 0, 3], stage.address), 200, "alive");
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let stage = Stage::serving("127.0.0.1:0", None);
    let long = format!("X-Long: {}", "x".repeat(64 << 10));
    let answer = stage.get_with("/healthz", &long);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}: x")).collect();
    is(&stage.get_with("/healthz", &many.join("\r\n")), 431, "");
    is(
        &stage.get(&format!("/{}", "y".repeat(12_000))),
        404,
        "there is nothing here",
    );
    is(&stage.get("/healthz"), 200, "alive");
}

#[test]
fn a_status_that_takes_long_is_shared() {
    let source = Source {
        takes: Duration::from_secs(1),
        ..Source::default()
    };
    let mut stage = Stage::new("127.0.0.1:0", None, source);
    stage.serve();
    let address = stage.address;
    let asking: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || ask(address, "GET /status.json HTTP/1.1\r\nHost: l\r\n\r\n"))
        })
        .collect();
    for one in asking {
        is(&one.join().unwrap(), 200, "steered");
    }
    let asked = stage.source.asked.load(Ordering::Relaxed);
    assert!(asked <= 2, "it was made {asked} times");
}

#[test]
fn whoever_does_not_read_holds_a_bounded_part_of_the_memory() {
    let source = Source {
        large: 40 << 20,
        ..Source::default()
    };
    let mut stage = Stage::new("127.0.0.1:0", None, source);
    stage.serve();
    let mut lazy = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(stage.address).unwrap();
        stream
            .write_all(b"GET /status.json HTTP/1.1\r\nHost: lb\r\n\r\n")
            .unwrap();
        // The answer has begun, so its body is held.
        stream.read_exact(&mut [0; 64]).unwrap();
        lazy.push(stream);
    }
    is(
        &stage.get("/status.json"),
        503,
        "other clients have not taken their answers yet",
    );
    is(&stage.get("/healthz"), 200, "alive");
    drop(lazy);
    let mut answer = stage.get("/status.json");
    // The server hears of it a moment later.
    while answer.starts_with("HTTP/1.1 503 ") {
        thread::sleep(Duration::from_millis(100));
        answer = stage.get("/status.json");
    }
    is(&answer, 200, "steered");
}
