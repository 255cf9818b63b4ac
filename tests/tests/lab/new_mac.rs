//! A backend gets another MAC while everything runs. Neighbours are resolved for real in all
//! scenarios: no lab has a static entry.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Farm, Mode, Session, await_until, expect_rotation, names};

use crate::{WEBS, web};

const MAC: &str = "02:00:00:00:07:07";

in_both_modes!(
    a_backend_changes_its_mac,
    the_client_changes_its_mac,
    the_balancer_changes_its_macs
);

fn a_backend_changes_its_mac(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    let entries = farm.lab.namespace("lb")?.ip("neigh show")?;
    ensure!(
        !entries.contains("PERMANENT"),
        "the lab has static neighbours: {entries}"
    );
    expect_rotation(&names(&farm.lab, web(), 6)?, &WEBS)?;

    farm.lab
        .namespace("web2")?
        .ip(&format!("link set dev e2 address {MAC}"))?;
    let began = Instant::now();
    let is_known = |backend: lb_tests::scenario::Entry<'_>| {
        let hop = backend.text("next_hop")?;
        ensure!(
            hop.contains(MAC) && backend.is("in_rotation")?,
            "{backend:?}"
        );
        Ok(())
    };
    let deadline = Duration::from_secs(10);
    farm.agent
        .await_backend(deadline, ("web", "web2"), "the new MAC is known", is_known)?;
    eprintln!(
        "the new MAC was known after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    await_until(deadline, "all three answer again", || {
        expect_rotation(&names(&farm.lab, web(), 9)?, &WEBS)
    })
}

fn the_client_changes_its_mac(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    let mut session = Session::open(&farm.lab, web())?;
    ensure!(session.name()? == "web1");
    let client = farm.lab.namespace("client")?;
    client.ip(&format!("link set dev c0 address {MAC}"))?;
    // Its next packet tells where replies go.
    ensure!(session.name()? == "web1");
    expect_rotation(&names(&farm.lab, web(), 6)?, &WEBS)
}

fn the_balancer_changes_its_macs(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    let mut session = Session::open(&farm.lab, web())?;
    ensure!(session.name()? == "web1");
    for (number, interface) in farm.lab.balancer_interfaces().iter().enumerate() {
        let address = format!("02:00:00:00:08:{number:02x}");
        farm.lab
            .namespace("lb")?
            .ip(&format!("link set dev {interface} address {address}"))?;
    }
    // The others do not hear of it by themselves so soon.
    for (name, interface) in [
        ("client", "c0"),
        ("web1", "e1"),
        ("web2", "e2"),
        ("web3", "e3"),
    ] {
        farm.lab
            .namespace(name)?
            .ip(&format!("neigh flush dev {interface}"))?;
    }
    await_until(Duration::from_secs(10), "all three answer again", || {
        expect_rotation(&names(&farm.lab, web(), 9)?, &WEBS)
    })?;
    ensure!(session.name()? == "web1", "the connection was cut");
    let status = farm.agent.status()?;
    ensure!(status.verdict("pass_other_host")? <= 3, "{status:?}");
    Ok(())
}
