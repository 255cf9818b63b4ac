//! `[mysql.failover] automatic = true`: two proxies, one etcd, and a primary that is killed.

use anyhow::{Result, ensure};
use lb_lab::Process;
use lb_tests::database::Family;
use lb_tests::scenario::await_until;

use crate::mysql_topology_rig::{PATIENCE, Rig, one_host};

const ETCD: &str = "http://127.0.0.1:2379";
const AUTOMATIC: &str = "automatic = true\nwait_seconds = 1.0\nendpoints = [\"http://127.0.0.1:2379\"]\nprefix = \
     \"/lb/shop/\"\n";

fn etcd(lab: &lb_lab::Lab) -> Result<Process> {
    let mut command = lab.command("db", "etcd")?;
    command
        .arg("--data-dir")
        .arg(lab.folder().join("etcd"))
        .args(["--listen-client-urls", ETCD])
        .args(["--advertise-client-urls", ETCD])
        .args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
    let etcd = lab.spawn("etcd", command)?;
    await_until(PATIENCE, "etcd answers", || {
        let words = ["--endpoints", ETCD, "endpoint", "health"];
        lab.run("db", "etcdctl", &words).map(drop)
    })?;
    Ok(etcd)
}

fn recorded(lab: &lb_lab::Lab) -> Result<String> {
    let words = [
        "--endpoints",
        ETCD,
        "get",
        "--print-value-only",
        "/lb/shop/primary",
    ];
    Ok(lab.run("db", "etcdctl", &words)?.trim().to_owned())
}

fn await_recorded(lab: &lb_lab::Lab, address: &str) -> Result<()> {
    await_until(PATIENCE, "the record", || {
        let found = recorded(lab)?;
        ensure!(found == address, "{found}");
        Ok(())
    })
}

fn one_of_two_proxies_replaces_a_primary(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let mut etcd = etcd(&lab)?;
    let keys = "primary_wait_seconds = 20.0";
    let mut rig = Rig::start(&lab, family, 3, (keys, AUTOMATIC))?;
    rig.add_proxy((keys, AUTOMATIC))?;
    await_recorded(&lab, "127.0.0.1:3301")?;
    for number in 1..10 {
        rig.write(0, number)?;
    }
    rig.await_number(1, 9)?;
    rig.await_number(2, 9)?;

    // A change that was planned is in the record as well.
    rig.lb(0, &["switchover", "--to", "two"])?
        .expect_success()?;
    await_recorded(&lab, "127.0.0.1:3302")?;
    rig.await_primary(1, "two")?;

    rig.servers[1].kill()?;
    // Both proxies go on, with the same one.
    let server = rig.write(0, 10)?;
    ensure!(server == rig.write(1, 11)?, "two primaries");
    ensure!(server == 1 || server == 3, "{server}");
    // The record was made, changed after the planned change, and by whoever promoted.
    let words = [
        "--endpoints",
        ETCD,
        "get",
        "-w",
        "fields",
        "/lb/shop/primary",
    ];
    let fields = lab.run("db", "etcdctl", &words)?;
    ensure!(fields.contains("\"Version\" : 3"), "{fields}");
    let taking = [&rig.servers[0], &rig.servers[2]]
        .iter()
        .map(|server| server.run("SELECT @@GLOBAL.read_only"))
        .collect::<Result<Vec<_>>>()?;
    let taking = taking.iter().filter(|one| one.trim() == "0").count();
    ensure!(taking == 1, "{taking} servers take writes");
    await_recorded(&lab, &format!("127.0.0.1:330{server}"))?;
    let other = if server == 1 { 2 } else { 0 };
    rig.await_number(other, 11)?;

    // Without etcd nobody is promoted.
    etcd.kill()?;
    rig.servers[usize::from(server) - 1].kill()?;
    for agent in &rig.agents {
        agent.await_log(&["cannot ask etcd at"])?;
    }
    let read_only = rig.servers[other].run("SELECT @@GLOBAL.read_only")?;
    ensure!(read_only.trim() == "1", "it was promoted without a lease");
    Ok(())
}

/// A proxy that does not reach what another may have promoted does nothing.
fn what_another_has_promoted_stays(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let _etcd = etcd(&lab)?;
    let mut rig = Rig::start(&lab, family, 3, ("", AUTOMATIC))?;
    await_recorded(&lab, "127.0.0.1:3301")?;
    rig.servers[1].kill()?;
    let words = [
        "--endpoints",
        ETCD,
        "put",
        "/lb/shop/primary",
        "127.0.0.1:3302",
    ];
    lab.run("db", "etcdctl", &words)?;
    rig.servers[0].kill()?;
    rig.agents[0].await_log(&["by the record in etcd two is the primary"])?;
    let read_only = rig.servers[2].run("SELECT @@GLOBAL.read_only")?;
    ensure!(
        read_only.trim() == "1",
        "two may have been promoted, and three was"
    );
    // It is reached, and takes no writes: nobody has been promoted.
    rig.servers[1].start_again()?;
    await_until(PATIENCE, "another primary", || {
        let primary = rig.primary(0)?;
        ensure!(primary == "two" || primary == "three", "{primary}");
        Ok(())
    })
}

of_both_families!(
    one_of_two_proxies_replaces_a_primary,
    what_another_has_promoted_stays,
);
