//! `[service.discovery]`: backends that come from DNS and from etcd while the agent runs, and stay
//! while those are away.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::{Nginx, Process, Routed, VIP4};
use lb_tests::scenario::{
    Agent, Config, Farm, Mode, Outcome, Service, await_until, expect_rotation, names,
};
use nix::sys::signal::Signal;

use crate::{WEBS, web};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const DNS: &str = "127.0.0.1:5353";
const ETCD: &str = "http://127.0.0.1:2379";

/// Servers, and nobody who knows where they are.
pub(crate) struct Stage {
    pub(crate) lab: Routed,
    _servers: Vec<Nginx>,
}

impl Stage {
    pub(crate) fn set(count: u8) -> Result<Self> {
        let lab = Farm::wired(Mode::Native, count)?;
        lab.namespace("lb")?.ip("link set dev lo up")?;
        Ok(Self {
            _servers: Farm::nginx(&lab)?,
            lab,
        })
    }

    pub(crate) fn config(&self, discovery: &str) -> Config {
        let service = Service::tcp("web", VIP4, 80, Vec::new()).discovery(discovery);
        Farm::config(&self.lab, Mode::Native)
            .agent("on_exit", "keep")
            .service(service)
    }

    pub(crate) fn address(number: u8) -> IpAddr {
        Routed::server_addresses(number)[0]
    }

    /// What dnsmasq says of web.lab.
    fn write_hosts(&self, numbers: &[u8]) -> Result<()> {
        let lines = numbers
            .iter()
            .map(|number| format!("{} web.lab\n", Self::address(*number)));
        Ok(fs::write(
            self.lab.folder().join("hosts"),
            lines.collect::<String>(),
        )?)
    }

    fn start_dns(&self, more: &[&str]) -> Result<Process> {
        let mut command = self.lab.command("lb", "dnsmasq")?;
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--port=5353",
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            "--local-ttl=1",
            "--user=root",
            "--pid-file=",
            "--local=/lab/",
        ]);
        command.arg(format!(
            "--addn-hosts={}",
            self.lab.folder().join("hosts").display()
        ));
        self.lab.spawn("dnsmasq", {
            command.args(more);
            command
        })
    }

    fn start_etcd(&self) -> Result<Process> {
        Etcd::here(self).start()
    }

    fn etcdctl(&self, arguments: &[&str]) -> Result<()> {
        Etcd::here(self).ctl(arguments)
    }

    fn put(&self, name: &str, number: u8, more: &str) -> Result<()> {
        Etcd::here(self).put(name, number, more)
    }

    /// Waits until these and no others serve.
    pub(crate) fn expect(&self, webs: &[&str]) -> Result<()> {
        await_until(PATIENCE, "the backends", || {
            expect_rotation(&names(&self.lab, web(), webs.len() * 2)?, webs)
        })
    }
}

/// The real etcd, somewhere in a lab.
pub(crate) struct Etcd<'a> {
    stage: &'a Stage,
    namespace: &'static str,
    pub(crate) url: String,
    /// What the server is started with, beside the usual.
    pub(crate) server_arguments: Vec<String>,
    /// What etcdctl is called with.
    pub(crate) client_arguments: Vec<String>,
}

impl<'a> Etcd<'a> {
    /// On the balancer's own host.
    pub(crate) fn here(stage: &'a Stage) -> Self {
        Self {
            stage,
            namespace: "lb",
            url: ETCD.to_owned(),
            server_arguments: Vec::new(),
            client_arguments: Vec::new(),
        }
    }

    /// On the host of the fourth server.
    pub(crate) fn apart(stage: &'a Stage) -> Self {
        Self {
            stage,
            namespace: "web4",
            url: format!("http://{}:2379", Stage::address(4)),
            server_arguments: Vec::new(),
            client_arguments: Vec::new(),
        }
    }

    /// Starts it with what it had.
    pub(crate) fn start(&self) -> Result<Process> {
        let lab = &self.stage.lab;
        lab.namespace(self.namespace)?.ip("link set dev lo up")?;
        let mut command = lab.command(self.namespace, "etcd")?;
        command
            .arg("--data-dir")
            .arg(self.data())
            .args(["--listen-client-urls", &self.url])
            .args(["--advertise-client-urls", &self.url])
            .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
            .args(&self.server_arguments);
        let etcd = lab.spawn("etcd", command)?;
        await_until(PATIENCE, "etcd answers", || {
            self.ctl(&["endpoint", "health"])
        })?;
        Ok(etcd)
    }

    /// Where it keeps what it has.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.stage.lab.folder().join("etcd")
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.stage.lab.command(self.namespace, "etcdctl")?;
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.url])
            .args(&self.client_arguments);
        Outcome::of(command.args(arguments))?.expect_success()?;
        Ok(())
    }

    pub(crate) fn put(&self, name: &str, number: u8, more: &str) -> Result<()> {
        let value = format!("{{\"address\": \"{}\"{more}}}", Stage::address(number));
        self.ctl(&["put", &format!("/lb/web/{name}"), &value])
    }
}

