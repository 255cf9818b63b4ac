//! Backends in other subnets, behind a router: the next hop is the router's MAC, and what is sent
//! there has to be an IP packet that a router forwards.
//!
//! ```text
//! client c0 ── lc lb lr ── rl router r1 ── e1 web1
//!     c1 ───────────────── rc        r2 ── e2 web2
//! ```
//! By `c1` go only replies that go past the balancer.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lb_lab::{Lab, Nginx, NginxConfig, VIP4, VIP6};
use lb_tests::scenario::{
    Agent, Backend, Config, Mode, Service, checksum_errors, expect_cycle, names,
};

use crate::{WEBS, web, web6};

const PORT: u16 = 80;
/// Of the routers' networks: the first has number 0.
const BALANCER: u8 = 0;
const AROUND: u8 = 9;

/// 10.<second>.<third>.<host>, and its twin of the other family.
fn addresses(second: u8, third: u8, host: u8) -> [IpAddr; 2] {
    let group = |number: u8| u16::from(number / 10 * 16 + number % 10);
    [
        [10, second, third, host].into(),
        [
            0xfd00,
            group(second),
            group(third),
            0,
            0,
            0,
            0,
            u16::from(host),
        ]
        .into(),
    ]
}

/// Joins two namespaces by a network of which they are hosts 1 and 2.
fn connect(
    lab: &Lab,
    (near, near_end): (&str, &str),
    (far, far_end): (&str, &str),
    (second, third): (u8, u8),
) -> Result<()> {
    lab.join((near, near_end), (far, far_end))?;
    for (name, end, host) in [(near, near_end, 1), (far, far_end, 2)] {
        let [v4, v6] = addresses(second, third, host);
        lab.namespace(name)?.ip_batch(&format!(
            "addr add {v4}/24 dev {end}\naddr add {v6}/64 dev {end} nodad\n"
        ))?;
        lab.prepare_end(name, end)?;
    }
    Ok(())
}

/// Has a namespace send packets for a network by a host of another one.
fn route(lab: &Lab, name: &str, to: [&str; 2], by: [IpAddr; 2]) -> Result<()> {
    let [v4, v6] = to;
    lab.namespace(name)?.ip_batch(&format!(
        "route replace {v4} via {}\nroute replace {v6} via {}\n",
        by[0], by[1]
    ))
}

const ANYWHERE: [&str; 2] = ["default", "::/0"];
const CLIENTS: [&str; 2] = ["10.10.0.0/24", "fd00:10::/64"];

/// The lab of the drawing; replies to clients go by the balancer unless they go `around` it.
fn wired(goes_around: bool) -> Result<Lab> {
    let mut lab = Lab::new()?;
    for name in ["client", "lb", "router", "web1", "web2"] {
        let namespace = lab.add(name)?;
        if matches!(name, "lb" | "router") {
            namespace.sysctl("net.ipv4.ip_forward", "1")?;
            namespace.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        }
    }
    connect(&lab, ("lb", "lc"), ("client", "c0"), (10, 0))?;
    connect(&lab, ("lb", "lr"), ("router", "rl"), (40, BALANCER))?;
    connect(&lab, ("router", "rc"), ("client", "c1"), (40, AROUND))?;
    for number in 1..=2 {
        let (name, end) = (format!("web{number}"), format!("e{number}"));
        let near = format!("r{number}");
        connect(&lab, ("router", &near), (&name, &end), (50, number))?;
        route(&lab, &name, ANYWHERE, addresses(50, number, 1))?;
    }
    lab.namespace("lb")?.ip_batch(&format!(
        "addr add {VIP4}/32 dev lc\naddr add {VIP6}/128 dev lc nodad\n"
    ))?;
    route(&lab, "client", ANYWHERE, addresses(10, 0, 1))?;
    route(&lab, "lb", ANYWHERE, addresses(40, BALANCER, 2))?;
    let back = if goes_around {
        addresses(40, AROUND, 2)
    } else {
        addresses(40, BALANCER, 1)
    };
    route(&lab, "router", CLIENTS, back)?;
    lab.attach_pass("client", "c0")?;
    lab.attach_pass("router", "rl")?;
    Ok(lab)
}

