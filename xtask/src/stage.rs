//! The lab that `cargo xtask run` and `cargo xtask lab up` show: three web servers, the balancer
//! with lb running, and a client.

mod config;
mod status;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_lab::{Lab, Nginx, Process, Routed};

use crate::{build, console, interrupt};

pub(crate) use config::{SERVERS, SERVICE, vip};
pub(crate) use status::{Backend, Service, Status};

/// How long the agent may take until it answers, and a backend until its health is known.
const PATIENCE: Duration = Duration::from_secs(20);

const SOCKET: &str = "lb.sock";

/// The lab with everything running in it.
#[derive(Debug)]
pub(crate) struct Stage {
    lab: Routed,
    servers: Vec<Nginx>,
    agent: Process,
    lb: PathBuf,
}

impl Stage {
    /// Brings everything up and waits until packets flow to all servers. It ends with this
    /// process, unless it is `kept`.
    pub(crate) fn set(kept: bool) -> Result<Self> {
        let lb = build::release_path();
        ensure!(
            lb.is_file(),
            "{} is not there: `cargo xtask build` makes it",
            lb.display()
        );

        console::heading("The lab");
        let began = Instant::now();
        let lab = Lab::new_well_known(kept)?;
        let result = Self::fill(lab, lb, began);
        if kept && result.is_err() {
            Lab::remove_well_known()?;
        }
        result
    }

    fn fill(lab: Lab, lb: PathBuf, began: Instant) -> Result<Self> {
        let lab = Routed::build(lab, SERVERS)?;
        // So that also what lb itself answers in native mode, resets for example, is seen.
        lab.receive_native_tx()?;
        console::done("network namespaces: client, lb, web1, web2, web3", began);

        let began = Instant::now();
        let servers = (1..=SERVERS)
            .map(|number| lab.start_nginx(number, config::BACKEND_PORT))
            .collect::<Result<Vec<_>>>()?;
        console::done("three nginx servers", began);

        let began = Instant::now();
        write_command(&lab, &lb)?;
        let agent = start_agent(&lab, &lb)?;
        let mut stage = Self {
            lab,
            servers,
            agent,
            lb,
        };
        stage.wait_until_the_agent_answers()?;
        stage.wait_for("all backends up", |service| {
            service
                .backends
                .iter()
                .all(|backend| backend.health == "up" && backend.in_rotation)
        })?;
        let status = stage.status()?;
        console::done(
            format!("lb, attached to {}", status.interfaces.join(", ")),
            began,
        );
        Ok(stage)
    }

    /// Stops everything in order and removes the lab.
    pub(crate) fn clear(mut self) -> Result<()> {
        let began = Instant::now();
        self.agent.stop()?;
        for server in &mut self.servers {
            server.stop()?;
        }
        drop(self);
        console::done("the lab is removed", began);
        Ok(())
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The lab, and server `index` to stop and start.
    pub(crate) fn server(&mut self, index: usize) -> Result<(&Lab, &mut Nginx)> {
        let server = self
            .servers
            .get_mut(index)
            .context("the lab has no such server")?;
        Ok((&self.lab, server))
    }

    /// A command of the lab's `lb`, with its admin socket.
    pub(crate) fn lb(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.lb);
        command
            .arg("--socket")
            .arg(self.lab.folder().join(SOCKET))
            .args(words);
        command
    }

    /// What `lb status --json` says.
    pub(crate) fn status(&self) -> Result<Status> {
        let output = self.lb(&["status", "--json"]).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`lb status --json` failed: {}",
            error.trim()
        );
        Status::parse(&output.stdout)
    }

    /// Waits until the demonstration's service is as it should be.
    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&Service) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self.status()?.service(SERVICE)?) {
            interrupt::check()?;
            if Instant::now() > deadline {
                let seconds = PATIENCE.as_secs();
                bail!(
                    "waited {seconds} s in vain for: {what}\n{}",
                    self.agent.log()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What to type in another terminal.
    pub(crate) fn lines_to_try(&self) -> String {
        let url = format!("http://{}/", config::VIP);
        [
            format!("  cargo xtask lab exec client curl {url}"),
            format!("  cargo xtask lab exec client wrk -t2 -c64 -d10s {url}"),
            "  cargo xtask lab exec lb lb status".to_owned(),
            "  cargo xtask lab exec web1 nginx -v".to_owned(),
        ]
        .join("\n")
    }

    fn wait_until_the_agent_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.status().is_err() {
            interrupt::check()?;
            if !self.agent.is_running() || Instant::now() > deadline {
                bail!("lb did not start:\n{}", self.agent.log());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Where the lab keeps the commands that `lab exec` finds first.
pub(crate) fn commands_folder(lab: &Lab) -> PathBuf {
    lab.folder().join("bin")
}

/// Puts an `lb` into the lab that knows where the lab's admin socket is.
fn write_command(lab: &Lab, lb: &Path) -> Result<()> {
    let folder = commands_folder(lab);
    fs::create_dir_all(&folder)?;
    let file = folder.join("lb");
    let socket = lab.folder().join(SOCKET);
    let text = format!(
        "#!/bin/sh\nexec '{}' --socket '{}' \"$@\"\n",
        lb.display(),
        socket.display()
    );
    fs::write(&file, text)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn start_agent(lab: &Routed, lb: &Path) -> Result<Process> {
    let file = lab.folder().join("lb.toml");
    let socket = lab.folder().join(SOCKET);
    fs::write(&file, config::text(lab, &socket))?;
    let mut command = lab.command("lb", lb)?;
    command.args(["run", "--config"]).arg(&file);
    lab.spawn("lb", command)
}
