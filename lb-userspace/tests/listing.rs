//! Lists of flows over the admin socket: streamed, and nobody's burden when their reader is slow.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lb_userspace::{
    admin::{Pieces, Server, StatusSource, client},
    flow_list::Query,
    status::{Agent, Counts, Status},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Lists that live, and pieces they were asked for.
#[derive(Debug, Default)]
struct Seen {
    living: AtomicUsize,
    pieces: AtomicUsize,
}

struct Source(Arc<Seen>);

/// So many pieces of 64 kB.
struct Counted(usize, Arc<Seen>);

const PIECE: usize = 64 << 10;

impl StatusSource for Source {
    fn status(&self) -> Status {
        Status {
            version: String::new(),
            agent: Agent {
                pid: 1,
                uptime_seconds: 0.0,
                config_file: String::new(),
                config_generation: 1,
                abi: 1,
            },
            interfaces: Vec::new(),
            services: Vec::new(),
            verdicts: Counts::default(),
            flow_tables: Vec::new(),
            events: Counts::default(),
            app_host: None,
            mysql: None,
            cluster: None,
            announced: Vec::new(),
        }
    }

    fn flows(&self, query: &Query) -> Result<Box<dyn Pieces>, String> {
        if let Some(service) = &query.service {
            return Err(format!("there is no service {service}"));
        }
        self.0.living.fetch_add(1, Ordering::SeqCst);
        let pieces = query.limit.unwrap_or(u64::MAX) as usize;
        Ok(Box::new(Counted(pieces, Arc::clone(&self.0))))
    }

    fn capture(&self, _: &lb_userspace::capture::Query) -> Result<Box<dyn Pieces>, String> {
        self.0.living.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Counted(usize::MAX, Arc::clone(&self.0))))
    }

    fn why(&self, _: &lb_userspace::why::Query) -> Result<lb_userspace::why::Answer, String> {
        Err("nothing can be asked here".to_owned())
    }
}

impl Pieces for Counted {
    fn next(&mut self, piece: &mut Vec<u8>) -> bool {
        self.1.pieces.fetch_add(1, Ordering::SeqCst);
        assert_ne!(self.0, 13, "thirteen pieces are too many");
        self.0 -= 1;
        piece.resize(PIECE, b'x');
        self.0 > 0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.living.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Stage {
    path: PathBuf,
    seen: Arc<Seen>,
    _server: Server,
    _runtime: Runtime,
    _folder: TempDir,
}

fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lb.sock");
    let runtime = Runtime::new().unwrap();
    let mut server = Server::bind(&path).unwrap();
    let seen = Arc::<Seen>::default();
    let source = Arc::new(Source(Arc::clone(&seen)));
    runtime.block_on(async { server.serve(source).unwrap() });
    Stage {
        path,
        seen,
        _server: server,
        _runtime: runtime,
        _folder: folder,
    }
}

impl Stage {
    /// Asks for a list, and reads only its beginning.
    fn begin(&self) -> UnixStream {
        self.ask("/flows.json")
    }

    fn ask(&self, what: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        write!(stream, "GET {what} HTTP/1.1\r\nHost: lb\r\n\r\n").unwrap();
        let mut beginning = [0; 100];
        stream.read_exact(&mut beginning).unwrap();
        assert!(beginning.starts_with(b"HTTP/1.1 200 "));
        stream
    }

    /// How many bytes a list has.
    fn read(&self, query: &Query) -> Result<usize, client::Error> {
        let mut bytes = 0;
        let taken = client::flows(&self.path, query, |piece| {
            bytes += piece.len();
            Ok::<_, ()>(())
        });
        taken.map(|taken| {
            taken.unwrap();
            bytes
        })
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn limit(pieces: u64) -> Query {
    Query {
        limit: Some(pieces),
        ..Query::default()
    }
}

#[test]
fn a_list_of_many_pieces_arrives_whole() {
    let stage = stage();
    assert_eq!(stage.read(&limit(1)).unwrap(), PIECE);
    // Not 13 on the way, which fails.
    assert_eq!(stage.read(&limit(12)).unwrap(), 12 * PIECE);
    until("nothing is left", || {
        stage.seen.living.load(Ordering::SeqCst) == 0
    });
}

#[test]
fn a_reader_that_stands_still_stops_the_making_and_nobody_else() {
    let stage = stage();
    let slow: Vec<_> = (0..4).map(|_| stage.begin()).collect();
    // The socket's buffers take some pieces, and then no more are made.
    until("no more pieces are made", || {
        let now = stage.seen.pieces.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(200));
        now == stage.seen.pieces.load(Ordering::SeqCst)
    });
    let last = stage.seen.pieces.load(Ordering::SeqCst);
    assert!(last < 4 * 64, "{last} pieces were made for nobody");
    assert!(
        client::status(&stage.path).is_ok(),
        "the status is answered"
    );
    let sentence = stage.read(&limit(1)).unwrap_err().to_string();
    assert!(
        sentence.contains("4 lists of flows are being read already"),
        "{sentence}"
    );
    // They go away, and leave nothing behind.
    drop(slow);
    until("the lists are gone", || {
        stage.seen.living.load(Ordering::SeqCst) == 0
    });
    until("there is room again", || stage.read(&limit(1)).is_ok());
}

#[test]
fn lists_do_not_keep_a_capture_out_and_a_capture_no_lists() {
    let stage = stage();
    let _slow: Vec<_> = (0..3).map(|_| stage.begin()).collect();
    let query = lb_userspace::capture::Query::decode("").unwrap();
    let _capture = stage.ask(&format!("/capture.pcapng?{}", query.encode()));
    let _fourth = stage.begin();
    let sentence = client::capture(&stage.path, &query, |_| Err(()))
        .unwrap_err()
        .to_string();
    assert!(sentence.contains("one capture at a time"), "{sentence}");
}

#[test]
fn a_command_that_has_seen_enough_ends_the_list() {
    let stage = stage();
    let mut pieces = 0;
    let taken = client::flows(&stage.path, &Query::default(), |_| {
        pieces += 1;
        if pieces == 3 { Err("enough") } else { Ok(()) }
    });
    assert!(matches!(taken, Ok(Err("enough"))), "{taken:?}");
    until("the list is gone", || {
        stage.seen.living.load(Ordering::SeqCst) == 0
    });
}

#[test]
fn a_list_that_breaks_off_is_not_taken_for_a_whole_one() {
    let stage = stage();
    let sentence = stage.read(&limit(20)).unwrap_err().to_string();
    assert!(sentence.contains("broke off in the middle"), "{sentence}");
}

#[test]
fn what_cannot_be_listed_is_refused_in_words() {
    let stage = stage();
    let query = Query {
        service: Some("shop".to_owned()),
        ..Query::default()
    };
    let sentence = stage.read(&query).unwrap_err().to_string();
    assert!(
        sentence.ends_with("refused: there is no service shop"),
        "{sentence}"
    );
    let mut stream = UnixStream::connect(&stage.path).unwrap();
    stream
        .write_all(b"GET /flows.json?colour=red HTTP/1.1\r\nHost: lb\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("allowed: service, backend"), "{answer}");
}
