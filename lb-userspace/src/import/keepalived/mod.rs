//! From keepalived's file: each virtual server becomes a service.

mod check;
mod tree;

use std::net::IpAddr;

use self::tree::{Node, parse};
use super::draft::{Backend, Draft, Note, Service, reachable, seconds};

/// A config from a file.
pub(super) fn draft(text: &str) -> Draft {
    let nodes = parse(text);
    let mut draft = Draft::default();
    for node in &nodes {
        match node.word(0) {
            "virtual_server" => serve(node, &nodes, &mut draft),
            "virtual_server_group" => {}
            "vrrp_instance" | "vrrp_sync_group" | "vrrp_script" | "vrrp_track_process" => {
                let text = format!(
                    "{}: has no equivalent; keepalived can go on moving the address, without its \
                     virtual_server blocks",
                    node.text()
                );
                draft.notes.push(Note::new(node.line, text));
            }
            _ => {
                let text = format!("{}: has no equivalent", node.text());
                draft.notes.push(Note::new(node.line, text));
            }
        }
    }
    draft
}

/// The places where a virtual server is.
fn places<'n>(node: &'n Node, all: &'n [Node], notes: &mut Vec<Note>) -> Vec<(&'n str, &'n str)> {
    match node.word(1) {
        "fwmark" => {
            let text = format!(
                "{}: a service has an address and a port; fill them in",
                node.text()
            );
            notes.push(Note::new(node.line, text));
            vec![("", "")]
        }
        "group" => {
            let name = node.word(2);
            let is_it = |one: &&Node| one.word(0) == "virtual_server_group" && one.word(1) == name;
            let Some(group) = all.iter().find(is_it) else {
                let text =
                    format!("there is no virtual_server_group {name}: fill in address and port");
                notes.push(Note::new(node.line, text));
                return vec![("", "")];
            };
            let mut found = Vec::new();
            for entry in &group.children {
                // A range, 10.0.0.1-5, is not one address.
                if entry.word(0) == "fwmark" || entry.word(0).parse::<IpAddr>().is_err() {
                    let text = format!("{}: a service has one address and one port", entry.text());
                    notes.push(Note::new(entry.line, text));
                } else {
                    found.push((entry.word(0), entry.word(1)));
                }
            }
            found
        }
        address => vec![(address, node.word(2))],
    }
}

