//! Text to stdout and stderr, for readers that may go away.

use std::io::{self, Write as _};

use super::Failure;

/// To stdout. A reader that has seen enough (`lb status | head`) is no failure.
pub(super) fn print(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Failed(
            anyhow::Error::new(error).context("cannot write to stdout"),
        )),
        _ => Ok(()),
    }
}

/// Stdout for what comes in pieces.
pub(super) struct Output(io::StdoutLock<'static>);

impl Output {
    pub(super) fn new() -> Self {
        Self(io::stdout().lock())
    }

    /// Writes a piece, past the buffer.
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.0.write_all(piece)?;
        self.0.flush()
    }
}

/// To stderr, and a line end.
pub(super) fn complain(text: &str) {
    // When stderr is gone there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// "1 service", "2 services"
pub(super) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
