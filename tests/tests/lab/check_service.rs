//! Checks with `via = "service"`: they go through the data path, as clients' packets do.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_lab::{Lab, Nginx, NginxConfig, Segment, VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, Farm, Mode, Service, await_until, binary, checksum_errors, expect_cycle,
    names, routed_backends, segment_backends,
};

use crate::{WEBS, web, web6};

in_both_modes!(
    a_missing_vip_is_found_out,
    replies_that_come_back_here,
    through_tunnels,
    nothing_is_left
);

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const HTTP: &str = "kind = \"http\"\npath = \"/healthz\"\nvia = \"service\"";
const TCP: &str = "kind = \"tcp\"\nvia = \"service\"";

/// Waits until a backend is up or down, with these words of its check.
pub(crate) fn says(agent: &Agent, of: (&str, &str), health: &str, words: &str) -> Result<()> {
    let what = format!("{}/{} is {health}: {words}", of.0, of.1);
    agent.await_backend(DEADLINE, of, &what, |backend| {
        ensure!(backend.text("health")? == health, "{backend:?}");
        ensure!(backend.text("last_check")?.contains(words), "{backend:?}");
        Ok(())
    })
}

/// Interfaces, and rules of IPv6, that are there for checks.
pub(crate) fn traces(lab: &Lab) -> Result<Vec<String>> {
    let namespace = lab.namespace("lb")?;
    let seen = namespace.ip("-o link")? + &namespace.ip("-6 rule")?;
    let ours = seen.lines().filter(|line| line.contains("lbcheck"));
    Ok(ours.map(str::to_owned).collect())
}

fn vip_on_lo(lab: &Lab, server: &str, act: &str, vip: IpAddr) -> Result<()> {
    let (length, more) = match vip {
        IpAddr::V4(_) => (32, ""),
        IpAddr::V6(_) if act == "add" => (128, " nodad"),
        IpAddr::V6(_) => (128, ""),
    };
    let line = format!("addr {act} {vip}/{length} dev lo{more}");
    lab.namespace(server)?.ip(&line).map(drop)
}

/// A server without the VIP answers at its own address, and not to clients.
fn a_missing_vip_is_found_out(mode: Mode) -> Result<()> {
    let lab = Segment::new(3)?;
    if mode == Mode::Native {
        lab.receive_native_tx()?;
    }
    // The strictest that distributions set.
    lab.namespace("lb")?
        .sysctl("net.ipv4.conf.all.rp_filter", "1")?;
    let _servers = (1..=3)
        .map(|number| lab.start_nginx(number, 80))
        .collect::<Result<Vec<_>>>()?;
    let dsr = |name: &str, vip: IpAddr, port| {
        Service::tcp(name, vip, port, segment_backends(vip, 3, port)).key("forwarding", "dsr-l2")
    };
    let config = Config::new(&lab, &["l0".to_owned()], mode)
        .service(dsr("web", VIP4.into(), 80).check_lines(HTTP))
        .service(dsr("web6", VIP6.into(), 80).check_lines(HTTP))
        .service(dsr("direct", VIP4.into(), 81).check_port(80));
    let agent = Agent::start(&lab, &config)?;
    for service in ["web", "web6"] {
        for backend in WEBS {
            says(&agent, (service, backend), "up", "through the service")?;
        }
    }
    let interfaces = agent.status()?.interfaces()?;
    ensure!(interfaces.len() == 1, "{interfaces:?}");

    // Checks are nobody's connections, and take nobody's turn.
    await_until(DEADLINE, "there were many checks", || {
        let checks = agent.status()?.verdict("steered_check")?;
        ensure!(checks > 200, "{checks}");
        Ok(())
    })?;
    for (service, vip) in [("web", web()), ("web6", web6())] {
        agent
            .status()?
            .service(service)?
            .expect("packets", &[0, 0, 0])?;
        expect_cycle(&names(&lab, vip, 6)?, &WEBS)?;
        agent
            .status()?
            .service(service)?
            .expect("connections", &[2, 2, 2])?;
    }

    for (service, vip) in [("web", VIP4.into()), ("web6", IpAddr::from(VIP6))] {
        vip_on_lo(&lab, "web1", "del", vip)?;
        says(&agent, (service, "web1"), "down", "timed out")?;
        says(&agent, ("direct", "web1"), "up", "HTTP 200")?;
        says(&agent, (service, "web2"), "up", "through the service")?;
        let endpoint = if vip.is_ipv4() { web() } else { web6() };
        let seen = names(&lab, endpoint, 4)?;
        ensure!(!seen.contains(&WEBS[0].to_owned()), "{seen:?}");
        // It gets no client's packet now, and checks as ever.
        vip_on_lo(&lab, "web1", "add", vip)?;
        says(&agent, (service, "web1"), "up", "through the service")?;
    }

    // Nor does it matter what an operator wants of it.
    agent.asked(&["backend", "set", "web/web2", "--weight", "0"])?;
    agent.asked(&["backend", "set", "web/web3", "--state", "drain"])?;
    for backend in ["web2", "web3"] {
        vip_on_lo(&lab, backend, "del", VIP4.into())?;
        says(&agent, ("web", backend), "down", "timed out")?;
        vip_on_lo(&lab, backend, "add", VIP4.into())?;
        says(&agent, ("web", backend), "up", "through the service")?;
    }
    for namespace in ["lb", "web1", "web2", "web3"] {
        let errors = checksum_errors(&lab, namespace)?;
        ensure!(errors == 0, "{errors} wrong checksums in {namespace}");
    }
    Ok(())
}