#[test]
fn addresses_of_a_name_come_and_go_and_stay_while_nobody_answers() -> Result<()> {
    let stage = Stage::set(3)?;
    stage.write_hosts(&[1, 2])?;
    let mut dns = stage.start_dns(&[])?;
    let config = stage.config(&format!(
        "kind = \"dns\"\nname = \"web.lab\"\nserver = \"{DNS}\"\nport = 8080\n"
    ));
    let mut agent = Agent::start(&stage.lab, &config)?;
    stage.expect(&WEBS[..2])?;

    stage.write_hosts(&[1, 2, 3])?;
    dns.signal(Signal::SIGHUP)?;
    stage.expect(&WEBS)?;
    // A name without addresses is no answer, and neither is a lie.
    fs::write(stage.lab.folder().join("hosts"), "")?;
    dns.signal(Signal::SIGHUP)?;
    await_until(PATIENCE, "it is told", || {
        let log = agent.log();
        ensure!(
            log.contains("the 3 backends that were discovered before stay"),
            "{log}"
        );
        Ok(())
    })?;
    stage.expect(&WEBS)?;
    dns.stop()?;
    // Also over a restart, while nobody answers.
    agent.kill()?;
    agent.start_again(&stage.lab)?;
    stage.expect(&WEBS)?;
    fs::write(
        stage.lab.folder().join("hosts"),
        format!("127.0.0.1 web.lab\n{} web.lab\n", Stage::address(2)),
    )?;
    let _dns = stage.start_dns(&[])?;
    stage.expect(&["web2"])?;
    agent.await_log(&["is a loopback address"])?;
    agent.status()?.expect_no_drops()
}

#[test]
fn servers_of_an_srv_record_have_ports_and_weights() -> Result<()> {
    let stage = Stage::set(3)?;
    let hosts: String = (1..=3)
        .map(|number| format!("{} host{number}.lab\n", Stage::address(number)))
        .collect();
    fs::write(stage.lab.folder().join("hosts"), hosts)?;
    let _dns = stage.start_dns(&[
        "--srv-host=_http._tcp.web.lab,host1.lab,8080,10,2",
        "--srv-host=_http._tcp.web.lab,host2.lab,8080,10,1",
        "--srv-host=_http._tcp.web.lab,host3.lab,8080,20,1",
    ])?;
    let config = stage.config(&format!(
        "kind = \"dns\"\nrecord = \"srv\"\nname = \"_http._tcp.web.lab\"\nserver = \"{DNS}\"\n"
    ));
    let agent = Agent::start(&stage.lab, &config)?;
    agent.await_service(PATIENCE, "web", "the backends", |service| {
        service.expect_in_rotation(2)
    })?;
    let found = names(&stage.lab, web(), 6)?;
    let share = |name: &str| found.iter().filter(|one| *one == name).count();
    ensure!(
        (share("web1"), share("web2"), share("web3")) == (4, 2, 0),
        "{found:?}"
    );
    let third = format!("{}:8080", Stage::address(3));
    let status = agent.status()?;
    ensure!(status.backend("web", &third)?.text("role")? == "backup");
    Ok(())
}

#[test]
fn keys_in_etcd_are_backends_and_stay_while_it_is_away() -> Result<()> {
    let stage = Stage::set(3)?;
    let mut etcd = stage.start_etcd()?;
    stage.put("web1", 1, ", \"port\": 8080")?;
    let config = stage.config(&format!(
        "kind = \"etcd\"\nendpoints = [\"http://127.0.0.1:1\", {ETCD:?}]\nprefix = \"/lb/web/\"\n"
    ));
    let mut agent = Agent::start(&stage.lab, &config)?;
    stage.expect(&["web1"])?;
    stage.put(
        "web2",
        2,
        ", \"port\": 8080, \"weight\": 1, \"role\": \"active\"",
    )?;
    stage.expect(&WEBS[..2])?;
    stage.etcdctl(&["put", "/lb/web/bad", "not JSON"])?;
    await_until(PATIENCE, "it is told", || {
        let log = agent.log();
        ensure!(log.contains("\"/lb/web/bad\" is left out"), "{log}");
        Ok(())
    })?;
    stage.expect(&WEBS[..2])?;
    // What is set at run time is kept for what is discovered, too.
    agent
        .asked(&["backend", "set", "web/web1", "--state", "drain"])?
        .expect_success()?;
    stage.expect(&["web2"])?;

    etcd.stop()?;
    agent.kill()?;
    agent.start_again(&stage.lab)?;
    stage.expect(&["web2"])?;
    agent
        .asked(&["backend", "reset", "*/*"])?
        .expect_success()?;
    stage.expect(&WEBS[..2])?;
    let _etcd = stage.start_etcd()?;
    stage.put("web3", 3, ", \"port\": 8080")?;
    stage.etcdctl(&["del", "/lb/web/web1"])?;
    stage.expect(&WEBS[1..])?;
    agent.status()?.expect_no_drops()
}
