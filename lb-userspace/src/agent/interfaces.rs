//! Keeps steering attached to the interfaces of the config.

use lb_common::abi;

use crate::{
    config::model::{Agent, XdpMode},
    dataplane::{self, Dataplane, How, Mode, Target, Wish},
    next_hop::Link,
};

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

/// Tells the data path the MACs and MTUs of its interfaces.
pub(super) fn describe(dataplane: &mut Dataplane, links: &[Link]) -> Result<(), dataplane::Error> {
    let described: Vec<(u32, abi::Interface)> = links
        .iter()
        .filter_map(|link| {
            let interface = abi::Interface {
                mac: link.mac?,
                reserved: [0; 2],
                mtu: link.mtu,
            };
            Some((link.ifindex, interface))
        })
        .collect();
    dataplane.tables.set_interfaces(&described)
}

/// Attaches to an interface and says so.
pub(super) fn attach(
    dataplane: &mut Dataplane,
    agent: &Agent,
    link: &Link,
) -> Result<(), dataplane::Error> {
    let target = Target {
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
    };
    let wish = match agent.xdp_mode {
        XdpMode::Auto => Wish::Auto,
        XdpMode::Native => Wish::Only(Mode::Native),
        XdpMode::Generic => Wish::Only(Mode::Generic),
    };
    let how = dataplane.attach(&target, wish)?;
    if let Some(attached) = dataplane.attached().get(&link.name) {
        let mode = attached.mode.word();
        let (name, id) = (&link.name, attached.program_id);
        match how {
            How::New => tracing::info!("steering on {name}, {mode} XDP, program {id}"),
            How::TakenOver => {
                tracing::info!("took over steering on {name}, {mode} XDP, program {id}");
            }
        }
    }
    if !link.is_up {
        tracing::warn!(
            "{} is down; nothing comes in there until it is up",
            link.name
        );
    }
    Ok(())
}
