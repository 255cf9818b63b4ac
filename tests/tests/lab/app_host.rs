//! App hosts: an agent in each backend's namespace makes it ready for direct return and takes
//! everything back.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_lab::{Nginx, NginxConfig, Segment, VIP4, VIP6, get};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, Mode, Outcome, PATIENCE, Server, Service, await_until, binary,
    checksum_errors, expect_cycle, has_xdp, names, run, segment_backends, upload,
};

use crate::{WEBS, web};

in_both_modes!(
    every_way_of_direct_return,
    a_clean_stop_undoes_everything,
    detach_undoes_what_a_killed_agent_did,
    a_restart_takes_over,
    uploads_through_tunnels,
    beside_steering,
    an_interface_goes_and_comes_back,
    an_interface_comes_back_while_another_is_away,
    a_vip_that_somebody_took_is_put_back,
    a_source_that_is_not_allowed_is_refused
);

/// Port and forwarding of the services, and whether VIP and backend differ in family.
const SERVICES: [(u16, &str, bool); 5] = [
    (80, "dsr-ipip", false),
    (81, "dsr-ipip", true),
    (82, "dsr-gue", false),
    (83, "dsr-gue", true),
    (84, "dsr-l2", false),
];

/// Where the balancer's tunnels come from by default.
const TUNNEL_SOURCES: [&str; 2] = ["172.16.0.0/16", "100::/64"];

fn vips() -> [IpAddr; 2] {
    [VIP4.into(), VIP6.into()]
}

fn app_host(lab: &Segment, number: u8, mode: Mode) -> Config {
    Config::of_app_host(lab, &format!("web{number}"), mode)
        .app_host("interfaces", &[format!("e{number}")])
        .app_host("vips", &vips())
        .app_host("decap", &["ipip", "gue"])
        .app_host("allowed_sources", &TUNNEL_SOURCES)
}

fn start(lab: &Segment, number: u8, config: &Config) -> Result<Agent> {
    Agent::start_in(lab, &format!("web{number}"), config)
}

/// nginx on all ports of a server's addresses and of the VIPs, which are on `lo` already.
fn nginx(lab: &Segment, number: u8) -> Result<Nginx> {
    let name = format!("web{number}");
    let [v4, v6] = Segment::server_addresses(number);
    let addresses = [v4, v6, VIP4.into(), VIP6.into()];
    let listen = SERVICES
        .iter()
        .flat_map(|(port, ..)| addresses.map(|address| SocketAddr::new(address, *port)));
    let config = NginxConfig {
        listen: listen.collect(),
        more: String::new(),
        namespace: name.clone(),
        name,
    };
    Nginx::start(lab, config)
}

fn balancer(lab: &Segment, mode: Mode, servers: u8) -> Config {
    let mut config = Config::new(lab, &["l0".to_owned()], mode);
    for (port, forwarding, crosses) in SERVICES {
        for vip in vips() {
            let other = if vip.is_ipv4() { vips()[1] } else { vips()[0] };
            let backends = segment_backends(if crosses { other } else { vip }, servers, port);
            let name = name(port, vip);
            config = config
                .service(Service::tcp(&name, vip, port, backends).key("forwarding", forwarding));
        }
    }
    config
}

fn name(port: u16, vip: IpAddr) -> String {
    format!("web{port}v{}", if vip.is_ipv4() { 4 } else { 6 })
}

fn lab(mode: Mode, servers: u8) -> Result<Segment> {
    let lab = Segment::unprepared(servers)?;
    if mode == Mode::Native {
        lab.receive_native_tx()?;
    }
    Ok(lab)
}

/// What an agent changes in a server's namespace, in words.
fn host(lab: &Segment, number: u8) -> Result<String> {
    let namespace = lab.namespace(&format!("web{number}"))?;
    let mut said = namespace.ip("-o addr show dev lo")?;
    let read = || -> std::io::Result<String> {
        let mut values = String::new();
        for scope in ["all".to_owned(), format!("e{number}")] {
            for key in ["arp_ignore", "arp_announce", "rp_filter"] {
                let value = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{scope}/{key}"))?;
                values += &format!("{scope}/{key}={}", value.trim());
                values.push(' ');
            }
        }
        Ok(values)
    };
    said += &namespace.within(read)??;
    if has_xdp(lab, &format!("web{number}"), &format!("e{number}"))? {
        said += "xdp";
    }
    Ok(said)
}

