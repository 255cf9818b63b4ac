//! What network cards and the other ends of veth pairs do to packets before they get here.

use super::{
    Finding, Severity,
    ethtool::{self, Driver},
    namespaces::{self, Peer},
};
use crate::next_hop::Link;

/// An interface that steering attaches to.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) driver: Driver,
    /// The other end, where it is a veth whose other end can be looked at.
    pub(super) peer: Option<Peer>,
    pub(super) cpus: usize,
}

/// Asks the drivers.
pub(super) fn gather(interfaces: &[String], links: &[Link]) -> Vec<Facts> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = Vec::new();
    for name in interfaces {
        let Some(driver) = ethtool::driver(name) else {
            continue;
        };
        let link = links.iter().find(|link| link.name == *name);
        let peer = link
            .filter(|_| driver.name == "veth")
            .and_then(|link| namespaces::peer_of(link.ifindex));
        all.push(Facts {
            name: name.clone(),
            driver,
            peer,
            cpus,
        });
    }
    all
}

/// What is wrong with them.
pub(super) fn judge(all: &[Facts], links: &[Link]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Facts {
        name,
        driver,
        peer,
        cpus,
    } in all
    {
        if driver.lro {
            findings.push(
                Finding::new(
                    Severity::Warning,
                    "lro",
                    name.clone(),
                    "large receive offload is on",
                )
                .why("segments that are joined do not fit back on the wire, and are dropped")
                .cure(format!("ethtool -K {name} lro off")),
            );
        }
        let own = links.iter().find(|link| link.name == *name);
        let vlan = own.and_then(|own| {
            let on_it = |link: &&Link| link.vlan.is_some_and(|vlan| vlan.parent == own.ifindex);
            links.iter().find(on_it)
        });
        if let (true, Some(vlan), true) = (driver.rx_vlan, vlan, driver.name != "veth") {
            let found = format!(
                "its card takes VLAN tags off, and {} is a VLAN on it",
                vlan.name
            );
            findings.push(
                Finding::new(Severity::Warning, "rx_vlan", name.clone(), found)
                    .why("the program in the driver does not see the tag, and takes all VLANs for one")
                    .cure(format!("ethtool -K {name} rxvlan off")),
            );
        }
        if let Some(Peer {
            name: peer,
            driver: end,
            has_xdp: false,
        }) = peer
            && !end.gro
            && own.is_some_and(|own| own.xdp.is_some_and(|program| program.is_native))
        {
            let found = format!("its other end {peer} has neither GRO nor an XDP program");
            findings.push(
                Finding::new(Severity::Error, "veth_napi", name.clone(), found)
                    .why(
                        "in native mode packets are redirected into it without a socket buffer, and \
                         an end without NAPI drops them all",
                    )
                    .cure(format!(
                        "there: ethtool -K {peer} gro on (or xdp_mode = \"generic\" in the config)"
                    )),
            );
        }
        if let Some(Peer {
            name: peer,
            driver: end,
            ..
        }) = peer
            && end.tx_checksum
        {
            let found = format!("its other end {peer} leaves checksums to a device that is none");
            findings.push(
                Finding::new(Severity::Error, "tx_checksum", name.clone(), found)
                    .why(
                        "packets from there have unfinished checksums, which no card ever finishes: \
                         receivers drop what is forwarded",
                    )
                    .cure(format!("there: ethtool -K {peer} tx off")),
            );
        }
        if driver.rx_queues == Some(1) && *cpus > 1 && driver.name != "veth" {
            let found = format!("one receive queue for {cpus} CPUs");
            findings.push(
                Finding::new(Severity::Note, "queues", name.clone(), found)
                    .why("all packets are steered by one CPU")
                    .cure(format!(
                        "ethtool -L {name} combined {cpus}, if the card has more"
                    )),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::report::checks,
        next_hop::{Vlan, XdpProgram},
    };

    fn facts(driver: Driver, peer: Option<Driver>) -> Facts {
        Facts {
            name: "eth0".to_owned(),
            driver,
            peer: peer.map(|driver| Peer {
                name: "c0".to_owned(),
                driver,
                has_xdp: false,
            }),
            cpus: 4,
        }
    }

    fn driver(name: &str) -> Driver {
        Driver {
            name: name.to_owned(),
            rx_queues: Some(4),
            ..Driver::default()
        }
    }

    #[test]
    fn offloads_that_hurt_are_told() {
        let tx_checksum = Driver {
            tx_checksum: true,
            ..driver("veth")
        };
        let one_queue = |name| Driver {
            rx_queues: Some(1),
            ..driver(name)
        };
        let rows: [(Facts, &[&str]); 8] = [
            (facts(driver("ixgbe"), None), &[]),
            (
                facts(
                    Driver {
                        lro: true,
                        ..driver("ixgbe")
                    },
                    None,
                ),
                &["lro"],
            ),
            (
                facts(
                    Driver {
                        rx_vlan: true,
                        ..driver("ixgbe")
                    },
                    None,
                ),
                &["rx_vlan"],
            ),
            (
                facts(
                    Driver {
                        rx_vlan: true,
                        ..driver("veth")
                    },
                    None,
                ),
                &[],
            ),
            (facts(tx_checksum.clone(), None), &[]),
            (facts(driver("veth"), Some(tx_checksum)), &["tx_checksum"]),
            (facts(one_queue("virtio_net"), None), &["queues"]),
            (facts(one_queue("veth"), Some(driver("veth"))), &[]),
        ];
        let link = |name: &str, ifindex, parent: Option<u32>| Link {
            ifindex,
            name: name.to_owned(),
            mac: None,
            mtu: 1500,
            is_up: true,
            has_carrier: true,
            xdp: None,
            vlan: parent.map(|parent| Vlan {
                parent,
                id: 5,
                is_dot1q: true,
            }),
            is_bond: false,
            controller: None,
        };
        let links = [link("eth0", 1, None), link("eth0.5", 2, Some(1))];
        for (facts, expected) in rows {
            let found = judge(std::slice::from_ref(&facts), &links);
            assert_eq!(checks(&found), expected, "{facts:?}");
        }
        let found = judge(
            &[facts(
                Driver {
                    rx_vlan: true,
                    ..driver("ixgbe")
                },
                None,
            )],
            &links[..1],
        );
        assert_eq!(checks(&found), [""; 0], "without VLANs it does no harm");
    }

    #[test]
    fn the_other_end_of_a_veth_needs_napi_in_native_mode() {
        let link = |is_native: Option<bool>| Link {
            ifindex: 1,
            name: "eth0".to_owned(),
            mac: None,
            mtu: 1500,
            is_up: true,
            has_carrier: true,
            xdp: is_native.map(|is_native| XdpProgram { id: 1, is_native }),
            vlan: None,
            is_bond: false,
            controller: None,
        };
        let rows: [(Option<bool>, bool, bool, &[&str]); 5] = [
            (Some(true), false, false, &["veth_napi"]),
            (Some(true), true, false, &[]),
            (Some(true), false, true, &[]),
            (Some(false), false, false, &[]),
            (None, false, false, &[]),
        ];
        for (is_native, gro, has_xdp, expected) in rows {
            let mut facts = facts(driver("veth"), None);
            facts.peer = Some(Peer {
                name: "c0".to_owned(),
                driver: Driver {
                    gro,
                    ..driver("veth")
                },
                has_xdp,
            });
            let found = judge(std::slice::from_ref(&facts), &[link(is_native)]);
            assert_eq!(checks(&found), expected, "{is_native:?} {gro} {has_xdp}");
        }
    }
}
