//! Two balancers behind a router that have their backends from one etcd: what is put there holds for
//! both, they agree whom a hash names, and the death of etcd changes nothing.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lb_lab::{Fabric, Lab, Nginx, Process, VIP4, get};
use lb_tests::scenario::{Agent, Check, Config, Mode, Outcome, Service, await_until};

use crate::ecmp::{DEADLINE, ROUTER, await_ways, bird, example};

const WEB: u16 = 80;
const SERVERS: u8 = 3;

fn etcd_url() -> String {
    format!("http://{}:2379", Fabric::router_address())
}

fn start_etcd(lab: &Lab) -> Result<Process> {
    lab.namespace("router")?.ip("link set dev lo up")?;
    let mut command = lab.command("router", "etcd")?;
    command
        .arg("--data-dir")
        .arg(lab.folder().join("etcd"))
        .args(["--listen-client-urls", &etcd_url()])
        .args(["--advertise-client-urls", &etcd_url()])
        .args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
    let etcd = lab.spawn("etcd", command)?;
    await_until(DEADLINE, "etcd answers", || {
        etcdctl(lab, &["endpoint", "health"])
    })?;
    Ok(etcd)
}

fn etcdctl(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let mut command = lab.command("router", "etcdctl")?;
    command
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &etcd_url()])
        .args(arguments);
    Outcome::of(&mut command)?.expect_success()?;
    Ok(())
}

fn put(lab: &Lab, number: u8) -> Result<()> {
    let [v4, _] = Fabric::server_addresses(number);
    let value = format!("{{\"address\": \"{v4}\"}}");
    etcdctl(lab, &["put", &format!("/lb/web/web{number}"), &value])
}

fn config(lab: &Fabric, number: u8) -> Config {
    let name = format!("lb{number}");
    let state = lab.folder().join(format!("{name}.json"));
    let interfaces = ["f0".to_owned(), "b0".to_owned()];
    let discovery = format!(
        "kind = \"etcd\"\nendpoints = [{:?}]\nprefix = \"/lb/web/\"\n",
        etcd_url()
    );
    let web = Service::tcp("web", VIP4, WEB, Vec::new())
        .discovery(discovery)
        .check(Check::Tcp)
        .key("scheduler", "maglev")
        .key("forwarding", "dsr-l2")
        .key("announce", "lo");
    let mut config = Config::new(lab as &Lab, &interfaces, Mode::Native)
        .agent("state_file", &state.to_string_lossy())
        .service(web);
    config.pins = lab.pins().join(&name);
    config.socket = lab.folder().join(format!("{name}.sock"));
    config
}

fn await_rotation(agents: &[Agent], count: usize) -> Result<()> {
    agents.iter().try_for_each(|agent| {
        agent.await_service(DEADLINE, "web", "what etcd has", |service| {
            service.expect_in_rotation(count)
        })
    })
}

/// Who answers, on so many new connections.
fn answers(lab: &Fabric, count: usize) -> Result<Vec<String>> {
    let address = SocketAddr::new(VIP4.into(), WEB);
    lab.within("client", || {
        (0..count)
            .map(|_| {
                let answer = get(address, "/", DEADLINE)?;
                ensure!(answer.status == 200, "HTTP {}", answer.status);
                Ok(answer.backend.unwrap_or_default())
            })
            .collect()
    })?
}

#[test]
fn balancers_share_their_backends_by_etcd() -> Result<()> {
    const REQUESTS: usize = 60;
    let lab = Fabric::new(2, SERVERS)?;
    lab.receive_native()?;
    let webs = (1..=SERVERS).map(|number| lab.start_nginx(number, WEB));
    let _webs: Vec<Nginx> = webs.collect::<Result<_>>()?;
    let mut etcd = start_etcd(&lab)?;
    put(&lab, 1)?;
    put(&lab, 2)?;
    let agents = [1, 2].map(|number| {
        let config = config(&lab, number);
        Agent::start_in(&lab, &format!("lb{number}"), &config)
    });
    let agents = agents.into_iter().collect::<Result<Vec<_>>>()?;
    await_rotation(&agents, 2)?;
    let birds = vec![
        bird(&lab, "router", ROUTER)?,
        bird(&lab, "lb1", &example(1)?)?,
        bird(&lab, "lb2", &example(2)?)?,
    ];
    await_ways(&lab, &birds, IpAddr::from(VIP4), &[1, 2])?;
    let seen = answers(&lab, REQUESTS)?;
    ensure!(!seen.iter().any(|name| name == "web3"), "{seen:?}");

    put(&lab, 3)?;
    await_rotation(&agents, 3)?;
    let seen = answers(&lab, REQUESTS)?;
    for web in ["web1", "web2", "web3"] {
        ensure!(seen.iter().any(|name| name == web), "not {web}: {seen:?}");
    }
    etcdctl(&lab, &["del", "/lb/web/web1"])?;
    await_rotation(&agents, 2)?;
    let seen = answers(&lab, REQUESTS)?;
    ensure!(!seen.iter().any(|name| name == "web1"), "{seen:?}");

    etcd.kill()?;
    answers(&lab, REQUESTS)?;
    for agent in &agents {
        let status = agent.status()?;
        let web = status.service("web")?;
        web.expect_in_rotation(2)?;
        // The router has given each of them a share.
        let connections = web.number("connections")?;
        ensure!(connections > 20, "{connections} connections");
    }
    Ok(())
}
