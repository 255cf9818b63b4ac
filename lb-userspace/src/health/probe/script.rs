//! A program of the operator's: its exit status is the answer.

use std::{
    io,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    pin::pin,
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::{Duration, Instant, timeout, timeout_at},
};

use super::{
    Answer,
    failed::{Failed, system_words},
    in_words,
    line::first_line,
};
use crate::health::BackendKey;

/// Bytes of output that are kept to find its first line in.
const KEPT: usize = 1024;
/// Time for output that is still in its pipe when the script has ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What to run, and for whom.
pub(super) struct Script<'a> {
    /// The program and its arguments.
    pub(super) command: &'a [String],
    pub(super) key: &'a BackendKey,
    pub(super) address: SocketAddr,
}

/// Runs it, and ends it with all that it started when its time is over.
pub(super) async fn run(
    script: Script<'_>,
    deadline: Instant,
    time: Duration,
) -> Result<Answer, Failed> {
    let program = script.command.first().map_or("", |program| program);
    let cannot = |error: io::Error| {
        Failed::not_asked(format_args!(
            "cannot run {program}: {}",
            system_words(&error)
        ))
    };
    // Before there is a child, so that its end cannot be missed.
    let mut ends = signal(SignalKind::child()).map_err(cannot)?;
    let mut group = Group::start(&script).map_err(cannot)?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
    let is_in_time = {
        let mut drain = pin!(async {
            tokio::join!(keep(stdout, &mut out), keep(stderr, &mut err));
        });
        let mut is_drained = false;
        let in_time = timeout_at(deadline, async {
            while !group.has_ended() {
                tokio::select! {
                    _ = ends.recv() => {}
                    () = &mut drain, if !is_drained => is_drained = true,
                }
            }
        });
        let is_in_time = in_time.await.is_ok();
        // Without them nobody holds the pipes open.
        group.kill();
        if !is_drained {
            let _ = timeout(LAST_WORDS, drain).await;
        }
        is_in_time
    };
    let status = group.child.wait().await.map_err(cannot)?;
    let at = Instant::now();
    group.is_reaped = true;
    let said = [out, err].iter().find_map(|bytes| first_line(bytes));
    let more = said.map(|line| format!(": {line}")).unwrap_or_default();
    if is_in_time {
        return Ok(Answer {
            is_good: status.success(),
            what: in_short(status),
            more,
            at,
        });
    }
    let timed_out = format!("timed out after {}{more}", in_words(time));
    Err(Failed::because(timed_out))
}

/// "script exit 1"
fn in_short(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("script exit {code}"),
        (None, Some(signal)) => format!("script killed by signal {signal}"),
        (None, None) => "script ended".to_owned(),
    }
}

/// Reads to the end, and keeps the start.
async fn keep(pipe: Option<impl AsyncRead + Unpin>, start: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else {
        return;
    };
    let mut bytes = [0; KEPT];
    while let Ok(length @ 1..) = pipe.read(&mut bytes).await {
        let fits = length.min(KEPT - start.len());
        start.extend_from_slice(&bytes[..fits]);
    }
}

/// A script and all that it started. Whatever becomes of the check, none of them is left.
struct Group {
    child: Child,
    leader: Pid,
    /// Its number may be another's from then on.
    is_reaped: bool,
}

impl Group {
    fn start(script: &Script<'_>) -> io::Result<Self> {
        let (program, arguments) = script
            .command
            .split_first()
            .ok_or(io::ErrorKind::InvalidInput)?;
        let child = Command::new(program)
            .args(arguments)
            .env("LB_SERVICE", &*script.key.service)
            .env("LB_BACKEND", &*script.key.backend)
            .env("LB_ADDRESS", script.address.ip().to_string())
            .env("LB_PORT", script.address.port().to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            child,
            leader: Pid::from_raw(id.ok_or(io::ErrorKind::NotFound)?),
            is_reaped: false,
        })
    }

    /// Whether the script has, which is still to be reaped.
    fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(
            waitid(Id::Pid(self.leader), flags),
            Ok(WaitStatus::StillAlive)
        )
    }

    fn kill(&self) {
        if !self.is_reaped {
            // All may have ended.
            let _ = killpg(self.leader, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The runtime reaps the leader, and init the others.
        self.kill();
    }
}