fn expect_as_before(lab: &Segment, before: &str, agent: &Agent) -> Result<()> {
    let after = host(lab, 1)?;
    ensure!(after == before, "before\n{before}\nafter\n{after}");
    ensure!(!agent.pins().exists(), "pins are left");
    ensure!(notes(agent.pins())?.is_empty(), "a note is left");
    Ok(())
}

/// Notes about that pin path.
fn notes(pins: &Path) -> Result<Vec<PathBuf>> {
    let lab = pins.parent().and_then(Path::file_name).unwrap_or_default();
    let lab: String = lab
        .to_string_lossy()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let mut found = Vec::new();
    for entry in fs::read_dir("/run/lb").into_iter().flatten() {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let plain: String = name.replace("%2d", "");
        if plain.starts_with("app-host") && plain.contains(&lab) {
            found.push(path);
        }
    }
    Ok(found)
}

fn every_way_of_direct_return(mode: Mode) -> Result<()> {
    let lab = lab(mode, 3)?;
    let agents = (1..=3)
        .map(|number| start(&lab, number, &app_host(&lab, number, mode)))
        .collect::<Result<Vec<_>>>()?;
    let _servers = (1..=3)
        .map(|number| nginx(&lab, number))
        .collect::<Result<Vec<_>>>()?;
    let balancer = Agent::start(&lab, &balancer(&lab, mode, 3))?;
    for (port, forwarding, _) in SERVICES {
        for (vip, client) in vips().into_iter().zip(Segment::client_addresses()) {
            let address = SocketAddr::new(vip, port);
            expect_cycle(&names(&lab, address, 9)?, &WEBS)?;
            let answer = lab.within("client", || get(address, "/client", PATIENCE))??;
            let seen = String::from_utf8_lossy(&answer.body).trim().to_owned();
            ensure!(seen == client.to_string(), "the server sees {seen}");
            let status = balancer.status()?;
            let service = status.service(&name(port, vip))?;
            ensure!(service.text("forwarding")? == forwarding, "{status:?}");
            service.expect("connections", &[4, 3, 3])?;
        }
    }
    balancer.status()?.expect_no_drops()?;
    for (number, agent) in (1..).zip(&agents) {
        let status = agent.status()?;
        let app_host = status.app_host()?;
        let interfaces = app_host.interfaces()?;
        let expected = format!("e{number} {}", mode.word());
        ensure!(interfaces == [expected], "{status:?}");
        let on_lo = app_host.vips_on_lo()?;
        ensure!(on_lo == vips().map(|vip| vip.to_string()), "{status:?}");
        // A connection is four packets from the client at least.
        let decapsulated = app_host.verdict("decapsulated")?;
        ensure!(decapsulated >= 8 * 3 * 4, "{status:?}");
        ensure!(status.verdicts()? == 0 && status.interfaces()?.is_empty());
        let page = run(&["status", "--socket", &agent.socket().to_string_lossy()])?;
        let page = page.expect_success()?;
        for part in ["app host:", "203.0.113.10", "yes", "decapsulated"] {
            ensure!(page.contains(part), "no {part:?} in\n{page}");
        }
        let errors = checksum_errors(&lab, &format!("web{number}"))?;
        ensure!(errors == 0, "{errors} wrong checksums in web{number}");
    }
    Ok(())
}

fn a_clean_stop_undoes_everything(mode: Mode) -> Result<()> {
    let lab = lab(mode, 1)?;
    // This one was there before and stays.
    let web1 = lab.namespace("web1")?;
    web1.ip(&format!("addr add {VIP6}/128 dev lo nodad"))?;
    let before = host(&lab, 1)?;
    let mut agent = start(&lab, 1, &app_host(&lab, 1, mode))?;
    let during = host(&lab, 1)?;
    for part in [
        "203.0.113.10/32 scope host",
        "all/arp_ignore=1",
        "e1/arp_ignore=1",
        "all/arp_announce=2",
        "e1/arp_announce=2",
        "all/rp_filter=1",
        "e1/rp_filter=2",
        "xdp",
    ] {
        ensure!(during.contains(part), "no {part} in\n{during}");
    }
    ensure!(notes(agent.pins())?.len() == 1, "there is no note");
    let status = agent.stop()?;
    ensure!(status.success(), "the agent ended with {status}");
    ensure!(!agent.socket().exists(), "its socket is still there");
    expect_as_before(&lab, &before, &agent)
}

