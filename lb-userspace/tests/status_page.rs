//! The status page in a real browser: Chromium of the distribution, without a window.
//!
//! With `LB_SCREENSHOTS=FOLDER` pictures of it are left there, to be looked at.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use lb_userspace::{
    admin::{Pieces, Server, StatusSource},
    config::model::Admin,
    events::{Entry, EventLog, Level},
    status::{
        Agent, Backend, Counts, FlowTable, Interface, Mysql, MysqlServer, MysqlStatements,
        MysqlUser, Service, Status,
    },
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A name that would be a picture with a script, if it were not a text.
const EVIL: &str = "<img/src=x/onerror=document.title='broken'>";

/// How often a page may be asked for.
const TRIES: usize = 4;

/// What the agent would say if each answer came two seconds after the one before.
struct Moving {
    step: AtomicU64,
    log: Arc<EventLog>,
    backends: usize,
    is_evil: bool,
}

impl Moving {
    fn new(backends: usize, is_evil: bool) -> Self {
        let log = EventLog::new();
        let note = |second: u32, level, kind: &str, message: &str| {
            log.note(Entry {
                time: format!("2026-01-02T14:03:{second:02}.000000Z"),
                level,
                kind: kind.to_owned(),
                service: None,
                backend: None,
                message: message.to_owned(),
            });
        };
        note(1, Level::Info, "agent_ready", "ready");
        note(
            9,
            Level::Info,
            "backend_set",
            "backend web/web3: weight 1, drain, by uid 0, pid 4711",
        );
        note(
            31,
            Level::Warn,
            "backend_down",
            "backend web/web2 is down: connect refused (3 of 3 checks failed)",
        );
        note(
            40,
            Level::Error,
            "reload_failed",
            "not reloaded, by SIGHUP: 1 problem in /etc/lb/lb.toml",
        );
        if is_evil {
            note(52, Level::Info, "notice", EVIL);
        }
        Self {
            step: AtomicU64::new(0),
            log,
            backends,
            is_evil,
        }
    }
}

fn backend(name: &str, at: u8, seed: u64, step: u64) -> Backend {
    // Waves that differ, and never fall.
    let wave = |height: u64| -> u64 {
        let one = |k: u64| {
            let angle = (k as f64 + seed as f64 * 7.0) / (4.0 + seed as f64 % 3.0);
            (height as f64 * (1.3 + angle.sin() + 0.25 * (angle * 3.7).cos())) as u64
        };
        (0..=step).map(one).sum()
    };
    Backend {
        name: name.to_owned(),
        address: format!("10.0.0.{at}"),
        port: 8080,
        weight: 1,
        state: "ready".to_owned(),
        role: "active".to_owned(),
        health: "up".to_owned(),
        in_rotation: true,
        connections: wave(170),
        active_flows: 300 + seed * 13 + step * 3,
        packets: wave(5200),
        bytes: wave(3_300_000),
        last_check: format!("HTTP 200 in 1.{seed} ms"),
        since_seconds: 8000.0,
        next_hop: None,
        reply_packets: wave(5000),
        reply_bytes: wave(9_000_000),
        check_seconds: Some(0.0011 + seed as f64 / 10_000.0),
        certificate_expires: None,
        replication_lag_seconds: None,
        handshakes: None,
    }
}

fn service(name: &str, address: &str, port: u16, backends: Vec<Backend>) -> Service {
    let sum = |of: fn(&Backend) -> u64| backends.iter().map(of).sum();
    Service {
        name: name.to_owned(),
        address: address.to_owned(),
        port,
        protocol: "tcp".to_owned(),
        scheduler: "round-robin".to_owned(),
        forwarding: "nat".to_owned(),
        connections: sum(|one| one.connections),
        active_flows: sum(|one| one.active_flows),
        packets: sum(|one| one.packets),
        bytes: sum(|one| one.bytes),
        firewall: None,
        backends,
    }
}