/// `nat` and `full-nat`, with VIPs that are the balancer's own addresses and such that are not.
fn replies_that_come_back_here(mode: Mode) -> Result<()> {
    let mut farm = Farm::start(mode, 2, |config| {
        let service = |name: &str, vip: IpAddr, port, check: &str| {
            Service::tcp(name, vip, port, routed_backends(vip, 2, 8080)).check_lines(check)
        };
        config
            .service(service("web", VIP4.into(), 80, HTTP))
            .service(service("web6", VIP6.into(), 80, HTTP))
            .service(service("connect", VIP4.into(), 81, TCP))
            .service(
                service("full", VIP4.into(), 82, HTTP)
                    .key("forwarding", "full-nat")
                    .raw("source_addresses", "[\"203.0.113.77\"]"),
            )
    })?;
    let all = ["web", "web6", "connect", "full"];
    let expect = |agent: &Agent, health: &str, words: &str| {
        for service in all {
            says(agent, (service, "web1"), health, words)?;
        }
        Ok::<_, anyhow::Error>(())
    };
    expect(&farm.agent, "up", "through the service")?;
    farm.servers.remove(0);
    expect(&farm.agent, "down", "refused")?;
    says(&farm.agent, ("web", "web2"), "up", "through the service")?;

    let namespace = farm.lab.namespace("lb")?;
    namespace.ip(&format!("addr del {VIP4}/32 dev lc"))?;
    namespace.ip(&format!("addr del {VIP6}/128 dev lc"))?;
    farm.servers.insert(0, farm.lab.start_nginx(1, 8080)?);
    expect(&farm.agent, "up", "through the service")?;
    farm.servers.remove(0);
    expect(&farm.agent, "down", "refused")?;
    for namespace in ["lb", "web1", "web2"] {
        let errors = checksum_errors(&farm.lab, namespace)?;
        ensure!(errors == 0, "{errors} wrong checksums in {namespace}");
    }
    let status = farm.agent.status()?;
    ensure!(status.verdict("steered_reply")? == 0, "{status:?}");
    Ok(())
}

/// Ports of services by tunnels, and whether VIP and backend differ in family.
const TUNNELS: [(u16, &str, bool); 4] = [
    (80, "dsr-ipip", false),
    (81, "dsr-ipip", true),
    (82, "dsr-gue", false),
    (83, "dsr-gue", true),
];