fn detach_undoes_what_a_killed_agent_did(mode: Mode) -> Result<()> {
    let lab = lab(mode, 1)?;
    let before = host(&lab, 1)?;
    let mut agent = start(&lab, 1, &app_host(&lab, 1, mode))?;
    let during = host(&lab, 1)?;
    agent.kill()?;
    ensure!(host(&lab, 1)? == during, "something went with the agent");
    let config = agent.config_file().to_string_lossy().into_owned();
    // From outside of the namespace, which the note names.
    let said = run(&["detach", "--config", &config])?.expect_success()?;
    ensure!(said.contains("detached: 1 program (e1)"), "{said}");
    let undone = "taken from lo: 2 VIPs; restored: 5 sysctls";
    ensure!(said.contains(undone), "{said}");
    expect_as_before(&lab, &before, &agent)?;
    let said = run(&["detach", "--config", &config])?.expect_success()?;
    ensure!(said.contains("nothing to detach"), "{said}");
    Ok(())
}

fn a_restart_takes_over(mode: Mode) -> Result<()> {
    let lab = lab(mode, 1)?;
    let before = host(&lab, 1)?;
    let mut agent = start(&lab, 1, &app_host(&lab, 1, mode))?;
    let _server = nginx(&lab, 1)?;
    let balancer = Agent::start(&lab, &balancer(&lab, mode, 1))?;
    expect_cycle(&names(&lab, web(), 3)?, &WEBS[..1])?;
    let decapsulated = agent.status()?.app_host()?.verdict("decapsulated")?;
    agent.kill()?;
    // Without an agent everything goes on.
    expect_cycle(&names(&lab, web(), 3)?, &WEBS[..1])?;
    agent.start_again(&lab)?;
    agent.await_log(&["took over decapsulation on e1"])?;
    expect_cycle(&names(&lab, web(), 3)?, &WEBS[..1])?;
    let after = agent.status()?.app_host()?.verdict("decapsulated")?;
    ensure!(
        after >= decapsulated + 6 * 4,
        "{decapsulated}, then {after}"
    );
    drop(balancer);
    agent.stop()?;
    expect_as_before(&lab, &before, &agent)
}

fn a_source_that_is_not_allowed_is_refused(mode: Mode) -> Result<()> {
    let lab = lab(mode, 1)?;
    let config = app_host(&lab, 1, mode).app_host("allowed_sources", &["192.0.2.0/24"]);
    let agent = start(&lab, 1, &config)?;
    let _server = nginx(&lab, 1)?;
    let _balancer = Agent::start(&lab, &balancer(&lab, mode, 1))?;
    let refused = lab.within("client", || get(web(), "/", Duration::from_millis(300)))?;
    ensure!(refused.is_err(), "it was answered: {refused:?}");
    let status = agent.status()?;
    ensure!(
        status.app_host()?.verdict("drop_source_not_allowed")? > 0,
        "{status:?}"
    );
    ensure!(status.app_host()?.verdict("decapsulated")? == 0);
    // Direct return on the same segment needs no tunnel.
    let direct = SocketAddr::new(VIP4.into(), 84);
    expect_cycle(&names(&lab, direct, 3)?, &WEBS[..1])
}