fn mysql(step: u64) -> Mysql {
    let server = |name: &str, role: &str| MysqlServer {
        name: name.to_owned(),
        address: "10.0.0.31:3306".to_owned(),
        role: role.to_owned(),
        health: "up".to_owned(),
        lag_seconds: None,
        read_only: Some(role == "replica"),
        in_rotation: true,
        connections: 4,
        max_connections: None,
        waiting: 0,
        statements: 1000 * step,
        seconds: 0.5 * step as f64,
        gtid: String::new(),
        version: Some("9.7.4".to_owned()),
        trouble: None,
        no_reads: None,
    };
    let mut servers = vec![
        server("db1", "primary"),
        server("db2", "replica"),
        server(EVIL, "replica"),
    ];
    servers[1].lag_seconds = Some(0.25);
    servers[1].max_connections = Some(4);
    servers[1].waiting = 7;
    servers[2].in_rotation = false;
    servers[2].no_reads = Some("it is 31 s behind".to_owned());
    Mysql {
        intercept: None,
        servers,
        sessions: 12,
        users: vec![MysqlUser {
            name: EVIL.to_owned(),
            sessions: 2,
            max_connections: 3,
        }],
        statements: MysqlStatements {
            primary: 1000 * step,
            replica: 3000 * step,
        },
        reasons: BTreeMap::new(),
        no_primary: (step > 2).then(|| "two servers take writes".to_owned()),
        epoch: 1,
        by_target: BTreeMap::from([
            ("primary/in_transaction".to_owned(), 1000 * step),
            ("replica/read".to_owned(), 3000 * step),
        ]),
        durations: BTreeMap::new(),
        errors: BTreeMap::from([("login".to_owned(), 3), ("behind".to_owned(), 0)]),
    }
}

impl StatusSource for Moving {
    fn status(&self) -> Status {
        let step = self.step.fetch_add(1, Ordering::Relaxed);
        let mut web: Vec<Backend> = (1..=4)
            .map(|n| backend(&format!("web{n}"), n, n.into(), step))
            .collect();
        web[1].health = "down".to_owned();
        web[1].in_rotation = false;
        web[1].last_check = "connect refused".to_owned();
        web[1].since_seconds = 75.0;
        web[2].state = "drain".to_owned();
        web[2].in_rotation = false;
        web[3].role = "backup".to_owned();
        web[3].in_rotation = false;
        let mut evil = backend(EVIL, 9, 5, step);
        evil.last_check = EVIL.to_owned();
        let many: Vec<Backend> = (0..self.backends)
            .map(|n| backend(&format!("shard{n}"), 20, n as u64 % 9, step.min(3)))
            .collect();
        let mut services = vec![
            service("web", "203.0.113.10", 80, web),
            service(
                "api",
                "2001:db8::10",
                443,
                vec![backend("api1", 21, 6, step), backend("api2", 22, 7, step)],
            ),
        ];
        if self.is_evil {
            services.push(service(EVIL, "203.0.113.12", 81, vec![evil]));
        }
        if !many.is_empty() {
            services.push(service("shards", "203.0.113.13", 3306, many));
        }
        Status {
            version: "0.1.0".to_owned(),
            agent: Agent {
                pid: 4711,
                uptime_seconds: 93_784.0 + 2.0 * step as f64,
                config_file: "/etc/lb/lb.toml".to_owned(),
                config_generation: 3,
                abi: 7,
            },
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                xdp_mode: "native".to_owned(),
                program_id: 12,
            }],
            services,
            verdicts: Counts(vec![
                ("steered".to_owned(), 40_000_000 + step * 21_000),
                ("steered_reply".to_owned(), 38_000_000 + step * 20_000),
                ("pass_not_ours".to_owned(), 911_000 + step * 40),
                ("pass_arp".to_owned(), 120),
                ("drop_ttl_exceeded".to_owned(), 18),
                ("drop_no_next_hop".to_owned(), 3300 + step * 7),
                ("drop_fragment".to_owned(), 0),
            ]),
            flow_tables: vec![FlowTable {
                name: "established".to_owned(),
                entries: 20_400 + step * 3,
                capacity: 262_144,
                expired: 1,
            }],
            events: Counts::default(),
            app_host: None,
            cluster: None,
            announced: Vec::new(),
            mysql: self.is_evil.then(|| mysql(step)),
        }
    }

    fn events(&self) -> Arc<EventLog> {
        Arc::clone(&self.log)
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
    _server: Server,
    _runtime: Runtime,
    address: SocketAddr,
    folder: TempDir,
}

impl Stage {
    fn new(backends: usize, is_evil: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let mut server = Server::new(&Admin {
            socket: folder.path().join("lb.sock"),
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            token_file: None,
            tls: None,
        })
        .unwrap();
        let source = Arc::new(Moving::new(backends, is_evil));
        runtime.block_on(async { server.serve(source).unwrap() });
        Self {
            address: server.tcp_address().unwrap(),
            _server: server,
            _runtime: runtime,
            folder,
        }
    }