/// Who stops taking packets out of tunnels goes down.
fn through_tunnels(mode: Mode) -> Result<()> {
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    let lab = Segment::unprepared(1)?;
    if mode == Mode::Native {
        lab.receive_native_tx()?;
    }
    let host = Config::of_app_host(&lab, "web1", mode)
        .app_host("interfaces", &["e1"])
        .app_host("vips", &vips)
        .app_host("decap", &["ipip", "gue"])
        .app_host("allowed_sources", &["172.16.0.0/16", "100::/64"]);
    let mut on_host = Agent::start_in(&lab, "web1", &host)?;
    let ports = TUNNELS.map(|(port, ..)| port);
    let listen = vips.iter().flat_map(|vip| ports.map(|port| (*vip, port)));
    let _nginx = Nginx::start(
        &lab,
        NginxConfig {
            listen: listen.map(Into::into).collect(),
            more: String::new(),
            namespace: "web1".to_owned(),
            name: "web1".to_owned(),
        },
    )?;
    let mut config = Config::new(&lab, &["l0".to_owned()], mode);
    let mut all = Vec::new();
    for (port, forwarding, crosses) in TUNNELS {
        for (index, vip) in vips.into_iter().enumerate() {
            let of = if crosses { vips[1 - index] } else { vip };
            let name = format!("web{port}v{index}");
            config = config.service(
                Service::tcp(&name, vip, port, segment_backends(of, 1, port))
                    .key("forwarding", forwarding)
                    .check_lines(HTTP),
            );
            all.push(name);
        }
    }
    // Where backend and VIP differ in family, the balancer asks from where it reaches the world.
    lab.namespace("lb")?.ip_batch(
        "route add default via 10.30.0.2 dev l0\nroute add default via fd00:30::2 dev l0\n",
    )?;
    let agent = Agent::start(&lab, &config)?;
    for service in &all {
        says(&agent, (service, "web1"), "up", "through the service")?;
    }
    on_host.stop()?;
    for service in &all {
        says(&agent, (service, "web1"), "down", "timed out")?;
    }
    on_host.start_again(&lab)?;
    for service in &all {
        says(&agent, (service, "web1"), "up", "through the service")?;
    }
    Ok(())
}

/// Interfaces and rules go with the agent, with the config that wants them, and with `lb detach`.
fn nothing_is_left(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 2)?;
    let _servers = Farm::nginx(&lab)?;
    let config = |check: &str| {
        let service = |name: &str, vip: IpAddr| {
            let service = Service::tcp(name, vip, 80, routed_backends(vip, 2, 8080));
            service.check(Check::Http).check_lines(check)
        };
        Farm::config(&lab, mode)
            .service(service("web", VIP4.into()))
            .service(service("web6", VIP6.into()))
    };
    let direct = "kind = \"http\"\npath = \"/healthz\"";
    let mut agent = Agent::start(&lab, &config(HTTP))?;
    let expect = |agent: &Agent, words: &str| says(agent, ("web6", "web1"), "up", words);
    expect(&agent, "through the service")?;
    let there = traces(&lab)?;
    ensure!(there.len() == 3, "{there:?}");

    // A config that is refused changes nothing.
    std::fs::write(agent.config_file(), config("via = \"elsewhere\"").text())?;
    ensure!(agent.asked(&["reload"])?.expect_success().is_err());
    ensure!(traces(&lab)? == there);
    std::fs::write(agent.config_file(), config(direct).text())?;
    agent.asked(&["reload"])?.expect_success()?;
    ensure!(traces(&lab)?.is_empty(), "{:?}", traces(&lab)?);
    await_until(DEADLINE, "checks are direct", || {
        let status = agent.status()?;
        let said = status
            .backend("web", "web1")?
            .text("last_check")?
            .to_owned();
        ensure!(!said.contains("through"), "{said}");
        Ok(())
    })?;
    std::fs::write(agent.config_file(), config(HTTP).text())?;
    agent.asked(&["reload"])?.expect_success()?;
    expect(&agent, "through the service")?;

    // A crash leaves them to the next agent, whose checks go on.
    agent.kill()?;
    ensure!(traces(&lab)?.len() == 3);
    agent.start_again(&lab)?;
    expect(&agent, "through the service")?;
    ensure!(traces(&lab)?.len() == 3);
    ensure!(
        !agent.log().contains("attaching anew"),
        "it adopted nothing: {}",
        agent.log()
    );

    // Or to whoever cleans up.
    agent.kill()?;
    let mut detach = lab.command("lb", binary()?)?;
    detach.args(["detach", "--pin-path"]).arg(agent.pins());
    let said = detach.output().context("lb detach")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(said.contains("removed: lbcheck0, lbcheck1"), "{said}");
    ensure!(traces(&lab)?.is_empty(), "{:?}", traces(&lab)?);

    // Those of somebody else are left alone, and named.
    lab.namespace("lb")?
        .ip("link add lbcheck0 type veth peer name lbcheck1")?;
    match Agent::start(&lab, &config(HTTP)) {
        Ok(_) => bail!("it took what was somebody else's"),
        Err(error) => {
            let said = format!("{error:#}");
            ensure!(
                said.contains("lbcheck0 is there and belongs to somebody else"),
                "{said}"
            );
        }
    }
    lab.namespace("lb")?.ip("link del lbcheck0")?;
    agent.start_again(&lab)?;
    expect(&agent, "through the service")?;
    agent.stop()?;
    ensure!(traces(&lab)?.is_empty(), "{:?}", traces(&lab)?);
    Ok(())
}