fn uploads_through_tunnels(mode: Mode) -> Result<()> {
    const FIRST: u16 = 90;
    let lab = lab(mode, 1)?;
    let agent = start(&lab, 1, &app_host(&lab, 1, mode))?;
    let mut config = Config::new(&lab, &["l0".to_owned()], mode);
    let mut addresses = Vec::new();
    for (port, (_, forwarding, crosses)) in (FIRST..).zip(SERVICES) {
        for vip in vips() {
            let other = if vip.is_ipv4() { vips()[1] } else { vips()[0] };
            let backends = segment_backends(if crosses { other } else { vip }, 1, port);
            let service = Service::tcp(&name(port, vip), vip, port, backends);
            config = config.service(service.check(Check::None).key("forwarding", forwarding));
            addresses.push(SocketAddr::new(vip, port));
        }
    }
    let _server = Server::digest(&lab, "web1", &addresses)?;
    let balancer = Agent::start(&lab, &config)?;
    let bytes: Vec<u8> = (0..4_000_000u32).map(|n| (n ^ n >> 9) as u8).collect();
    for address in addresses {
        lab.within("client", || upload(address, &bytes))?
            .with_context(|| format!("to {address}: {:?}", balancer.status()))?;
    }
    let status = agent.status()?;
    let app_host = status.app_host()?;
    // Four of five ways are tunnels, each for both families.
    ensure!(
        app_host.verdict("decapsulated")? > 8 * 4_000_000 / 65_536,
        "{status:?}"
    );
    for label in [
        "pass_malformed",
        "drop_source_not_allowed",
        "drop_congestion",
    ] {
        ensure!(app_host.verdict(label)? == 0, "{status:?}");
    }
    let errors = checksum_errors(&lab, "web1")?;
    ensure!(errors == 0, "{errors} wrong checksums");
    Ok(())
}

/// An app host that is a balancer for something else.
fn beside_steering(mode: Mode) -> Result<()> {
    let lab = lab(mode, 1)?;
    lab.namespace("web1")?
        .ip("link add d0 up type veth peer name d1")?;
    let before = host(&lab, 1)?;
    let own: IpAddr = [198, 51, 100, 1].into();
    let other = Service::tcp("other", own, 80, Vec::new()).check(Check::None);
    let both = app_host(&lab, 1, mode)
        .agent_interfaces(&["d0"])
        .service(other);
    let mut agent = start(&lab, 1, &both)?;
    let _server = nginx(&lab, 1)?;
    let balancer = Agent::start(&lab, &balancer(&lab, mode, 1))?;
    expect_cycle(&names(&lab, web(), 3)?, &WEBS[..1])?;
    let status = agent.status()?;
    let word = mode.word();
    ensure!(status.interfaces()? == [format!("d0 {word}")], "{status:?}");
    let interfaces = status.app_host()?.interfaces()?;
    ensure!(interfaces == [format!("e1 {word}")], "{status:?}");
    ensure!(status.app_host()?.verdict("decapsulated")? >= 12);
    status.service("other")?;
    let during = host(&lab, 1)?;
    expect_vips_put_back(&lab, &agent)?;
    agent.kill()?;
    agent.start_again(&lab)?;
    ensure!(host(&lab, 1)? == during);
    expect_cycle(&names(&lab, web(), 3)?, &WEBS[..1])?;
    drop(balancer);

    // The next agent of a host that is an app host no more undoes it, also after a crash.
    agent.kill()?;
    let other = Service::tcp("other", own, 80, Vec::new()).check(Check::None);
    let steering = Config::of_app_host(&lab, "web1", mode)
        .agent_interfaces(&["d0"])
        .service(other);
    let mut agent = start(&lab, 1, &steering)?;
    let after = host(&lab, 1)?;
    ensure!(after == before, "before\n{before}\nafter\n{after}");
    agent.stop()?;
    expect_as_before(&lab, &before, &agent)?;

    // And one that steers no more leaves no steering behind.
    let mut agent = start(&lab, 1, &both)?;
    agent.kill()?;
    let mut agent = start(&lab, 1, &app_host(&lab, 1, mode))?;
    ensure!(!has_xdp(&lab, "web1", "d0")?, "d0 is still steered");
    ensure!(host(&lab, 1)? == during);
    agent.stop()?;
    expect_as_before(&lab, &before, &agent)
}

fn an_interface_goes_and_comes_back(mode: Mode) -> Result<()> {
    let lab = lab(mode, 1)?;
    let web1 = lab.namespace("web1")?;
    let mut agent = start(&lab, 1, &app_host(&lab, 1, mode))?;
    web1.ip("link del e1")?;
    await_until(Duration::from_secs(5), "the agent sees it go", || {
        let interfaces = agent.status()?.app_host()?.interfaces()?;
        ensure!(interfaces == ["e1"], "{interfaces:?}");
        Ok(())
    })?;
    web1.ip("link add e1 up type veth peer name f1")?;
    let expected = format!("e1 {}", mode.word());
    await_until(Duration::from_secs(5), "the agent sees it come", || {
        let interfaces = agent.status()?.app_host()?.interfaces()?;
        ensure!(interfaces == [expected.as_str()], "{interfaces:?}");
        Ok(())
    })?;
    let during = host(&lab, 1)?;
    for part in [
        "e1/arp_ignore=1",
        "e1/arp_announce=2",
        "e1/rp_filter=2",
        "xdp",
    ] {
        ensure!(during.contains(part), "no {part} in\n{during}");
    }
    agent.stop()?;
    let after = host(&lab, 1)?;
    for part in ["e1/arp_ignore=0", "e1/arp_announce=0", "e1/rp_filter=1"] {
        ensure!(after.contains(part), "no {part} in\n{after}");
    }
    ensure!(
        !after.contains("203.0.113.10") && !after.contains("xdp"),
        "{after}"
    );
    Ok(())
}