    /// Opens the page, and lets so much time pass for it.
    fn browse(&self, milliseconds: u32, arguments: &[&str]) -> Output {
        let profile = self.folder.path().join("profile");
        let child = Command::new("timeout")
            .args([
                "--kill-after=5",
                "90",
                "chromium",
                "--headless",
                "--no-sandbox",
            ])
            .args([
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
            ])
            .args([
                "--disable-background-networking",
                "--no-first-run",
                "--mute-audio",
            ])
            .args(["--enable-logging=stderr", "--lang=en-GB"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("--virtual-time-budget={milliseconds}"))
            .args(arguments)
            .arg(format!("http://{}/", self.address))
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the package chromium is installed by `cargo xtask setup`");
        child.wait_with_output().unwrap()
    }

    /// The document as the browser has it once it is complete; nothing may be wrong with it. The
    /// browser's clock runs ahead of a busy machine's answers, so that a page may be given out before
    /// it has seen enough of them.
    fn document(&self, arguments: &[&str], is_complete: impl Fn(&str) -> bool) -> String {
        let mut page = String::new();
        for _ in 0..TRIES {
            page = self.document_once(arguments);
            if is_complete(&page) {
                break;
            }
        }
        page
    }

    fn document_once(&self, arguments: &[&str]) -> String {
        let arguments = [&["--dump-dom"], arguments].concat();
        let output = self.browse(27_000, &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        let complaints: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("CONSOLE"))
            .collect();
        assert!(complaints.is_empty(), "{complaints:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// How many are drawn.
fn curves(page: &str) -> usize {
    page.matches("class=\"curve\" d=\"M").count()
}

#[test]
fn the_page_shows_what_the_status_says() {
    let stage = Stage::new(0, false);
    let page = stage.document(&["--window-size=1280,1400"], |page| curves(page) >= 10);
    for words in [
        "live</span>",
        "version 0.1.0",
        "steering on eth0 (native)",
        "<b>web</b>",
        "203.0.113.10:80/tcp · round-robin · nat",
        "[2001:db8::10]:443/tcp",
        "<span class=\"chip down\" title=\"since 1 min\">down</span>",
        ">drain</span>",
        ">standby</span>",
        "connect refused",
        "drop_no_next_hop",
        "1 other verdicts are zero",
        "backend web/web2 is down: connect refused (3 of 3 checks failed)",
        "not reloaded, by SIGHUP",
        "14:03:31",
        "New connections per second of web, now ",
        // There is no MySQL proxy.
        "<section id=\"mysql\" aria-labelledby=\"mysql-title\" hidden",
    ] {
        assert!(page.contains(words), "{words}\n{page}");
    }
    let drawn = curves(&page);
    assert!(drawn >= 10, "{drawn} curves");
    pictures();
}

#[test]
fn names_are_texts_and_no_more() {
    let page = Stage::new(0, true).document(&[], |page| {
        page.contains("Statements per second of db1, now ")
    });
    assert!(page.contains("<title>lb</title>"), "a script ran");
    assert!(page.contains("&lt;img/src=x/onerror="), "{page}");
    assert!(!page.contains("<img"), "{page}");
    // The same page has the MySQL proxy.
    for words in [
        "12 sessions · 75 % of statements to replicas",
        " 2 of 3 · errors: login 3",
        "Nobody takes writes: two servers take writes",
        "10.0.0.31:3306 · 9.7.4",
        ">writes</td>",
        ">reads</td>",
        ">nothing</td>",
        ">250 ms</td>",
        ">0.50 ms</td>",
        ">4/4</td>",
        "7 wait for a connection",
        "it is 31 s behind",
        "<span class=\"label\">primary/in_transaction</span>",
        "<span class=\"label\">replica/read</span>",
        "Statements per second of db1, now 500",
    ] {
        assert!(page.contains(words), "{words}\n{page}");
    }
}

#[test]
fn ten_thousand_backends_are_too_many_rows_and_still_a_page() {
    let page = Stage::new(10_000, false).document(&[], |page| page.contains("Show all "));
    assert!(page.contains("Show all 10000 backends"));
    let rows = page.matches("<tr").count();
    assert!(rows < 100, "{rows} rows");
}

/// Leaves pictures of the page where the environment says.
fn pictures() {
    let Ok(folder) = std::env::var("LB_SCREENSHOTS") else {
        return;
    };
    for (name, size, dark) in [
        ("light", "1280,1180", false),
        ("dark", "1280,1180", true),
        ("readme", "1180,800", false),
        ("phone", "500,2400", false),
    ] {
        let file = format!(
            "--screenshot={}",
            Path::new(&folder)
                .join(name)
                .with_extension("png")
                .display()
        );
        let size = format!("--window-size={size}");
        let mut arguments = vec![&*file, &*size];
        if dark {
            arguments.push("--blink-settings=preferredColorScheme=0");
        }
        // A minute, but for the limit of requests from one address.
        let output = Stage::new(0, false).browse(50_000, &arguments);
        assert!(output.status.success(), "{output:?}");
    }
}
