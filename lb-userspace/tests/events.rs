//! Events, from the admin socket and from the command.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use lb_userspace::{
    admin::{Pieces, Server, StatusSource, client},
    events::{Entry, EventLog, Level, Page, Query},
    status::Status,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

struct Source(Arc<EventLog>);

impl StatusSource for Source {
    fn status(&self) -> Status {
        unreachable!("nobody asks for it here")
    }

    fn events(&self) -> Arc<EventLog> {
        Arc::clone(&self.0)
    }

    fn flows(&self, _: &lb_userspace::flow_list::Query) -> Result<Box<dyn Pieces>, String> {
        Err("there are no flows here".to_owned())
    }

    fn capture(&self, _: &lb_userspace::capture::Query) -> Result<Box<dyn Pieces>, String> {
        Err("nothing can be captured here".to_owned())
    }

    fn why(&self, _: &lb_userspace::why::Query) -> Result<lb_userspace::why::Answer, String> {
        Err("nothing can be asked here".to_owned())
    }
}

/// The fields are dropped in this order.
struct Stage {
    server: Option<Server>,
    runtime: Runtime,
    log: Arc<EventLog>,
    socket: PathBuf,
    _folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut stage = Self {
            server: None,
            runtime: Runtime::new().unwrap(),
            log: EventLog::new(),
            socket: folder.path().join("lb.sock"),
            _folder: folder,
        };
        stage.start();
        stage
    }

    /// As after a restart of the agent.
    fn start(&mut self) {
        self.server = None;
        self.log = EventLog::new();
        let mut server = Server::bind(&self.socket).unwrap();
        let source = Arc::new(Source(Arc::clone(&self.log)));
        self.runtime
            .block_on(async { server.serve(source).unwrap() });
        self.server = Some(server);
    }

    fn events(&self, since: u64, wait: u64) -> Page {
        let query = Query {
            since,
            wait: Duration::from_secs(wait),
            ..Query::default()
        };
        client::events(&self.socket, &query).unwrap()
    }

    fn lb(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
        command.args(arguments).arg("--socket").arg(&self.socket);
        command
    }
}

fn note(log: &EventLog, message: &str) {
    log.note(Entry {
        time: "2026-01-02T03:04:05.678901Z".to_owned(),
        level: Level::Info,
        kind: "backend_up".to_owned(),
        service: Some("web".to_owned()),
        backend: Some("web1".to_owned()),
        message: message.to_owned(),
    });
}

#[test]
fn who_waits_is_told_at_once_and_who_does_not_gets_what_there_is() {
    let stage = Stage::new();
    assert_eq!(stage.events(0, 0).events, []);
    let log = Arc::clone(&stage.log);
    let later = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        note(&log, "web/web1 is up");
    });
    let start = Instant::now();
    let page = stage.events(0, 20);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(page.events[0].entry.message, "web/web1 is up");
    assert_eq!(page.next, 1);
    later.join().unwrap();
    let start = Instant::now();
    assert_eq!(stage.events(1, 1).events, []);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn so_many_may_wait_that_others_get_a_connection() {
    let stage = Stage::new();
    let waiting: Vec<_> = (0..16)
        .map(|_| {
            let socket = stage.socket.clone();
            let wait = Duration::from_secs(20);
            thread::spawn(move || {
                let query = Query {
                    wait,
                    ..Query::default()
                };
                // The one that asks whether all places are taken may have taken one.
                loop {
                    if let Ok(page) = client::events(&socket, &query) {
                        return page;
                    }
                }
            })
        })
        .collect();
    let query = Query {
        wait: Duration::from_secs(1),
        ..Query::default()
    };
    // Until all of them have arrived.
    let end = Instant::now() + Duration::from_secs(20);
    let sentence = loop {
        if let Err(error) = client::events(&stage.socket, &query) {
            break error.to_string();
        }
        assert!(Instant::now() < end, "there is room for more");
    };
    assert!(
        sentence.ends_with("16 clients wait for events already; ask without wait"),
        "{sentence}"
    );
    assert_eq!(stage.events(0, 0).events, []);
    note(&stage.log, "all of them hear it");
    for one in waiting {
        assert_eq!(one.join().unwrap().events.len(), 1);
    }
}

#[test]
fn the_command_lists_and_follows_over_a_restart_of_the_agent() {
    let mut stage = Stage::new();
    note(&stage.log, "web/web1 is up");
    let listed = stage.lb(&["events"]).output().unwrap();
    assert_eq!(
        String::from_utf8(listed.stdout).unwrap(),
        "2026-01-02T03:04:05.678901Z  INFO web/web1 is up\n"
    );
    let json = stage.lb(&["events", "--json"]).output().unwrap();
    let page: Page = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((page.next, page.events.len()), (1, 1));

    let mut following = stage
        .lb(&["events", "--follow", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut complaints = BufReader::new(following.stderr.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().starts_with("{\"sequence\":1,\"time\":\"2026-01-02T03:04:05.678901Z\""));
    note(&stage.log, "second");
    assert!(next().contains("\"message\":\"second\""));
    stage.server = None;
    // The connection it waits on ends, and there is nobody to make another.
    let said = complaints.next().unwrap().unwrap();
    assert!(said.ends_with("waiting for it"), "{said}");
    stage.start();
    note(&stage.log, "first of the next");
    assert!(next().contains("\"sequence\":1,"));
    following.kill().unwrap();
    following.wait().unwrap();
}