fn an_interface_comes_back_while_another_is_away(mode: Mode) -> Result<()> {
    let lab = lab(mode, 1)?;
    let web1 = lab.namespace("web1")?;
    web1.ip("link add e9 up type veth peer name f9")?;
    let config = app_host(&lab, 1, mode).app_host("interfaces", &["e1", "e9"]);
    let agent = start(&lab, 1, &config)?;
    web1.ip("link del e1")?;
    web1.ip("link del e9")?;
    let expect = |expected: [&str; 2]| {
        await_until(Duration::from_secs(5), "the agent sees it", || {
            let interfaces = agent.status()?.app_host()?.interfaces()?;
            ensure!(interfaces == expected, "{interfaces:?}, {}", agent.log());
            Ok(())
        })
    };
    expect(["e1", "e9"])?;
    web1.ip("link add e1 up type veth peer name f1")?;
    expect([&format!("e1 {}", mode.word()), "e9"])?;
    let during = host(&lab, 1)?;
    for part in ["e1/arp_ignore=1", "e1/arp_announce=2", "xdp"] {
        ensure!(during.contains(part), "no {part} in\n{during}");
    }
    agent.await_log(&["e9 is gone"])
}

fn a_vip_that_somebody_took_is_put_back(mode: Mode) -> Result<()> {
    let lab = lab(mode, 1)?;
    let agent = start(&lab, 1, &app_host(&lab, 1, mode))?;
    // More than once.
    expect_vips_put_back(&lab, &agent)?;
    expect_vips_put_back(&lab, &agent)?;
    agent.await_log(&["lo has lost 203.0.113.10"])
}

fn expect_vips_put_back(lab: &Segment, agent: &Agent) -> Result<()> {
    let web1 = lab.namespace("web1")?;
    web1.ip(&format!("addr del {VIP4}/32 dev lo"))?;
    await_until(Duration::from_secs(15), "it is put back", || {
        let on_lo = agent.status()?.app_host()?.vips_on_lo()?;
        ensure!(on_lo == vips().map(|vip| vip.to_string()), "{on_lo:?}");
        Ok(())
    })
}

#[test]
fn an_interface_that_is_not_there_is_a_sentence() -> Result<()> {
    let lab = Segment::unprepared(1)?;
    let before = host(&lab, 1)?;
    let config = app_host(&lab, 1, Mode::Generic).app_host("interfaces", &["eth7"]);
    let file = config.write(&lab, "web1.toml")?;
    let mut command = lab.command("web1", binary()?)?;
    let outcome = Outcome::of(command.args(["run", "--config"]).arg(file))?;
    outcome.expect_sentence(1, &["there is no interface \"eth7\"", "e1"])?;
    ensure!(host(&lab, 1)? == before, "something was changed");
    Ok(())
}

#[test]
fn what_begins_and_cannot_go_on_is_undone() -> Result<()> {
    let lab = Segment::unprepared(1)?;
    lab.namespace("web1")?
        .sysctl("net.ipv6.conf.lo.disable_ipv6", "1")?;
    let before = host(&lab, 1)?;
    let config = app_host(&lab, 1, Mode::Generic);
    let file = config.write(&lab, "web1.toml")?;
    let mut command = lab.command("web1", binary()?)?;
    let outcome = Outcome::of(command.args(["run", "--config"]).arg(file))?;
    outcome.expect_sentence(1, &["cannot put 2001:db8::10 on lo", "disable_ipv6"])?;
    let after = host(&lab, 1)?;
    ensure!(after == before, "before\n{before}\nafter\n{after}");
    Ok(())
}
