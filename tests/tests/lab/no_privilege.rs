//! Started by somebody who is not root, or for an interface that does not exist: a sentence that
//! says what to do, and nothing is left behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::Lab;
use lb_tests::scenario::{Config, Farm, Mode, Outcome, await_until, binary};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const NOBODY: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn missing_root_is_a_sentence() -> Result<()> {
    let lab = Farm::wired(Mode::Generic, 1)?;
    // The build may be in a folder that nobody else may enter, and `/run` without programs.
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("lb");
    fs::copy(binary()?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    let config = Farm::config(&lab, Mode::Generic)
        .service(Farm::web(1))
        .text();
    let file = folder.path().join("lb.toml");
    fs::write(&file, config)?;
    let run = |arguments: &[&str]| {
        // Outside of the lab, whose namespaces nobody else may enter.
        let mut command = Command::new(&copy);
        Outcome::of(command.uid(NOBODY).gid(NOBODY).args(arguments))
    };

    let file = file.to_string_lossy();
    run(&["run", "--config", &file])?.expect_sentence(
        1,
        &["needs root", "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"],
    )?;
    ensure!(!lab.pins().join("lb").exists(), "there are pins");
    // What needs no privilege goes without.
    run(&["check", "--config", &file])?.expect_success()?;
    ensure!(run(&["--version"])?.expect_success()?.starts_with("lb "));
    // Pins that one may not look at are not taken for none.
    let closed = lab.pins().join("closed");
    fs::create_dir(&closed)?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700))?;
    for pins in [closed.clone(), closed.join("lb")] {
        run(&["detach", "--pin-path", &pins.to_string_lossy()])?
            .expect_sentence(1, &["cannot open", "closed", "ermission denied"])?;
    }
    Ok(())
}

/// An agent that only routes MySQL sessions needs no privilege, and the doctor asks for none.
#[test]
fn mysql_alone_needs_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
    let copy = folder.path().join("lb");
    fs::copy(binary()?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    let own = |name: &str| folder.path().join(name).display().to_string();
    let file = own("lb.toml");
    // Nobody is at that address.
    let text = format!(
        "[agent]\nstate_file = {:?}\npin_path = {:?}\n[admin]\nsocket = {:?}\n[mysql]\nlisten = \
         []\nunix_socket = {:?}\n[mysql.monitor]\nuser = \"watcher\"\n[[mysql.server]]\nname = \
         \"db1\"\naddress = \"127.0.0.1:1\"\n",
        own("state.json"),
        own("pins"),
        own("lb.sock"),
        own("mysql.sock"),
    );
    fs::write(&file, text)?;
    let lb = |arguments: &[&str]| {
        let mut command = Command::new(&copy);
        command.uid(NOBODY).gid(NOBODY).args(arguments);
        command
    };
    let doctor = || -> Result<Vec<String>> {
        let outcome = Outcome::of(&mut lb(&["doctor", "--json", "--config", &file]))?;
        let document: serde_json::Value = serde_json::from_str(&outcome.stdout)?;
        let findings = document["findings"].as_array().into_iter().flatten();
        let checks = findings.filter_map(|one| one["check"].as_str());
        Ok(checks.map(str::to_owned).collect())
    };
    let found = doctor()?;
    ensure!(found == ["agent"], "{found:?}");
    let mut agent = Ended(lb(&["run", "--config", &file]).spawn()?);
    let looked_at = await_until(PATIENCE, "the agent has looked at the server", || {
        let found = doctor()?;
        ensure!(found == ["mysql_primary", "mysql_server"], "{found:?}");
        Ok(())
    });
    looked_at?;
    let pid = Pid::from_raw(i32::try_from(agent.0.id())?);
    kill(pid, Signal::SIGTERM)?;
    let ended = agent.0.wait()?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

/// Does not outlive a test that fails.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_unknown_interface_is_a_sentence() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.add("lb")?
        .ip("link add there0 type veth peer name there1")?;
    for mode in [Mode::Native, Mode::Generic] {
        let config = Config::new(&lab, &["eth7".to_owned()], mode).service(Farm::web(1));
        let file = config.write(&lab, "lb.toml")?;
        let mut command = lab.command("lb", binary()?)?;
        let outcome = Outcome::of(command.args(["run", "--config"]).arg(file))?;
        outcome.expect_sentence(1, &["no interface \"eth7\"", "there0", "there1"])?;
        ensure!(!config.pins.exists(), "there are pins");
    }
    Ok(())
}
