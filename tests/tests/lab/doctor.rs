//! `lb doctor`: a healthy lab has no finding, and one that is broken has the one that names what.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_lab::{Lab, Routed, Segment, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, Farm, Mode, Outcome, Service, binary, names, routed_backends,
};
use serde_json::Value;

use crate::web;

in_both_modes!(
    a_healthy_lab_has_no_finding,
    checksums_left_to_the_other_end,
    a_vip_that_is_nowhere,
    a_backend_that_answers_another_way,
    a_backend_without_a_neighbour,
    a_server_that_is_down_on_a_host_that_is_up,
    a_killed_agent
);

const DEADLINE: Duration = Duration::from_secs(20);

/// Runs the doctor in a namespace, and gives what it found as `check subject`.
fn findings(lab: &Lab, namespace: &str, config: &Path) -> Result<BTreeSet<String>> {
    let mut command = lab.command(namespace, binary()?)?;
    command.args(["doctor", "--json", "--config"]).arg(config);
    let outcome = Outcome::of(&mut command)?;
    let document: Value = serde_json::from_str(&outcome.stdout)
        .with_context(|| format!("no document: {outcome:?}"))?;
    let list = document["findings"].as_array().context("no findings")?;
    eprintln!("{}", outcome.stdout);
    let found: BTreeSet<String> = list
        .iter()
        .filter(|finding| finding["severity"] != "note")
        .map(|finding| {
            let word = |key: &str| finding[key].as_str().unwrap_or("?").to_owned();
            format!("{} {}", word("check"), word("subject"))
        })
        .collect();
    ensure!(document["healthy"] == found.is_empty(), "{outcome:?}");
    ensure!(
        outcome.code == Some(i32::from(!found.is_empty())),
        "{outcome:?}"
    );
    Ok(found)
}

fn expect(lab: &Lab, expected: &[&str]) -> Result<()> {
    let found = findings(lab, "lb", &config_file(lab))?;
    let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
    ensure!(found == expected, "not {expected:?}: {found:?}");
    Ok(())
}

fn config_file(lab: &Lab) -> PathBuf {
    lab.folder().join("lb.toml")
}

fn a_healthy_lab_has_no_finding(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    expect(&farm.lab, &[])?;
    names(&farm.lab, web(), 6)?;
    expect(&farm.lab, &[])
}

fn checksums_left_to_the_other_end(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    let ethtool = |state: &str| -> Result<()> {
        let mut command = farm.lab.command("client", "ethtool")?;
        command.args(["-K", "c0", "tx", state]);
        let outcome = Outcome::of(&mut command)?;
        ensure!(outcome.code == Some(0), "{outcome:?}");
        Ok(())
    };
    ethtool("on")?;
    expect(&farm.lab, &["tx_checksum lc"])?;
    ethtool("off")?;
    expect(&farm.lab, &[])
}

fn a_vip_that_is_nowhere(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    let balancer = farm.lab.namespace("lb")?;
    balancer.ip(&format!("addr del {VIP4}/32 dev lc"))?;
    expect(&farm.lab, &["vip web"])?;
    balancer.ip(&format!("addr add {VIP4}/32 dev lc"))?;
    expect(&farm.lab, &[])
}

fn only_web2() -> Service {
    Farm::web(3).without("web1").without("web3")
}

/// Tries to connect to the service, for so long that the request is repeated.
fn knock(lab: &Routed) -> Result<()> {
    let client = lab.namespace("client")?;
    std::thread::scope(|scope| {
        let knocks: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    client.within(|| {
                        TcpStream::connect_timeout(&web(), Duration::from_millis(1500)).is_ok()
                    })
                })
            })
            .collect();
        for knock in knocks {
            let connected = knock.join().expect("a thread that ended")?;
            ensure!(!connected, "the lab is not broken");
        }
        Ok(())
    })
}

fn a_backend_that_answers_another_way(mode: Mode) -> Result<()> {
    let farm = Farm::start(mode, 3, |config| config.service(only_web2()))?;
    // It still answers its checks, which come from the same network.
    farm.lab.namespace("web2")?.ip("route del default")?;
    expect(&farm.lab, &[])?;
    knock(&farm.lab)?;
    expect(&farm.lab, &["return_path web/web2"])
}

fn a_backend_without_a_neighbour(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let _servers = Farm::nginx(&lab)?;
    lab.namespace("web2")?.ip("addr del 10.20.2.2/24 dev e2")?;
    let service = Farm::web(3).check(Check::None);
    let agent = Agent::start(&lab, &Farm::config(&lab, mode).service(service))?;
    agent.await_backend(DEADLINE, ("web", "web2"), "web2 is out", |backend| {
        ensure!(!backend.is("in_rotation")?, "{backend:?}");
        Ok(())
    })?;
    expect(&lab, &["neighbour web/web2"])
}

