//! A program that reports line by line: on this kernel, or as the first process of an emulated
//! machine. It never outlives its time or this process.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{interrupt, setup};

/// What the lines begin with that are meant for us; see `lb_tests::guest`.
const MARK: &str = "@lb ";

/// Where an emulated machine has the agent.
pub(super) const LB: &str = "/bin/lb";

const TICK: Duration = Duration::from_millis(200);

/// An emulated machine with one processor. It cannot use the hardware's virtualisation: inside
/// another virtual machine that may hang.
///
/// What the kernel does not know of its command line goes to the first process: what has a `=` into
/// its environment, and what follows `--` as arguments.
pub(super) fn emulated(kernel: &Path, initramfs: &Path, arguments: &[String]) -> Command {
    // Without it the name is what the error says.
    let emulator = setup::emulator_path().unwrap_or_else(|| "qemu-system-x86_64".into());
    let mut command = Command::new(emulator);
    command
        .args(["-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "512"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-nographic"])
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-append")
        .arg(format!(
            "console=ttyS0 panic=-1 quiet LB_BIN={LB} LB_SLOWNESS=10 -- {}",
            arguments.join(" ")
        ));
    command
}

/// Runs it, hands every report to `see`, and copies all that it writes to a file.
pub(super) fn watch(
    mut command: Command,
    log: &Path,
    time: Duration,
    mut see: impl FnMut(Value),
) -> Result<()> {
    let began = Instant::now();
    let (reader, writer) = io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    // SAFETY: between fork and exec the closure makes one system call and turns an error number
    // into an `io::Error`; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command
        .spawn()
        .with_context(|| format!("{program} cannot be started"))?;
    let mut running = Running(child);
    // The command keeps its copies of the pipe's end, and reading would never end.
    drop(command);
    let mut log = File::create(log)?;
    let (sender, lines) = mpsc::channel();
    let reading = thread::spawn(move || {
        let all = BufReader::new(reader)
            .split(b'\n')
            .map_while(io::Result::ok);
        for line in all {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    loop {
        match lines.recv_timeout(TICK) {
            Ok(line) => {
                log.write_all(&line)?;
                log.write_all(b"\n")?;
                if let Some(report) = report(&line) {
                    see(report);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        interrupt::check()?;
        if began.elapsed() > time {
            bail!("it did not end within {} s", time.as_secs());
        }
    }
    let status = running.0.wait()?;
    // Its end of the pipe is closed.
    let _ = reading.join();
    if !status.success() {
        bail!("{program} ended with {status}");
    }
    Ok(())
}

fn report(line: &[u8]) -> Option<Value> {
    let line = String::from_utf8_lossy(line);
    // The firmware's escape sequences may stand before the first one.
    let (_, report) = line.split_once(MARK)?;
    serde_json::from_str(report.trim_end()).ok()
}

/// Ends the process when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::report;

    #[test]
    fn reports_are_told_from_the_kernels_lines() {
        assert_eq!(
            report(b"\x1bc\x1b[2J@lb {\"a\":1}\r"),
            Some(json!({ "a": 1 }))
        );
        assert_eq!(report(b"[    2.9] reboot: Power down\r"), None);
        assert_eq!(report(b"@lb {\"a\":"), None);
    }
}
