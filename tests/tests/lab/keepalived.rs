//! The example for keepalived: when the active balancer dies, the other one has the addresses within
//! a second, and connections go on there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_lab::{Lab, Pair, Process, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{EchoClient, Mode, await_until, binary};

use crate::sync_failover::{Download, ECHO, Stage, vip};

const EXAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../lb-userspace/docs/examples/keepalived.conf"
);
const DEADLINE: Duration = Duration::from_secs(10);
/// From the death of the active one to the first answer by the other.
const BAR: Duration = Duration::from_secs(1);
const CLIENTS: usize = 1000;
const SIZE: usize = 100 << 20;

in_both_modes!(the_addresses_move_when_the_active_balancer_dies);

/// The example, with this lab's names in it.
fn config(lab: &Lab, number: u8) -> Result<PathBuf> {
    let name = format!("lb{number}");
    let [(front, _), (back, gateway)] = Pair::floating();
    let script = format!(
        "{} status --ready --socket {}",
        binary()?.display(),
        lab.folder().join(format!("{name}.sock")).display()
    );
    let priority = format!("priority {}", 101 - number);
    let mut text = fs::read_to_string(EXAMPLE).with_context(|| EXAMPLE.to_owned())?;
    for (from, to) in [
        ("router_id lb1", format!("router_id {name}").as_str()),
        // The binary of a test lies where others may write.
        ("    enable_script_security\n", ""),
        ("/usr/bin/lb status --ready", &script),
        ("priority 100", &priority),
        ("10.0.0.100/24", &gateway),
        ("203.0.113.10", &VIP4.to_string()),
        ("eth0", front),
        ("eth1", back),
    ] {
        ensure!(text.contains(from), "{from} is not in the example");
        text = text.replace(from, to);
    }
    let file = lab.folder().join(format!("{name}.keepalived.conf"));
    fs::write(&file, text)?;
    Ok(file)
}

fn keepalived(lab: &Lab, number: u8) -> Result<Process> {
    let file = config(lab, number)?;
    let name = format!("lb{number}");
    let path = |end: &str| lab.folder().join(format!("{name}.{end}"));
    let program = ["/usr/sbin/keepalived", "/sbin/keepalived"];
    let program = program.iter().find(|file| Path::new(file).exists());
    let mut command = lab.command(&name, program.context("keepalived is not installed")?)?;
    command
        .args([
            "--dont-fork",
            "--log-console",
            "--log-detail",
            "--vrrp",
            "--use-file",
        ])
        .arg(file)
        .arg("--pid")
        .arg(path("keepalived.pid"))
        .arg("--vrrp_pid")
        .arg(path("vrrp.pid"));
    lab.spawn(&format!("keepalived-{name}"), command)
}

fn has_vip(lab: &Lab, number: u8) -> Result<bool> {
    let namespace = lab.namespace(&format!("lb{number}"))?;
    Ok(namespace
        .ip("-4 addr show dev f0")?
        .contains(&format!("{VIP4}/")))
}

fn the_addresses_move_when_the_active_balancer_dies(mode: Mode) -> Result<()> {
    // Locked down, which neither VRRP nor what balancers tell each other may notice.
    let mut stage = Stage::with(mode, "[firewall]\ndefault = \"deny\"\n\n")?;
    // One after the other: of two that begin at once, whoever is awake first stays active.
    let mut guards = vec![keepalived(&stage.lab, 1)?];
    await_until(DEADLINE, "the first one is active", || {
        ensure!(has_vip(&stage.lab, 1)?, "{}", guards[0].log());
        Ok(())
    })?;
    guards.push(keepalived(&stage.lab, 2)?);
    await_until(DEADLINE, "the second one waits", || {
        let log = guards[1].log();
        ensure!(log.contains("Entering BACKUP STATE"), "{log}");
        Ok(())
    })?;
    let mut clients = (0..CLIENTS)
        .map(|_| {
            let mut client = stage
                .lab
                .within("client", || EchoClient::open(vip(ECHO)))??;
            let name = client.ask("before")?;
            Ok((client, name))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut download = Download::begin(&stage.lab, &stage.webs, SIZE)?;
    download.read_to(SIZE / 3)?;
    stage.await_flows(1, CLIENTS as u64 + 1)?;

    ensure!(
        !has_vip(&stage.lab, 2)?,
        "the second one does not hear of the first: {}",
        guards[1].log()
    );
    // All of it at once, as when a machine loses its power.
    let died = Instant::now();
    let dead = stage.lab.namespace("lb1")?;
    dead.ip_batch("link set dev f0 down\nlink set dev b0 down\n")?;
    stage.agents[0].kill()?;
    guards[0].kill()?;
    let (first, rest) = clients.split_at_mut(1);
    let (client, name) = &mut first[0];
    ensure!(client.ask("after")? == *name, "another one answers");
    let took = died.elapsed();
    let mut kept = 1;
    for (client, name) in rest {
        kept += usize::from(client.ask("after").is_ok_and(|after| after == *name));
    }
    download.finish()?;
    println!("the first answer came after {took:?}; {kept} of {CLIENTS} connections are kept");
    ensure!(took <= BAR, "the first answer came after {took:?}");
    ensure!(kept * 1000 >= CLIENTS * 999, "{kept} of {CLIENTS} are kept");
    ensure!(has_vip(&stage.lab, 2)?, "{}", guards[1].log());
    stage.agents[1].await_log(&["nothing is heard of the balancer"])
}
