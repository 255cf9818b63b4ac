//! The interfaces that steering attaches to: there, up, ours, fast, and large enough.

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::abi::Forwarding;

use super::{Finding, Severity, ethtool};
use crate::{
    config::model::{Model, Mss, XdpMode},
    next_hop::{Link, Way},
    status::Status,
};

/// Drivers that take XDP programs themselves.
const NATIVE: &[&str] = &[
    "atlantic",
    "bnxt_en",
    "dpaa2-eth",
    "ena",
    "enetc",
    "fec",
    "gve",
    "hv_netvsc",
    "i40e",
    "iavf",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "nfp",
    "qede",
    "sfc",
    "stmmac",
    "tg3",
    "thunder_nicvf",
    "tsnep",
    "veth",
    "virtio_net",
    "vmxnet3",
];

/// What is wrong with them.
pub(super) fn judge(
    model: &Model,
    links: &[Link],
    ways: &BTreeMap<IpAddr, Way>,
    (status, is_left): (Option<&Status>, bool),
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in &model.agent.interfaces {
        let driver = ethtool::driver(name).map(|driver| driver.name);
        findings.extend(one(
            model,
            name,
            links,
            driver.as_deref(),
            (status, is_left),
        ));
    }
    findings.extend(tunnels(model, links, ways));
    findings
}

fn one(
    model: &Model,
    name: &str,
    links: &[Link],
    driver: Option<&str>,
    (status, is_left): (Option<&Status>, bool),
) -> Option<Finding> {
    let Some(link) = links.iter().find(|link| link.name == name) else {
        let there: Vec<&str> = links.iter().map(|link| &*link.name).collect();
        let found = format!(
            "there is no such interface (there are {})",
            there.join(", ")
        );
        return Some(
            Finding::new(Severity::Error, "interface", name, found)
                .why("the agent does not start without it, and steers nothing there while it is gone")
                .cure("its right name in agent.interfaces"),
        );
    };
    if !link.is_up {
        return Some(
            Finding::new(Severity::Error, "interface", name, "it is down")
                .why("no packet comes in or goes out by it")
                .cure(format!("ip link set dev {name} up")),
        );
    }
    if !link.has_carrier {
        return Some(
            Finding::new(Severity::Error, "interface", name, "it has no carrier")
                .why("no packet comes in or goes out by it")
                .cure("a cable, or the other end switched on"),
        );
    }
    let ours = status.and_then(|status| status.interfaces.iter().find(|one| one.name == name));
    match (link.xdp, status, ours) {
        // Without an agent, ours may be one that is left; another probe tells.
        (Some(program), Some(_), ours) if ours.is_none_or(|ours| ours.program_id != program.id) => {
            foreign(name, program.id, program.is_native)
        }
        (None, Some(_), Some(_)) => Some(
            Finding::new(
                Severity::Error,
                "xdp_program",
                name,
                "our XDP program is not on it any more",
            )
            .why("packets that come in by it are not steered")
            .cure("systemctl restart lb"),
        ),
        (Some(program), Some(_), Some(_))
            if !program.is_native && model.agent.xdp_mode == XdpMode::Auto =>
        {
            let driver = driver.filter(|driver| NATIVE.contains(driver))?;
            let found = format!("generic mode is in use, though its driver {driver} has XDP");
            Some(
                Finding::new(Severity::Warning, "generic_mode", name, found)
                    .why("generic mode takes several times the CPU for each packet")
                    .cure(format!(
                        "xdp_mode = \"native\" in the config and a restart say why native mode is \
                         refused (often the MTU, {} here, or too few queues)",
                        link.mtu
                    )),
            )
        }
        (Some(program), None, _) if !is_left => foreign(name, program.id, program.is_native),
        _ => None,
    }
}

fn foreign(name: &str, id: u32, is_native: bool) -> Option<Finding> {
    let mode = if is_native { "xdpdrv" } else { "xdpgeneric" };
    let found = format!("another XDP program is on it (id {id}), not ours");
    Some(
        Finding::new(Severity::Error, "xdp_program", name, found)
            .why("an interface takes one program: packets that come in by it are not steered")
            .cure(format!(
                "bpftool prog show id {id} says whose it is; ip link set dev {name} {mode} off takes it away"
            )),
    )
}

/// Bytes that a tunnel takes.
const fn overhead(forwarding: Forwarding, backend: IpAddr) -> Option<u32> {
    let outer: u32 = if backend.is_ipv4() { 20 } else { 40 };
    match forwarding {
        Forwarding::DsrIpip => Some(outer),
        // UDP and the GUE header.
        Forwarding::DsrGue => Some(outer + 12),
        Forwarding::Nat | Forwarding::FullNat | Forwarding::DsrL2 => None,
    }
}