fn a_server_that_is_down_on_a_host_that_is_up(mode: Mode) -> Result<()> {
    let mut farm = Farm::of_three(mode)?;
    drop(farm.servers.remove(1));
    farm.agent
        .await_backend(DEADLINE, ("web", "web2"), "web2 is down", |backend| {
            ensure!(backend.text("health")? == "down", "{backend:?}");
            Ok(())
        })?;
    expect(&farm.lab, &["check web/web2"])
}

fn a_killed_agent(mode: Mode) -> Result<()> {
    let mut farm = Farm::of_three(mode)?;
    farm.agent.kill()?;
    expect(&farm.lab, &["left_behind agent"])
}

#[test]
fn another_end_without_napi() -> Result<()> {
    let mode = Mode::Native;
    // Without a program at the other ends, which would do as well.
    let lab = Routed::new(2)?;
    let _servers = Farm::nginx(&lab)?;
    let _agent = Agent::start(&lab, &Farm::config(&lab, mode).service(Farm::web(2)))?;
    expect(&lab, &[])?;
    let gro = |state: &str| lab.run("web2", "ethtool", &["-K", "e2", "gro", state]);
    gro("off")?;
    expect(&lab, &["veth_napi lb2"])?;
    gro("on")?;
    expect(&lab, &[])
}

#[test]
fn strict_filtering_of_answers_that_come_in_another_way() -> Result<()> {
    let lab = Farm::wired(Mode::Generic, 2)?;
    let _servers = Farm::nginx(&lab)?;
    // A second cable, by which web2 answers the balancer.
    lab.join(("lb", "lbx"), ("web2", "ex"))?;
    let balancer = lab.namespace("lb")?;
    balancer.ip("addr add 10.30.0.1/24 dev lbx")?;
    let server = lab.namespace("web2")?;
    server.ip("addr add 10.30.0.2/24 dev ex")?;
    server.ip("route add 10.20.2.1/32 via 10.30.0.1 src 10.20.2.2")?;
    let config = Farm::config(&lab, Mode::Generic).service(Farm::web(2));
    let agent = Agent::start(&lab, &config)?;
    let is = |health: &str| {
        agent.await_backend(DEADLINE, ("web", "web2"), health, |backend| {
            ensure!(backend.text("health")? == health, "{backend:?}");
            Ok(())
        })
    };
    is("up")?;
    expect(&lab, &[])?;
    balancer.sysctl("net.ipv4.conf.lbx.rp_filter", "1")?;
    is("down")?;
    expect(&lab, &["down web/web2", "rp_filter "])?;
    balancer.sysctl("net.ipv4.conf.lbx.rp_filter", "2")?;
    is("up")?;
    expect(&lab, &[])
}

#[test]
fn another_s_program() -> Result<()> {
    let lab = Farm::wired(Mode::Native, 1)?;
    lab.attach_pass("lb", "lc")?;
    Farm::config(&lab, Mode::Native)
        .service(Farm::web(1))
        .write(&lab, "lb.toml")?;
    let _servers = Farm::nginx(&lab)?;
    expect(&lab, &["agent agent", "xdp_program lc"])
}

#[test]
fn a_tunnel_without_room() -> Result<()> {
    let lab = Farm::wired(Mode::Native, 1)?;
    let tunnelled = |keys: &[(&'static str, &str)]| {
        let service = Service::tcp("web", VIP4, 8080, routed_backends(VIP4, 1, 8080));
        keys.iter()
            .fold(service, |service, (key, word)| service.key(key, word))
    };
    for (keys, expected) in [
        (
            &[("forwarding", "dsr-ipip")][..],
            &["agent agent", "tunnel_mtu web"][..],
        ),
        (
            &[("forwarding", "dsr-ipip"), ("mss_clamp", "auto")],
            &["agent agent"],
        ),
    ] {
        Farm::config(&lab, Mode::Native)
            .service(tunnelled(keys))
            .write(&lab, "lb.toml")?;
        expect(&lab, expected)?;
    }
    Ok(())
}

#[test]
fn strict_filtering_and_loud_arp_on_an_app_host() -> Result<()> {
    let lab = Segment::unprepared(1)?;
    let config = Config::of_app_host(&lab, "web1", Mode::Generic)
        .app_host("interfaces", &["e1"])
        .app_host("vips", &[VIP4])
        .app_host("decap", &["ipip"]);
    let _agent = Agent::start_in(&lab, "web1", &config)?;
    let file = lab.folder().join("web1.toml");
    let found = findings(&lab, "web1", &file)?;
    ensure!(found.is_empty(), "{found:?}");
    let host = lab.namespace("web1")?;
    host.sysctl("net.ipv4.conf.e1.rp_filter", "1")?;
    host.sysctl("net.ipv4.conf.all.rp_filter", "1")?;
    host.sysctl("net.ipv4.conf.e1.arp_ignore", "0")?;
    host.sysctl("net.ipv4.conf.all.arp_ignore", "0")?;
    let found = findings(&lab, "web1", &file)?;
    let expected = ["arp e1", "rp_filter e1"].map(str::to_owned);
    ensure!(found == BTreeSet::from(expected), "{found:?}");
    Ok(())
}
