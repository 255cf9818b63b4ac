//! The command `lb` as people have it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// The binary under test: the one that `LB_BIN` names, or the release build of the target folder
/// this test was built in.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("LB_BIN") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "LB_BIN names {}, which is no file",
            path.display()
        );
        return Ok(path);
    }
    let own = env::current_exe()?;
    own.ancestors()
        .map(|folder| folder.join("release/lb"))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "there is no release build of lb beside {}: run `cargo build --release -p \
                 lb-userspace`, or name a binary in LB_BIN",
                own.display()
            )
        })
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Result<Self> {
        let began = Instant::now();
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{command:?} cannot be started"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            took: began.elapsed(),
        })
    }

    /// Checks the exit status and that stderr has all these words. Failures must be sentences: one
    /// line that begins with `lb: ` and no trace of a panic or a debug print.
    ///
    /// # Errors
    /// When it is otherwise.
    pub fn expect_sentence(&self, code: i32, words: &[&str]) -> Result<()> {
        ensure!(
            self.code == Some(code),
            "exit status is not {code}: {self:?}"
        );
        for word in words {
            ensure!(
                self.stderr.contains(word),
                "stderr does not say {word:?}: {self:?}"
            );
        }
        let last = self.stderr.lines().last().unwrap_or_default();
        ensure!(
            last.starts_with("lb: ") && last.len() > 20,
            "no sentence: {self:?}"
        );
        for trace in ["panicked", "RUST_BACKTRACE", "Error {", "Os {", "Some("] {
            ensure!(
                !self.stderr.contains(trace),
                "stderr has {trace:?}: {self:?}"
            );
        }
        Ok(())
    }

    /// Checks that it succeeded, and returns what it wrote to stdout.
    ///
    /// # Errors
    /// When it did not.
    pub fn expect_success(self) -> Result<String> {
        ensure!(self.code == Some(0), "it failed: {self:?}");
        Ok(self.stdout)
    }
}

/// Runs `lb` with these arguments outside of the lab's namespaces.
///
/// # Errors
/// When it cannot be started.
pub fn run(arguments: &[&str]) -> Result<Outcome> {
    Outcome::of(Command::new(binary()?).args(arguments))
}

/// A path as an argument.
pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is no text", path.display()))
}
