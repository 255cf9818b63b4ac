//! What `lb capture` leaves in its file, however the capture ends: blocks that are whole.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use lb_userspace::capture::{CapturedPacket, Totals, Writer};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// What arrives whole, and one more block.
fn blocks() -> (Vec<u8>, Vec<u8>) {
    let mut writer = Writer::new(["eth0"].into_iter(), 96).unwrap();
    for _ in 0..2 {
        writer
            .packet(&CapturedPacket {
                interface: 0,
                time: Duration::ZERO,
                length: 60,
                bytes: &[0; 60],
                comments: vec!["steered".to_owned()],
            })
            .unwrap();
    }
    writer.totals(Duration::ZERO, Totals::default()).unwrap();
    let whole = writer.take();
    writer.totals(Duration::ZERO, Totals::default()).unwrap();
    (whole, writer.take())
}

/// Bytes of the last block that do not arrive.
const END: usize = 5;

/// A capture from an agent that has sent so much of it.
struct Stage {
    folder: TempDir,
    command: Child,
    agent: UnixStream,
    whole: Vec<u8>,
}

impl Stage {
    fn set() -> Self {
        Self::of(Command::new(env!("CARGO_BIN_EXE_lb")))
    }

    fn of(mut command: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("lb.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let command = command
            .arg("capture")
            .arg("--socket")
            .arg(&socket)
            .arg("-w")
            .arg(folder.path().join("file.pcapng"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut agent, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            agent.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        let (whole, last) = blocks();
        let (begun, _) = last.split_at(last.len() - END);
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        agent.write_all(head.as_bytes()).unwrap();
        // The cut is in the middle of a block, and in the middle of a piece.
        for piece in [[&whole, &begun[..3]].concat(), begun[3..].to_vec()] {
            write!(agent, "{:x}\r\n", piece.len()).unwrap();
            agent.write_all(&piece).unwrap();
            agent.write_all(b"\r\n").unwrap();
        }
        let stage = Self {
            folder,
            command,
            agent,
            whole,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read(stage.file()).map_or(0, |file| file.len()) < stage.whole.len() {
            assert!(Instant::now() < deadline, "nothing is written");
            thread::sleep(Duration::from_millis(5));
        }
        stage
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("file.pcapng")
    }

    fn expect_whole_blocks(self, end: impl FnOnce(&Child, UnixStream)) -> Output {
        let file = self.file();
        end(&self.command, self.agent);
        let output = self.command.wait_with_output().unwrap();
        assert_eq!(fs::read(file).unwrap(), self.whole, "{output:?}");
        output
    }
}

#[test]
fn when_it_is_interrupted() {
    let mut agent = None;
    let output = Stage::set().expect_whole_blocks(|command, stream| {
        // It stays there.
        agent = Some(stream);
        let pid = Pid::from_raw(command.id().try_into().unwrap());
        kill(pid, Signal::SIGINT).unwrap();
    });
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("2 packets captured"), "{said}");
}

#[test]
fn when_the_agent_goes() {
    let output = Stage::set().expect_whole_blocks(|_, agent| drop(agent));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("broke off"), "{said}");
}

#[test]
fn when_it_is_killed() {
    let output = Stage::set().expect_whole_blocks(|command, _| {
        let pid = Pid::from_raw(command.id().try_into().unwrap());
        kill(pid, Signal::SIGKILL).unwrap();
    });
    assert_eq!(output.status.code(), None, "{output:?}");
}

#[test]
fn when_the_disk_is_full() {
    let (whole, last) = blocks();
    // 512 bytes a file, and a signal that would kill is ignored; the first piece fits.
    assert!((257..512).contains(&whole.len()), "{}", whole.len());
    let mut command = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_lb")]);
    let output = Stage::of(command).expect_whole_blocks(|_, mut agent| {
        // More than fits.
        let more = [&last[last.len() - END..], &whole].concat();
        // It may be gone before it has heard all.
        let _ = write!(agent, "{:x}\r\n", more.len());
        let _ = agent.write_all(&more);
        let _ = agent.write_all(b"\r\n0\r\n\r\n");
    });
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot write"), "{said}");
}