fn serve(node: &Node, all: &[Node], draft: &mut Draft) {
    let mut notes = Vec::new();
    let places = places(node, all, &mut notes);
    let mut service = Service::default();
    let mut is_direct = false;
    for child in &node.children {
        let value = child.word(1);
        let mut no_equivalent = || {
            let text = format!("{}: has no equivalent", child.text());
            notes.push(Note::new(child.line, text));
        };
        match child.word(0) {
            "lb_algo" | "lvs_sched" => match scheduler(value) {
                Some("") => {}
                Some(word) => service.keys.push(("scheduler", format!("\"{word}\""))),
                None => {
                    let text = format!("{}: round-robin takes its place", child.text());
                    notes.push(Note::new(child.line, text));
                }
            },
            "lb_kind" | "lvs_method" => match value {
                "NAT" => {}
                "DR" => {
                    is_direct = true;
                    service.keys.push(("forwarding", "\"dsr-l2\"".to_owned()));
                }
                "TUN" => {
                    is_direct = true;
                    service.keys.push(("forwarding", "\"dsr-ipip\"".to_owned()));
                }
                _ => no_equivalent(),
            },
            "protocol" => match value {
                "TCP" => {}
                "UDP" => service.keys.push(("protocol", "\"udp\"".to_owned())),
                _ => no_equivalent(),
            },
            "persistence_timeout" => {
                // Without a number keepalived takes six minutes.
                let time = value.parse().unwrap_or(360.0);
                service
                    .keys
                    .push(("affinity_seconds", seconds(time, 0.0, 604_800.0)));
            }
            // Where replies pass here, they could not be translated.
            "ops" if is_direct => service.keys.push(("one_packet", "true".to_owned())),
            "delay_loop" | "real_server" | "sorry_server" | "virtualhost" | "connect_timeout"
            | "retry" => {}
            _ => no_equivalent(),
        }
    }
    if !is_direct {
        let has_kind = node.child(&["lb_kind", "lvs_method"]).is_some();
        if !has_kind {
            notes.push(Note::new(node.line, "no lb_kind: nat is taken"));
        }
    }
    for (index, (address, port)) in places.iter().enumerate() {
        let mut own = service.clone();
        own.address = address.parse().ok();
        own.port = port.parse().ok().filter(|port| *port > 0);
        if let Some(Err(why)) = own.address.map(reachable) {
            own.address = None;
            own.notes
                .push(Note::new(node.line, format!("{address} {why}")));
        }
        let is_udp = own
            .keys
            .iter()
            .any(|(key, value)| *key == "protocol" && value == "\"udp\"");
        let family = if is_udp { "udp" } else { "tcp" };
        own.name = match own.address {
            Some(address) => format!("{address}-{port}-{family}"),
            None => format!("virtual-server-{}", node.line),
        };
        if address.parse::<IpAddr>().is_err() && !address.is_empty() {
            let text = format!("{address} is no address: fill it in");
            own.notes.push(Note::new(node.line, text));
        }
        if own.port.is_none() && !address.is_empty() {
            let text = "it takes every port, a service has one: fill it in";
            own.notes.push(Note::new(node.line, text));
        }
        backends(node, is_direct, &mut own);
        check::check(node, &mut own);
        if index == 0 {
            own.notes.extend(notes.iter().cloned());
        }
        own.notes.sort();
        own.notes.dedup();
        draft.services.push(own);
    }
    if places.is_empty() {
        draft.notes.extend(notes);
    }
}

/// Our scheduler for IPVS's; empty for the default.
fn scheduler(word: &str) -> Option<&'static str> {
    match word {
        "rr" | "wrr" => Some(""),
        "lc" | "wlc" => Some("least-connections"),
        "sh" => Some("source-hash"),
        "mh" => Some("maglev"),
        _ => None,
    }
}

fn backends(node: &Node, is_direct: bool, service: &mut Service) {
    let is_server = |child: &&Node| matches!(child.word(0), "real_server" | "sorry_server");
    for real in node.children.iter().filter(is_server) {
        let is_backup = real.word(0) == "sorry_server";
        let (address, port) = (real.word(1), real.word(2));
        let mut backend = Backend {
            name: format!("{address}-{port}"),
            address: address.parse().ok(),
            port: port.parse().ok().filter(|port| *port > 0),
            is_backup,
            ..Backend::default()
        };
        let mut note = |line: usize, text: String| backend.notes.push(Note::new(line, text));
        if backend.address.is_none() {
            note(real.line, format!("{address} is no address: fill it in"));
        }
        if let Some(Err(why)) = backend.address.map(reachable) {
            backend.address = None;
            note(real.line, format!("{address} {why}"));
        }
        if let (Some(vip), Some(own), false) = (service.address, backend.address, is_direct)
            && vip.is_ipv6() != own.is_ipv6()
        {
            backend.address = None;
            note(
                real.line,
                format!("{own} is not of the service's family: fill in one that is"),
            );
        }
        if is_direct && backend.port.is_some() && backend.port != service.port {
            backend.port = None;
            note(
                real.line,
                format!("port {port}: direct return changes no port, IPVS neither"),
            );
        }
        for child in &real.children {
            let value = child.word(1);
            match child.word(0) {
                "weight" => match value.parse::<u32>() {
                    Ok(weight) if weight > 256 => {
                        backend.weight = Some(256);
                        note(child.line, format!("weight {weight}: 256 is the most"));
                    }
                    weight => backend.weight = weight.ok().and_then(|one| u16::try_from(one).ok()),
                },
                word if check::CHECKS.contains(&word) => {}
                _ => note(child.line, format!("{}: has no equivalent", child.text())),
            }
        }
        service.backends.push(backend);
    }
}
