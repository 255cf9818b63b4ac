//! What the person at the terminal sees: one line per step, and a sign of life for long ones.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const BEAT: Duration = Duration::from_millis(120);
/// How often a long step says that it still works where the line cannot be redrawn.
const QUIET_BEAT: Duration = Duration::from_secs(15);
const FRAMES: [char; 4] = ['|', '/', '-', '\\'];

/// Whether escape sequences make sense on stdout.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints a heading.
pub(crate) fn heading(text: impl Display) {
    if is_terminal() {
        println!("\n\x1b[1m{text}\x1b[0m");
    } else {
        println!("\n{text}");
    }
}

/// Prints a thing that is there.
pub(crate) fn present(thing: impl Display, found: impl Display) {
    println!("  {} {thing}: {found}", tick());
}

/// Prints a step that is done, with the time it took.
pub(crate) fn done(text: impl Display, began: Instant) {
    println!(
        "  {} {text} ({:.1} s)",
        tick(),
        began.elapsed().as_secs_f64()
    );
}

fn tick() -> &'static str {
    if is_terminal() {
        "\x1b[32m✓\x1b[0m"
    } else {
        "✓"
    }
}

/// Prints a step that did not work or a thing that is missing.
pub(crate) fn failed(text: impl Display) {
    let cross = if is_terminal() {
        "\x1b[31m✗\x1b[0m"
    } else {
        "✗"
    };
    println!("  {cross} {text}");
}

/// Runs a long command behind a line that shows that it still works. Its output is shown only when
/// it fails.
pub(crate) fn run_long(title: &str, command: &mut Command) -> Result<()> {
    let began = Instant::now();
    let output = with_sign_of_life(title, began, || command.stdin(Stdio::null()).output())
        .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    if output.status.success() {
        done(title, began);
        return Ok(());
    }
    failed(title);
    show(&output);
    bail!(
        "{title}: {} ended with {}",
        command.get_program().display(),
        output.status
    )
}

/// Runs `work` behind a line that shows that it still goes on.
pub(crate) fn with_sign_of_life<T: Send>(
    title: &str,
    began: Instant,
    work: impl FnOnce() -> T + Send,
) -> T {
    let (finished, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || beat(title, began, &wait));
        let result = work();
        drop(finished);
        result
    })
}

fn beat(title: &str, began: Instant, wait: &mpsc::Receiver<()>) {
    let terminal = is_terminal();
    let pause = if terminal { BEAT } else { QUIET_BEAT };
    let mut frames = FRAMES.iter().cycle();
    while wait.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let seconds = began.elapsed().as_secs();
        if terminal {
            let frame = frames.next().unwrap_or(&FRAMES[0]);
            print!("\r  {frame} {title} … {seconds} s\x1b[K");
        } else {
            println!("  … {title}: {seconds} s");
        }
        // A terminal that is gone is no reason to stop working.
        let _ = io::stdout().flush();
    }
    if terminal {
        print!("\r\x1b[K");
        let _ = io::stdout().flush();
    }
}

fn show(output: &Output) {
    for stream in [&output.stdout, &output.stderr] {
        eprint!("{}", String::from_utf8_lossy(stream));
    }
}
