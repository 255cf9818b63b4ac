//! A running `lb run`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_lab::{Lab, Process};

use super::binary::{Outcome, binary, run, text};
use super::{Config, Entry, Status, await_until};

/// How long an agent may take until it answers.
const START: Duration = Duration::from_secs(10);
/// How long an agent may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// An agent; dropping it stops it and shows what it said, for the report of a failing test.
#[derive(Debug)]
pub struct Agent {
    namespace: String,
    process: Process,
    config: PathBuf,
    socket: PathBuf,
    pins: PathBuf,
}

impl Agent {
    /// Starts it in the namespace `lb` and waits until it answers.
    ///
    /// # Errors
    /// When it does not, with its log.
    pub fn start(lab: &Lab, config: &Config) -> Result<Self> {
        Self::start_in(lab, "lb", config)
    }

    /// Starts it in a namespace and waits until it answers.
    ///
    /// # Errors
    /// When it does not, with its log.
    pub fn start_in(lab: &Lab, namespace: &str, config: &Config) -> Result<Self> {
        let command = lab.command(namespace, binary()?)?;
        Self::start_there(lab, namespace, config, command)
    }

    /// Starts it by a command that takes the arguments of `lb`, and waits until it answers.
    ///
    /// # Errors
    /// When it does not, with its log.
    pub fn start_by(lab: &Lab, config: &Config, command: Command) -> Result<Self> {
        Self::start_there(lab, "lb", config, command)
    }

    fn start_there(lab: &Lab, namespace: &str, config: &Config, command: Command) -> Result<Self> {
        let file = config.write(lab, &format!("{namespace}.toml"))?;
        let mut agent = Self {
            namespace: namespace.to_owned(),
            process: launch(lab, (namespace, &file), command)?,
            config: file,
            socket: config.socket.clone(),
            pins: config.pins.clone(),
        };
        agent.wait_until_it_answers()?;
        Ok(agent)
    }

    /// Starts it again after it was stopped or killed, with the same config.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_again(&mut self, lab: &Lab) -> Result<()> {
        eprintln!("--- the first agent said\n{}", self.log());
        let command = lab.command(&self.namespace, binary()?)?;
        self.process = launch(lab, (&self.namespace, &self.config), command)?;
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let pid = u64::from(self.process.pid());
        let mut ended = false;
        let answer = await_until(START * slowness(), "the agent answers", || {
            ended = !self.process.is_running();
            if ended {
                return Ok(());
            }
            let found = self.status()?.pid()?;
            if found != pid {
                bail!("process {found} answers, and not {pid}");
            }
            Ok(())
        });
        if ended {
            bail!("the agent ended: {}", self.log());
        }
        answer.with_context(|| self.log())
    }

    /// What `lb status --json` says now.
    ///
    /// # Errors
    /// When it fails.
    pub fn status(&self) -> Result<Status> {
        let outcome = run(&["status", "--json", "--socket", text(&self.socket)?])?;
        Status::parse(&outcome.expect_success()?)
    }

    /// Waits until a service looks as wanted.
    ///
    /// # Errors
    /// When the deadline passes, with what the last look said.
    pub fn await_service(
        &self,
        deadline: Duration,
        service: &str,
        what: &str,
        look: impl Fn(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        await_until(deadline, what, || look(self.status()?.service(service)?))
    }

    /// Waits until a backend looks as wanted.
    ///
    /// # Errors
    /// When the deadline passes, with what the last look said.
    pub fn await_backend(
        &self,
        deadline: Duration,
        (service, backend): (&str, &str),
        what: &str,
        look: impl Fn(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        await_until(deadline, what, || {
            look(self.status()?.backend(service, backend)?)
        })
    }

    /// Waits until a backend is `health` and its last check said `words`. One that is down is out of
    /// rotation then: the tables follow a moment later.
    ///
    /// # Errors
    /// When that does not come.
    pub fn await_check(
        &self,
        (service, backend): (&str, &str),
        health: &str,
        words: &str,
    ) -> Result<()> {
        let what = format!("{service}/{backend} is {health}: {words}");
        let deadline = Duration::from_secs(30);
        self.await_backend(deadline, (service, backend), &what, |backend| {
            ensure!(backend.text("health")? == health, "{backend:?}");
            ensure!(
                health != "down" || !backend.is("in_rotation")?,
                "{backend:?}"
            );
            ensure!(backend.text("last_check")?.contains(words), "{backend:?}");
            Ok(())
        })
    }

    /// Ends it by force, as a crash would.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Stops it by request, and returns how it ended.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.signal(nix::sys::signal::Signal::SIGTERM)?;
        self.process
            .wait(STOP * slowness())
            .with_context(|| format!("the agent does not stop: {}", self.log()))
    }

    /// Waits until its log names all the parts: some lines come after what they are about can be
    /// seen elsewhere.
    ///
    /// # Errors
    /// When they do not come.
    pub fn await_log(&self, parts: &[&str]) -> Result<()> {
        await_until(Duration::from_secs(10), "the log says so", || {
            let log = self.log();
            ensure!(
                parts.iter().all(|part| log.contains(part)),
                "not {parts:?} in {log}"
            );
            Ok(())
        })
    }

    /// What it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its config file.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// Its admin socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where it pins.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Runs `lb` with the arguments, on its admin socket.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn asked(&self, arguments: &[&str]) -> Result<Outcome> {
        run(&[arguments, &["--socket", text(&self.socket)?]].concat())
    }

    /// Runs `lb detach` on its pins, from outside of the namespaces.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn detach(&self) -> Result<Outcome> {
        run(&["detach", "--pin-path", text(&self.pins)?])
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Tests show this only when they fail.
        eprintln!("--- the agent in {} said\n{}", self.namespace, self.log());
        if let Ok(status) = self.status() {
            eprintln!("--- its last status\n{status:?}");
        }
    }
}

/// How many times slower than usual this machine is, if somebody says so: the verifier alone may
/// need that long on an emulated processor.
fn slowness() -> u32 {
    let said = std::env::var("LB_SLOWNESS").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn launch(lab: &Lab, (namespace, config): (&str, &Path), mut command: Command) -> Result<Process> {
    command.args(["run", "--config"]).arg(config);
    // The title is that of the log.
    let title = if namespace == "lb" {
        "lb".to_owned()
    } else {
        format!("lb-{namespace}")
    };
    lab.spawn(&title, command)
}
