//! The Debian package installed, the service started by a real systemd, and all of it removed.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::Routed;
use lb_tests::scenario::{
    Farm, Load, Mode, Status, await_until, expect_cycle, expect_rotation, has_xdp, names,
    while_loading,
};

use crate::machine::Machine;
use crate::package;

const WEBS: [&str; 3] = ["web1", "web2", "web3"];
const DEADLINE: Duration = Duration::from_secs(15);

/// `CAP_NET_ADMIN`, `CAP_PERFMON` and `CAP_BPF`.
const NEEDED: &str = "000000c000001000";

fn web() -> std::net::SocketAddr {
    std::net::SocketAddr::new(lb_lab::VIP4.into(), 80)
}

fn status(machine: &Machine) -> Result<Status> {
    Status::parse(&machine.ask(&["lb", "status", "--json"])?)
}

fn attached(lab: &Routed) -> Result<bool> {
    has_xdp(lab, "lb", "lc")
}

/// Where the config says nothing else: pins, socket, state file.
fn config(lab: &Routed) -> String {
    let text = Farm::config(lab, Mode::Native)
        .agent("on_exit", "keep")
        .service(Farm::web(3))
        .text();
    let is_own = |line: &&str| {
        let keys = ["pin_path", "socket", "state_file"];
        !keys.iter().any(|key| line.starts_with(key))
    };
    text.lines().filter(is_own).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_life_under_systemd() -> Result<()> {
    let lab = Farm::wired(Mode::Native, 3)?;
    let _servers = Farm::nginx(&lab)?;
    let machine = Machine::boot(&lab, "lb", &package(".deb")?)?;
    install(&machine)?;
    fs::write(machine.path("/etc/lb/lb.toml"), config(&lab))?;
    machine.ask(&["lb", "check", "--config", "/etc/lb/lb.toml"])?;

    // Started when systemctl returns, because the agent told so.
    machine.service("start")?;
    expect_cycle(&names(&lab, web(), 6)?, &WEBS)?;
    confined(&machine)?;
    every_command_works(&machine)?;

    restarts_unnoticed(&machine, &lab)?;

    machine.service("stop")?;
    expect_rotation(&names(&lab, web(), 3)?, &WEBS)?;
    remove(&machine, &lab)
}

fn install(machine: &Machine) -> Result<()> {
    // As on a machine that never had it; the user may be on this one.
    machine.run(&["userdel", "lb"])?;
    let said = machine.ask(&["dpkg", "-i", "/srv/lb.deb"])?;
    ensure!(said.contains("edit /etc/lb/lb.toml"), "{said}");
    machine.ask(&["getent", "passwd", "lb"])?;
    ensure!(machine.ask(&["lb", "--version"])?.starts_with("lb "));
    machine.ask(&["lb", "check", "--config", "/etc/lb/lb.toml"])?;
    // What it brought is what is there.
    let said = machine.run(&["dpkg", "--verify", "lb"])?;
    ensure!(said.stdout.is_empty(), "{said:?}");
    // Nothing runs before it has a config.
    ensure!(machine.property("ActiveState")? == "inactive");

    let unit = "/usr/lib/systemd/system/lb.service";
    let said = machine.run(&["systemd-analyze", "verify", unit])?;
    let about_lb = |text: &str| text.lines().any(|line| line.contains("lb.service"));
    ensure!(
        said.code == Some(0) && !about_lb(&said.stderr),
        "systemd finds fault with the unit: {said:?}"
    );
    // In tenths, of ten: how much a service that was broken into could do.
    let said = machine.run(&[
        "systemd-analyze",
        "security",
        "--offline=true",
        "--threshold=22",
        unit,
    ])?;
    eprintln!("{}", said.stdout.lines().last().unwrap_or_default());
    ensure!(said.code == Some(0), "too exposed: {}", said.stdout);
    Ok(())
}

/// The agent has what it needs, and nothing else.
fn confined(machine: &Machine) -> Result<()> {
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let found = machine.agent_status(set)?;
        ensure!(found == NEEDED, "{set} is {found}");
    }
    for (field, wanted) in [("CapAmb", "0"), ("NoNewPrivs", "1"), ("Seccomp", "2")] {
        let found = machine.agent_status(field)?;
        let found = found.trim_start_matches('0');
        ensure!(
            found == wanted.trim_start_matches('0'),
            "{field} is {found}"
        );
    }
    let ids = machine.agent_status("Uid")?;
    ensure!(
        ids.split_whitespace().all(|id| id != "0"),
        "the agent is root: {ids}"
    );
    Ok(())
}

