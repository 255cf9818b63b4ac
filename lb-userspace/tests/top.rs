//! `lb top` on a real terminal: a pseudo-terminal of the program `script`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "common/proxy.rs"]
mod common;

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use lb_mysql::proxy::Proxy;
use lb_userspace::{
    admin::{Pieces, Server, StatusSource},
    control::{Act, Change, Changed, Changes, Pattern, Refusal, State},
    status::Status,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const STATUS: &str = r#"{"version": "0.1.0",
    "agent": {"pid": 1, "uptime_seconds": 3.2, "config_file": "f", "config_generation": 1, "abi": 1},
    "interfaces": [],
    "services": [{"name": "web", "address": "203.0.113.10", "port": 80, "protocol": "tcp",
        "scheduler": "round-robin", "forwarding": "nat", "connections": 12, "active_flows": 3,
        "packets": 240, "bytes": 18000,
        "backends": [{"name": "web1", "address": "10.0.0.11", "port": 8080, "weight": 1,
            "state": "ready", "role": "active", "health": "up", "in_rotation": true,
            "connections": 4, "active_flows": 1, "packets": 80, "bytes": 6000,
            "last_check": "HTTP 200", "since_seconds": 3.0}]}],
    "verdicts": {"steered": 240}}"#;

struct Source(Mutex<Vec<(Pattern, Act)>>, Option<Proxy>);

impl StatusSource for Source {
    fn status(&self) -> Status {
        let status: Status = serde_json::from_str(STATUS).unwrap();
        Status {
            mysql: self.1.as_ref().map(lb_userspace::mysql::of_proxy),
            ..status
        }
    }

    fn mysql(&self) -> Option<&Proxy> {
        self.1.as_ref()
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

    fn act(&self, pattern: Pattern, act: Act, _: String) -> Result<Changes, Refusal> {
        let changed = Changed {
            service: pattern.service.clone(),
            backend: pattern.backend.clone(),
            weight: 1,
            state: State::Drain,
            is_new: true,
        };
        self.0.lock().unwrap().push((pattern, act));
        Ok(Changes {
            backends: vec![changed],
            warning: None,
        })
    }
}

/// `lb top` on a terminal of 80 by 24. The fields are dropped in this order.
struct Stage {
    terminal: Child,
    seen: mpsc::Receiver<Vec<u8>>,
    text: String,
    _server: Server,
    source: Arc<Source>,
    _runtime: Runtime,
    pid_file: PathBuf,
    _folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        Self::of("top", |_| None)
    }

    fn of(command: &str, proxy: impl FnOnce(&Path) -> Option<Proxy>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("lb.sock");
        let pid_file = folder.path().join("pid");
        let runtime = Runtime::new().unwrap();
        let mut server = Server::bind(&socket).unwrap();
        let source = Arc::new(Source(Mutex::default(), proxy(folder.path())));
        let shared = Arc::<Source>::clone(&source);
        runtime.block_on(async { server.serve(shared).unwrap() });
        // The shell goes on when lb has ended, and says how, and what the terminal is like then.
        let line = format!(
            "stty cols 80 rows 24; sh -c \"echo \\$\\$ > {}; exec {} --socket {} {command} --interval 1\"; \
             echo ended with $?; stty -a",
            pid_file.display(),
            env!("CARGO_BIN_EXE_lb"),
            socket.display()
        );
        let mut terminal = Command::new("script")
            .args(["--quiet", "--flush", "--command"])
            .arg(line)
            // A shell that leaves the terminal to what it runs.
            .env("SHELL", "/bin/sh")
            .arg("/dev/null")
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = terminal.stdout.take().unwrap();
        let (sender, seen) = mpsc::channel();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut piece) {
                if sender.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            terminal,
            seen,
            text: String::new(),
            _server: server,
            source,
            _runtime: runtime,
            pid_file,
            _folder: folder,
        }
    }

    /// Waits until this has been written.
    #[track_caller]
    fn see(&mut self, words: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.text.contains(words) {
            let left = end.saturating_duration_since(Instant::now());
            match self.seen.recv_timeout(left) {
                Ok(piece) => self.text.push_str(&String::from_utf8_lossy(&piece)),
                Err(error) => panic!("{words:?} was not seen ({error}): {:?}", self.text),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.terminal.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// The terminal is as it was before.
    #[track_caller]
    fn see_the_end(&mut self, status: &str) {
        self.see(&format!("ended with {status}"));
        self.see("-echoprt");
        assert!(
            self.text.contains("\x1b[?1049l"),
            "the screen is not given back"
        );
        assert!(self.text.contains("\x1b[?25h"), "the cursor is gone");
        let modes = self.text.rsplit("ended with").next().unwrap();
        for mode in ["icanon", "echo", "isig"] {
            let is_set = modes.split_whitespace().any(|word| word == mode);
            assert!(is_set, "{mode}: {modes}");
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.terminal.kill();
        let _ = self.terminal.wait();
    }
}

#[test]
fn backends_are_shown_and_drained_and_the_terminal_comes_back() {
    let mut stage = Stage::new();
    stage.see("\x1b[?1049h");
    stage.see("web/web1");
    stage.see("q quit");
    stage.press("d");
    stage.see("web/web1: weight 1, drain");
    let (pattern, act) = stage.source.0.lock().unwrap().pop().unwrap();
    assert_eq!(pattern.to_string(), "web/web1");
    let state = Some(State::Drain);
    assert_eq!(
        act,
        Act::Set(Change {
            weight: None,
            state
        })
    );
    stage.press("q");
    stage.see_the_end("0");
}

#[test]
fn servers_of_mysql_are_shown_and_the_terminal_comes_back() {
    let mut stage = Stage::of("mysql top", |folder| Some(common::proxy(folder, 0)));
    stage.see("\x1b[?1049h");
    stage.see("db1 ");
    stage.see("nobody takes writes");
    stage.see("statements are not counted");
    stage.press("s");
    stage.see("user, client, why");
    stage.press("q");
    stage.see_the_end("0");
}

#[test]
fn a_signal_gives_the_terminal_back_too() {
    let mut stage = Stage::new();
    stage.see("web/web1");
    let pid = std::fs::read_to_string(&stage.pid_file).unwrap();
    let killed = Command::new("kill").arg(pid.trim()).status().unwrap();
    assert!(killed.success());
    stage.see_the_end("0");
}

#[test]
fn without_a_terminal_there_is_one_sentence() {
    let output = Command::new(env!("CARGO_BIN_EXE_lb"))
        .arg("top")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "lb: lb top needs a terminal; for programs there is lb status --json\n"
    );
}
