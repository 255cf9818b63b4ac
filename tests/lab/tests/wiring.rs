//! The labs themselves: they carry traffic without any balancer, and leave no trace.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_lab::{Lab, Routed, Segment, get};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Tells the test binary, started anew, to build a lab and wait to be killed.
const HOLD: &str = "LB_LAB_HOLD";

fn expect_answer(lab: &Lab, address: SocketAddr, name: &str) -> Result<()> {
    let answer = lab.within("client", || get(address, "/", TIMEOUT))??;
    ensure!(
        answer.status == 200 && answer.backend.as_deref() == Some(name),
        "{answer:?}"
    );
    ensure!(
        answer.body == format!("{name}\n").into_bytes(),
        "{answer:?}"
    );
    Ok(())
}

fn is_there(prefix: &str) -> bool {
    let named = |dir: &str| {
        fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                name == prefix || name.starts_with(&format!("{prefix}-"))
            })
    };
    ["/run/netns", "/run/lb-lab", "/sys/fs/bpf"]
        .into_iter()
        .any(named)
}

#[test]
fn the_routed_lab_routes_both_families() -> Result<()> {
    let lab = Routed::new(3)?;
    for number in 1..=3 {
        let nginx = lab.start_nginx(number, 8080)?;
        for address in Routed::server_addresses(number) {
            expect_answer(&lab, SocketAddr::new(address, 8080), nginx.name())?;
        }
    }
    ensure!(lab.balancer_interfaces() == ["lc", "lb1", "lb2", "lb3"]);
    lab.namespace("client")?.mac("c0")?;
    ensure!(lab.namespace("client")?.counter("Tcp", "InCsumErrors")? == 0);
    Ok(())
}

#[test]
fn the_segment_is_one() -> Result<()> {
    let lab = Segment::new(2)?;
    for number in 1..=2 {
        let nginx = lab.start_nginx(number, 80)?;
        for address in Segment::server_addresses(number) {
            expect_answer(&lab, SocketAddr::new(address, 80), nginx.name())?;
        }
    }
    // The servers have the VIP but must not say so.
    let table = lab.namespace("client")?.ip("neigh show")?;
    ensure!(!table.contains("203.0.113.10"), "{table}");
    Ok(())
}

#[test]
fn ends_with_the_pass_program_still_carry_traffic() -> Result<()> {
    let lab = Routed::new(1)?;
    lab.receive_native_tx()?;
    ensure!(
        lab.namespace("client")?
            .ip("link show dev c0")?
            .contains("xdp")
    );
    let nginx = lab.start_nginx(1, 8080)?;
    for address in Routed::server_addresses(1) {
        expect_answer(&lab, SocketAddr::new(address, 8080), nginx.name())?;
    }
    let segment = Segment::new(1)?;
    segment.receive_native_tx()?;
    ensure!(
        segment
            .namespace("switch")?
            .ip("link show dev pl")?
            .contains("xdp")
    );
    Ok(())
}

#[test]
fn a_server_stops_and_starts_again() -> Result<()> {
    let lab = Routed::new(1)?;
    let mut nginx = lab.start_nginx(1, 8080)?;
    let address = SocketAddr::new(Routed::server_addresses(1)[0], 8080);
    nginx.stop()?;
    ensure!(
        lab.within("client", || get(address, "/", TIMEOUT))?
            .is_err()
    );
    nginx.start_again(&lab)?;
    expect_answer(&lab, address, "web1")
}

#[test]
fn a_dropped_lab_leaves_no_trace() -> Result<()> {
    let lab = Routed::new(1)?;
    let prefix = lab.prefix().to_owned();
    let mut command = lab.command("web1", "sleep")?;
    command.arg("1000");
    let sleeper = lab.spawn("sleeper", command)?;
    ensure!(is_there(&prefix));
    drop(lab);
    ensure!(!is_there(&prefix));
    drop(sleeper);
    Ok(())
}

#[test]
fn a_killed_owner_leaves_no_trace() -> Result<()> {
    let mut owner = Command::new(env::current_exe()?)
        .args(["--exact", "hold_a_lab", "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::null())
        .spawn()?;
    let prefix = format!("lb-{}-0", owner.id());
    let pid_file = Path::new("/run/lb-lab")
        .join(&prefix)
        .join("nginx-web1/nginx.pid");
    wait_until(|| fs::read_to_string(&pid_file).is_ok_and(|pid| !pid.is_empty()))?;
    let nginx = fs::read_to_string(&pid_file)?;
    owner.kill()?;
    owner.wait()?;
    wait_until(|| !is_there(&prefix))?;
    // It may still wait for its parent to take note of its end, but then it has no command line.
    let command_line = fs::read(Path::new("/proc").join(nginx.trim()).join("cmdline"));
    ensure!(
        command_line.unwrap_or_default().is_empty(),
        "nginx outlived its lab"
    );
    Ok(())
}

/// Not a test of its own: what `a_killed_owner_leaves_no_trace` starts and kills.
#[test]
fn hold_a_lab() -> Result<()> {
    if env::var_os(HOLD).is_none() {
        return Ok(());
    }
    let lab = Routed::new(1)?;
    let _nginx = lab.start_nginx(1, 8080)?;
    thread::sleep(Duration::from_secs(60));
    Ok(())
}

fn wait_until(mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        (Instant::now() < deadline)
            .then_some(())
            .context("it did not happen within 20 s")?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