/// Clients' packets that do not fit once they are in a tunnel.
fn tunnels(model: &Model, links: &[Link], ways: &BTreeMap<IpAddr, Way>) -> Vec<Finding> {
    let in_by = model.agent.interfaces.iter();
    let largest = in_by
        .filter_map(|name| links.iter().find(|link| link.name == *name))
        .map(|link| link.mtu)
        .max();
    let mut findings = Vec::new();
    for service in &model.services {
        // Of all its backends, one that is worst off.
        let worst = service
            .backends
            .iter()
            .filter_map(|backend| {
                let overhead = overhead(service.forwarding, backend.address)?;
                let Some(Way::Via { ifindex, .. }) = ways.get(&backend.address) else {
                    return None;
                };
                let link = links.iter().find(|link| link.ifindex == *ifindex)?;
                Some((link.mtu.saturating_sub(overhead), overhead, link))
            })
            .min_by_key(|(room, ..)| *room);
        let (Some((room, overhead, link)), Some(largest)) = (worst, largest) else {
            continue;
        };
        let clamp = match service.mss_clamp {
            Mss::Auto => room,
            // The headers of IP and TCP come on top.
            Mss::Most(size) => u32::from(size) + if service.address.is_ipv4() { 40 } else { 60 },
            Mss::Off => u32::MAX,
        };
        if largest.min(clamp) <= room {
            continue;
        }
        let found = format!(
            "packets of up to {largest} bytes come in, and {room} fit into the tunnel on {} (MTU {} \
             less {overhead})",
            link.name, link.mtu
        );
        findings.push(
            Finding::new(Severity::Warning, "tunnel_mtu", service.name.clone(), found)
                .why("clients whose path drops ICMP hang as soon as they send full-size packets")
                .cure(format!(
                    "mss_clamp = \"auto\" in the service\n(or, where the network takes it: ip link \
                     set dev {} mtu {})",
                    link.name,
                    largest + overhead
                )),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        doctor::report::checks,
        next_hop::XdpProgram,
        status::{self, Interface},
    };

    fn link(name: &str, ifindex: u32, mtu: u32) -> Link {
        Link {
            ifindex,
            name: name.to_owned(),
            mac: None,
            mtu,
            is_up: true,
            has_carrier: true,
            xdp: Some(XdpProgram {
                id: 12,
                is_native: true,
            }),
            vlan: None,
            is_bond: false,
            controller: None,
        }
    }

    fn model(service: &str) -> Model {
        let text = format!(
            "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\n\
             address = \"203.0.113.10\"\nport = 80\n{service}[[service.backend]]\n\
             name = \"web1\"\naddress = \"10.0.0.11\"\n"
        );
        config::parse(text.as_bytes()).unwrap().model
    }

    #[test]
    fn an_interface_is_there_and_up_and_ours() {
        let good = || link("eth0", 1, 1500);
        let is_native = true;
        let xdp = |id, is_native| Some(XdpProgram { id, is_native });
        let rows: [(Link, &[&str]); 8] = [
            (good(), &[]),
            (link("eth9", 1, 1500), &["interface"]),
            (
                Link {
                    is_up: false,
                    ..good()
                },
                &["interface"],
            ),
            (
                Link {
                    has_carrier: false,
                    ..good()
                },
                &["interface"],
            ),
            (
                Link {
                    xdp: xdp(13, is_native),
                    ..good()
                },
                &["xdp_program"],
            ),
            (
                Link {
                    xdp: None,
                    ..good()
                },
                &["xdp_program"],
            ),
            (
                Link {
                    xdp: xdp(12, !is_native),
                    ..good()
                },
                &["generic_mode"],
            ),
            (
                Link {
                    xdp: xdp(13, !is_native),
                    ..good()
                },
                &["xdp_program"],
            ),
        ];
        let mut status = status::tests::example();
        status.interfaces = vec![Interface {
            name: "eth0".to_owned(),
            xdp_mode: "native".to_owned(),
            program_id: 12,
        }];
        for (link, expected) in rows {
            let found = one(
                &model(""),
                "eth0",
                std::slice::from_ref(&link),
                Some("ixgbe"),
                (Some(&status), false),
            );
            assert_eq!(checks(&Vec::from_iter(found)), expected, "{link:?}");
        }
        let generic = Link {
            xdp: xdp(12, !is_native),
            ..good()
        };
        let found = one(
            &model(""),
            "eth0",
            &[generic],
            Some("e1000e"),
            (Some(&status), false),
        );
        assert_eq!(found, None, "a driver without XDP can do no better");
    }

    #[test]
    fn a_tunnel_needs_room() {
        let links = [
            link("eth0", 1, 1500),
            link("eth1", 2, 1500),
            link("eth2", 3, 1532),
        ];
        let via = |ifindex| {
            let way = Way::Via {
                ifindex,
                gateway: None,
                answers: Some(true),
            };
            BTreeMap::from([("10.0.0.11".parse().unwrap(), way)])
        };
        let rows: [(&str, u32, &[&str]); 7] = [
            ("", 2, &[]),
            ("forwarding = \"dsr-ipip\"\n", 2, &["tunnel_mtu"]),
            ("forwarding = \"dsr-ipip\"\n", 3, &[]),
            ("forwarding = \"dsr-gue\"\n", 3, &[]),
            ("forwarding = \"dsr-ipip\"\nmss_clamp = \"auto\"\n", 2, &[]),
            ("forwarding = \"dsr-ipip\"\nmss_clamp = 1440\n", 2, &[]),
            (
                "forwarding = \"dsr-gue\"\nmss_clamp = 1440\n",
                2,
                &["tunnel_mtu"],
            ),
        ];
        for (keys, ifindex, expected) in rows {
            let found = tunnels(&model(keys), &links, &via(ifindex));
            assert_eq!(checks(&found), expected, "{keys}{ifindex}");
        }
    }
}