fn servers(lab: &Lab, with_vips: bool) -> Result<Vec<Nginx>> {
    let vips: &[IpAddr] = if with_vips {
        &[IpAddr::V4(VIP4), IpAddr::V6(VIP6)]
    } else {
        &[]
    };
    (1..=2)
        .map(|number| {
            let name = format!("web{number}");
            let own = addresses(50, number, 2);
            let listen = own.iter().chain(vips);
            let config = NginxConfig {
                namespace: name.clone(),
                name,
                listen: listen.map(|ip| SocketAddr::new(*ip, PORT)).collect(),
                more: String::new(),
            };
            Nginx::start(lab, config)
        })
        .collect()
}

/// Both services with that forwarding, and what it needs besides.
fn serves(lab: &Lab, forwarding: &str, needs: impl Fn(Service, usize) -> Service) -> Result<()> {
    let interfaces = ["lc", "lr"].map(str::to_owned);
    let mut config = Config::new(lab, &interfaces, Mode::Native);
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    for (family, (name, vip)) in ["web", "web6"].into_iter().zip(vips).enumerate() {
        let backends = (1..=2)
            .map(|number| Backend {
                name: format!("web{number}"),
                address: addresses(50, number, 2)[family],
                port: PORT,
                weight: 1,
                is_backup: false,
            })
            .collect();
        let service = Service::tcp(name, vip, PORT, backends).key("forwarding", forwarding);
        config = config.service(needs(service, family));
    }
    let agent = Agent::start(lab, &config)?;
    for (name, vip) in [("web", web()), ("web6", web6())] {
        expect_cycle(&names(lab, vip, 6)?, &WEBS[..2])?;
        let status = agent.status()?;
        let service = status.service(name)?;
        service.expect("connections", &[3, 3])?;
        let replies = service.each("reply_packets")?;
        let is_seen = !forwarding.starts_with("dsr");
        ensure!(
            replies.iter().all(|count| (*count > 0) == is_seen),
            "{replies:?}"
        );
        status.expect_no_drops()?;
    }
    for namespace in ["client", "web1", "web2"] {
        let errors = checksum_errors(lab, namespace)?;
        ensure!(errors == 0, "{errors} wrong checksums in {namespace}");
    }
    Ok(())
}

#[test]
fn nat() -> Result<()> {
    let lab = wired(false)?;
    let _servers = servers(&lab, false)?;
    serves(&lab, "nat", |service, _| service)
}

#[test]
fn full_nat() -> Result<()> {
    // Replies to clients would go past the balancer.
    let lab = wired(true)?;
    let _servers = servers(&lab, false)?;
    serves(&lab, "full-nat", |service, family| {
        let own = addresses(40, BALANCER, 1)[family];
        service.raw("source_addresses", &format!("[\"{own}\"]"))
    })
}

/// Through a tunnel, which the backends' hosts take off.
fn tunnelled(kind: &str) -> Result<()> {
    let lab = wired(true)?;
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    let _hosts = (1..=2)
        .map(|number| {
            let name = format!("web{number}");
            let config = Config::of_app_host(&lab, &name, Mode::Native)
                .app_host("interfaces", &[format!("e{number}")])
                .app_host("vips", &vips)
                .app_host("decap", &[kind]);
            Agent::start_in(&lab, &name, &config)
        })
        .collect::<Result<Vec<_>>>()?;
    let _servers = servers(&lab, true)?;
    serves(&lab, &format!("dsr-{kind}"), |service, _| service)
}

#[test]
fn dsr_ipip() -> Result<()> {
    tunnelled("ipip")
}

#[test]
fn dsr_gue() -> Result<()> {
    tunnelled("gue")
}
