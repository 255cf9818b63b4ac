//! A running `lb run` in one of the namespaces.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::lab::Lab;
use crate::process::Process;

use super::certificate::{Authority, YEAR};
use super::{patience, write_command};

/// Where agents offer their API, each on its host's inner address.
pub(super) const PORT: u16 = 9900;

/// An agent; dropping it stops it.
#[derive(Debug)]
pub struct Agent {
    lb: PathBuf,
    namespace: String,
    socket: PathBuf,
    config: PathBuf,
    process: Process,
}

/// What all agents have in their config: where they keep things, and the admin API, by HTTPS as it
/// leaves the host.
pub(super) fn common(
    lab: &Lab,
    authority: &Authority,
    (name, address): (&str, Ipv4Addr),
) -> Result<String> {
    let pair = authority.issue(name, &[name, &format!("IP:{address}")], YEAR)?;
    Ok(format!(
        r#"pin_path = "{pins}"
state_file = "{state}"

[admin]
socket = "{socket}"
listen = "{address}:{PORT}"
tls_certificate = "{certificate}"
tls_key = "{key}"
"#,
        pins = lab.pins().join(name).display(),
        state = lab.folder().join(format!("{name}-state.json")).display(),
        socket = socket(lab, name).display(),
        certificate = pair.certificate.display(),
        key = pair.key.display(),
    ))
}

/// Where an agent's admin socket goes.
fn socket(lab: &Lab, namespace: &str) -> PathBuf {
    lab.folder().join(format!("{namespace}.sock"))
}

impl Agent {
    /// Starts it with a config and waits until it answers.
    pub(super) fn start(lab: &Lab, lb: &Path, namespace: &str, config: &str) -> Result<Self> {
        let file = lab.folder().join(format!("{namespace}.toml"));
        fs::write(&file, config)?;
        let mut agent = Self {
            lb: lb.to_owned(),
            namespace: namespace.to_owned(),
            socket: socket(lab, namespace),
            process: launch(lab, lb, namespace, &file)?,
            config: file,
        };
        // So that `lb` means this agent for whoever looks into the namespace.
        let text = format!(
            "#!/bin/sh\nexec '{}' --socket '{}' \"$@\"\n",
            lb.display(),
            agent.socket.display()
        );
        write_command(lab, namespace, "lb", &text)?;
        agent.await_answer()?;
        Ok(agent)
    }

    /// Starts it again after its end.
    ///
    /// # Errors
    /// When it does not answer; the message has its log.
    pub fn start_again(&mut self, lab: &Lab) -> Result<()> {
        self.process = launch(lab, &self.lb, &self.namespace, &self.config)?;
        self.await_answer()
    }

    /// Ends it by force.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Takes away what it has pinned, once it has ended.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn detach(&self) -> Result<()> {
        let config = self.config.display().to_string();
        self.lb(&["detach", "--config", &config]).map(drop)
    }

    /// Puts another text in place of its config; it reads it when it is told to.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn rewrite(&self, change: impl FnOnce(String) -> String) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        Ok(fs::write(&self.config, change(text))?)
    }

    /// Runs `lb` with these words on its socket, and gives what it wrote.
    ///
    /// # Errors
    /// When it fails, with its sentence.
    pub fn lb(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(&self.lb)
            .arg("--socket")
            .arg(&self.socket)
            .args(words)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} cannot be started", self.lb.display()))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`lb {}` at {}: {}",
            words.join(" "),
            self.namespace,
            error.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same for commands that write JSON.
    ///
    /// # Errors
    /// When it fails or writes something else.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let text = self.lb(words)?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// What it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    fn await_answer(&mut self) -> Result<()> {
        let pid = self.process.pid();
        let mut ended = false;
        let answer = patience::await_until(patience::LONG, "the agent answers", || {
            ended = !self.process.is_running();
            if ended {
                return Ok(());
            }
            let status = self.json(&["status", "--json"])?;
            let found = status.pointer("/agent/pid").and_then(Value::as_u64);
            ensure!(found == Some(pid.into()), "{found:?} answers");
            Ok(())
        });
        if ended {
            bail!("lb at {} ended:\n{}", self.namespace, self.log());
        }
        answer.with_context(|| self.log())
    }
}

fn launch(lab: &Lab, lb: &Path, namespace: &str, config: &Path) -> Result<Process> {
    let mut command = lab.command(namespace, lb)?;
    command.args(["run", "--config"]).arg(config);
    lab.spawn(&format!("lb-{namespace}"), command)
}
