//! A backend that cannot be reached on the wire leaves the rotation, without any health check, and
//! the status says why.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::Routed;
use lb_tests::in_both_modes;
use lb_tests::scenario::{Agent, Check, Farm, Mode, expect_cycle, expect_rotation, names};

use crate::{WEBS, web};

in_both_modes!(
    nobody_at_the_address,
    the_cable_is_pulled,
    the_address_goes_away
);

const DEADLINE: Duration = Duration::from_secs(20);

fn stage(lab: &Routed, mode: Mode) -> Result<Agent> {
    // Nothing but the next hop decides.
    let service = Farm::web(3).check(Check::None);
    Agent::start(lab, &Farm::config(lab, mode).service(service))
}

fn await_reason(agent: &Agent, words: &'static [&'static str]) -> Result<()> {
    agent.await_backend(
        DEADLINE,
        ("web", "web2"),
        "web2 is out, with a reason",
        |backend| {
            let reason = backend.text("next_hop")?;
            ensure!(!backend.is("in_rotation")?, "{backend:?}");
            ensure!(
                words.iter().all(|word| reason.contains(word)),
                "not {words:?}: {backend:?}"
            );
            Ok(())
        },
    )
}

fn await_return(agent: &Agent) -> Result<()> {
    agent.await_backend(
        DEADLINE,
        ("web", "web2"),
        "web2 is in rotation again",
        |backend| {
            ensure!(backend.is("in_rotation")?, "{backend:?}");
            Ok(())
        },
    )
}

fn nobody_at_the_address(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let _servers = Farm::nginx(&lab)?;
    let web2 = lab.namespace("web2")?;
    web2.ip("addr del 10.20.2.2/24 dev e2")?;
    let agent = stage(&lab, mode)?;
    await_reason(&agent, &["10.20.2.2 does not answer on lb2 (ARP)"])?;
    expect_rotation(&names(&lab, web(), 10)?, &["web1", "web3"])?;
    agent.await_log(&["10.20.2.2"])?;
    // The default route went with the address.
    web2.ip_batch("addr add 10.20.2.2/24 dev e2\nroute add default via 10.20.2.1\n")?;
    await_return(&agent)?;
    expect_rotation(&names(&lab, web(), 9)?, &WEBS)
}

fn the_cable_is_pulled(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let _servers = Farm::nginx(&lab)?;
    let agent = stage(&lab, mode)?;
    expect_cycle(&names(&lab, web(), 3)?, &WEBS)?;
    lab.namespace("web2")?.ip("link set dev e2 down")?;
    await_reason(&agent, &["lb2", "carrier"])?;
    expect_rotation(&names(&lab, web(), 10)?, &["web1", "web3"])?;
    // The default route went with the link.
    lab.namespace("web2")?
        .ip_batch("link set dev e2 up\nroute replace default via 10.20.2.1\n")?;
    await_return(&agent)?;
    expect_rotation(&names(&lab, web(), 9)?, &WEBS)
}

fn the_address_goes_away(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let _servers = Farm::nginx(&lab)?;
    // As the kernel does it, but sooner.
    let balancer = lab.namespace("lb")?;
    balancer.sysctl("net.ipv4.neigh.lb2.interval_probe_time_ms", "500")?;
    balancer.sysctl("net.ipv4.neigh.lb2.retrans_time_ms", "200")?;
    balancer.sysctl("net.ipv4.neigh.lb2.base_reachable_time_ms", "1000")?;
    balancer.sysctl("net.ipv4.neigh.lb2.delay_first_probe_time", "1")?;
    let agent = stage(&lab, mode)?;
    expect_cycle(&names(&lab, web(), 3)?, &WEBS)?;
    lab.namespace("web2")?.ip("addr del 10.20.2.2/24 dev e2")?;
    await_reason(&agent, &["10.20.2.2 does not answer"])?;
    expect_rotation(&names(&lab, web(), 10)?, &["web1", "web3"])
}
