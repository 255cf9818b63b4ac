//! Keeps steering attached to the interfaces of the config.

use std::collections::BTreeMap;

use lb_common::abi;

use super::lane;
use crate::{
    check_lane::STEERING_END,
    config::model::{Agent, Model, XdpMode},
    dataplane::{self, Attached, Dataplane, How, Mode, Target, Wish},
    next_hop::Link,
};

/// The interfaces that steering attaches to: those of the config, and the one that checks through
/// services come by.
pub(super) fn steered(model: &Model) -> Vec<String> {
    let of_checks = lane::is_wanted(model).then(|| STEERING_END.to_owned());
    let names = model.agent.interfaces.iter().cloned();
    names.chain(of_checks).collect()
}

/// Finds the interfaces of the config; all of them must exist.
pub(super) fn find(names: &[String], links: &[Link]) -> Result<Vec<Link>, dataplane::Error> {
    names
        .iter()
        .map(|name| {
            links
                .iter()
                .find(|link| link.name == *name)
                .cloned()
                .ok_or_else(|| {
                    let existing: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
                    dataplane::Error::UnknownInterface {
                        name: name.clone(),
                        existing: existing.join(", "),
                    }
                })
        })
        .collect()
}

/// What the data path needs to know of the interfaces it is attached to, by index. A program that
/// runs natively on a bond sees packets on the bond's ports, which go by the bond's MAC.
pub(super) fn descriptions(names: &[String], links: &[Link]) -> Vec<(u32, abi::Interface)> {
    let mut described = BTreeMap::new();
    let ours = || links.iter().filter(|link| names.contains(&link.name));
    let describe = |link: &Link| {
        Some(abi::Interface {
            mac: link.mac?,
            reserved: [0; 2],
            mtu: link.mtu,
        })
    };
    for link in ours() {
        described.extend(describe(link).map(|interface| (link.ifindex, interface)));
    }
    for bond in ours().filter(|link| link.is_bond) {
        let ports = links
            .iter()
            .filter(|link| link.controller == Some(bond.ifindex));
        for port in ports {
            if let Some(interface) = describe(bond) {
                described.entry(port.ifindex).or_insert(interface);
            }
        }
    }
    described.into_iter().collect()
}

/// The largest packet that fits by each of those that clients come by.
pub(super) fn smallest_mtu(described: &[(u32, abi::Interface)], links: &[Link]) -> u32 {
    let of_checks = links.iter().find(|link| link.name == STEERING_END);
    let of_checks = of_checks.map(|link| link.ifindex);
    let clients = described
        .iter()
        .filter(|(ifindex, _)| Some(*ifindex) != of_checks);
    let mtus = clients.map(|(_, interface)| interface.mtu);
    mtus.min().unwrap_or(u32::MAX)
}

/// Attaches steering to an interface and says so.
pub(super) fn attach(
    dataplane: &mut Dataplane,
    agent: &Agent,
    link: &Link,
) -> Result<(), dataplane::Error> {
    // What checks send is an skb anyway, and leaves by drivers that take no others' frames.
    let wish = if link.name == STEERING_END {
        Wish::Only(Mode::Generic)
    } else {
        wish(agent.xdp_mode)
    };
    let how = dataplane.attach(&target(link), wish)?;
    if let Some(attached) = dataplane.attached().get(&link.name) {
        tell("steering", link, attached, how);
    }
    Ok(())
}

/// An interface to attach to.
pub(super) fn target(link: &Link) -> Target {
    Target {
        name: link.name.clone(),
        ifindex: link.ifindex,
        mtu: link.mtu,
        current: link.xdp.map(|program| {
            (
                if program.is_native {
                    Mode::Native
                } else {
                    Mode::Generic
                },
                program.id,
            )
        }),
    }
}

/// How the config wants programs attached.
pub(super) const fn wish(mode: XdpMode) -> Wish {
    match mode {
        XdpMode::Auto => Wish::Auto,
        XdpMode::Native => Wish::Only(Mode::Native),
        XdpMode::Generic => Wish::Only(Mode::Generic),
    }
}

/// Says that a program is attached.
pub(super) fn tell(what: &str, link: &Link, attached: &Attached, how: How) {
    let mode = attached.mode.word();
    let (name, id) = (&link.name, attached.program_id);
    match how {
        How::New => tracing::info!("{what} on {name}, {mode} XDP, program {id}"),
        How::TakenOver => {
            tracing::info!("took over {what} on {name}, {mode} XDP, program {id}");
        }
    }
    if !link.is_up {
        tracing::warn!("{name} is down; nothing comes in there until it is up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_bond_are_described_by_it_and_others_not_at_all() {
        let link = |ifindex: u32, name: &str| Link {
            ifindex,
            name: name.to_owned(),
            mac: Some([ifindex as u8; 6]),
            mtu: 1000 + ifindex,
            is_up: true,
            has_carrier: true,
            xdp: None,
            vlan: None,
            is_bond: false,
            controller: None,
        };
        let port = |ifindex, name, controller| Link {
            controller: Some(controller),
            ..link(ifindex, name)
        };
        let bond = Link {
            is_bond: true,
            ..link(9, "bond0")
        };
        let links = [
            port(1, "eth1", 9),
            port(2, "eth2", 9),
            bond,
            link(3, "eth3"),
            link(8, "br0"),
            port(4, "tap0", 8),
        ];
        let names = ["bond0", "br0", "eth2"].map(str::to_owned);
        let described: Vec<_> = descriptions(&names, &links)
            .into_iter()
            .map(|(ifindex, interface)| (ifindex, interface.mac[0], interface.mtu))
            .collect();
        assert_eq!(
            described,
            [(1, 9, 1009), (2, 2, 1002), (8, 8, 1008), (9, 9, 1009)]
        );
    }
}