/// Also those that make the agent load a program.
fn every_command_works(machine: &Machine) -> Result<()> {
    let found = status(machine)?;
    ensure!(found.interfaces()?.len() == 4, "{found:?}");
    machine.ask(&["lb", "flows", "--json"])?;
    let packet = ["--from", "10.10.0.2:40000", "--to", "203.0.113.10:80"];
    machine.ask(&[&["lb", "why", "--json"], packet.as_slice()].concat())?;
    let said = machine.ask(&["lb", "capture", "--seconds", "1", "-w", "/srv/lb.pcapng"])?;
    eprintln!("{said}");
    Ok(())
}

/// By request, by force and by the watchdog, while connections come.
fn restarts_unnoticed(machine: &Machine, lab: &Routed) -> Result<()> {
    let is_another = |former: &str| {
        await_until(DEADLINE, "another agent answers", || {
            let pid = machine.property("MainPID")?;
            ensure!(pid != former && pid != "0", "still {pid}");
            ensure!(machine.property("SubState")? == "running");
            status(machine).map(drop)
        })
    };
    fs::write(
        machine.path("/etc/systemd/system/lb.service.d/watchdog.conf"),
        "[Service]\nWatchdogSec=2s\n",
    )?;
    machine.ask(&["systemctl", "daemon-reload"])?;
    let life = |load: &Load| {
        load.await_more(50)?;
        machine.service("restart")?;
        load.await_more(50)?;
        machine.service("reload")?;
        await_until(DEADLINE, "the reload is told", || {
            ensure!(machine.lb_log().contains("reloaded, by "), "not yet");
            Ok(())
        })?;
        load.await_more(50)?;

        let pid = machine.property("MainPID")?;
        machine.ask(&["kill", "-KILL", &pid])?;
        is_another(&pid)?;
        load.await_more(50)?;
        ensure!(machine.property("NRestarts")? == "1");

        let pid = machine.property("MainPID")?;
        ensure!(machine.property("WatchdogUSec")? == "2s");
        machine.ask(&["kill", "-STOP", &pid])?;
        is_another(&pid)?;
        load.await_more(50)?;
        ensure!(machine.property("NRestarts")? == "2");

        // One that works is left alone by the watchdog.
        let pid = machine.property("MainPID")?;
        std::thread::sleep(Duration::from_secs(5));
        ensure!(machine.property("MainPID")? == pid, "{}", machine.lb_log());
        Ok(())
    };
    let ((), answers) = while_loading(lab, web(), life)?;
    eprintln!("{} requests", answers.len());
    expect_rotation(&answers, &WEBS)?;
    status(machine)?.expect_no_drops()
}

fn remove(machine: &Machine, lab: &Routed) -> Result<()> {
    ensure!(attached(lab)?, "on_exit was not heeded");
    let said = machine.ask(&["dpkg", "--remove", "lb"])?;
    ensure!(said.contains("detached: 4 programs"), "{said}");
    ensure!(!attached(lab)?, "a program is still attached");
    ensure!(
        machine.path("/etc/lb/lb.toml").exists(),
        "the config is gone"
    );
    machine.ask(&["dpkg", "--purge", "lb"])?;
    for path in [
        "/etc/lb",
        "/var/lib/lb",
        "/run/lb",
        "/usr/bin/lb",
        "/usr/share/doc/lb",
    ] {
        ensure!(!machine.path(path).exists(), "{path} is still there");
    }
    Ok(())
}
