//! What was found, made part of a config: a pure function, which takes nothing that the file could
//! not have said.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use lb_common::abi::Forwarding;

use super::Found;
use crate::{
    config::{
        model::{Backend, Model, Service},
        refused_backend,
    },
    control::HIGHEST_WEIGHT,
};

/// By name of the service.
pub type AllFound = BTreeMap<String, Vec<Found>>;

/// Whether backends may be of the other address family than their service.
#[must_use]
pub const fn may_cross(service: &Service) -> bool {
    matches!(service.forwarding, Forwarding::DsrIpip | Forwarding::DsrGue)
}

/// A config with the backends that were found behind those of its file. Says what could not be
/// taken, a sentence each.
#[must_use]
pub fn merged(file: &Model, found: &AllFound) -> (Model, Vec<String>) {
    let mut model = file.clone();
    let mut refused = Vec::new();
    let vips: HashSet<IpAddr> = file.services.iter().map(|one| one.address).collect();
    for service in &mut model.services {
        if service.discovery.is_some()
            && let Some(found) = found.get(&service.name)
        {
            merge(service, found, &vips, &mut refused);
        }
    }
    (model, refused)
}

/// Why nothing of what was found could be taken, if that is so. Then it is no answer: a server that
/// says 127.0.0.1 of every name, for example, knows none.
#[must_use]
pub fn useless(file: &Model, name: &str, found: &[Found]) -> Option<String> {
    let mut service = file.services.iter().find(|one| one.name == *name)?.clone();
    let vips = file.services.iter().map(|one| one.address).collect();
    let mut refused = Vec::new();
    merge(&mut service, found, &vips, &mut refused);
    if refused.len() < found.len() {
        return None;
    }
    refused.into_iter().next()
}

fn merge(
    service: &mut Service,
    found: &[Found],
    vips: &HashSet<IpAddr>,
    refused: &mut Vec<String>,
) {
    let mut names: HashSet<String> = service
        .backends
        .iter()
        .map(|backend| backend.name.clone())
        .collect();
    let mut endpoints: HashSet<(IpAddr, u16)> = service
        .backends
        .iter()
        .map(|backend| (backend.address, backend.port))
        .collect();
    for one in found {
        let backend = Backend {
            name: one.name.clone(),
            address: one.address,
            port: one.port.unwrap_or(service.port),
            weight: one.weight.unwrap_or(1),
            role: one.role(),
            server_id: None,
        };
        let endpoint = (backend.address, backend.port);
        let reason = if names.contains(&backend.name) {
            Some("its name is taken".to_owned())
        } else if endpoints.contains(&endpoint) {
            Some(format!(
                "{} is a backend already",
                SocketAddr::new(backend.address, backend.port)
            ))
        } else if vips.contains(&backend.address) && backend.address != service.address {
            // Its packets would come back here, and from there perhaps to the first.
            Some(format!(
                "{} is the address of a service here",
                backend.address
            ))
        } else {
            refusal(service, &backend)
        };
        if let Some(reason) = reason {
            refused.push(format!(
                "backend {}/{} that was discovered is left out: {reason}",
                service.name, backend.name
            ));
            continue;
        }
        names.insert(backend.name.clone());
        endpoints.insert(endpoint);
        service.backends.push(backend);
    }
}

/// Why the service could not have such a backend.
fn refusal(service: &Service, backend: &Backend) -> Option<String> {
    let Backend {
        name,
        address,
        port,
        weight,
        ..
    } = backend;
    let is_name = (1..=64).contains(&name.chars().count())
        && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
    if !is_name {
        return Some("its name is empty, too long, or has spaces or a slash".to_owned());
    }
    if let Some(reason) = refused_backend(*address) {
        return Some(format!("{address} {reason}"));
    }
    if *address == service.address {
        return Some(format!("{address} is the service's own"));
    }
    if address.is_ipv4() != service.address.is_ipv4() && !may_cross(service) {
        return Some(format!(
            "{address} is of another family than the service's {}",
            service.address
        ));
    }
    if *port == 0 {
        return Some("port 0".to_owned());
    }
    if !Forwarding::sees_replies(service.forwarding as u8) && *port != service.port {
        return Some(format!(
            "port {port} is not the service's {}, and direct return cannot change ports",
            service.port
        ));
    }
    if *weight > HIGHEST_WEIGHT {
        return Some(format!(
            "weight {weight} is too large (allowed: 0 to {HIGHEST_WEIGHT})"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [agent]
        interfaces = ["eth0"]
        [[service]]
        name = "other"
        address = "203.0.113.11"
        port = 80
        [[service]]
        name = "web"
        address = "203.0.113.10"
        port = 80
        [service.discovery]
        kind = "dns"
        name = "web.example.org"
        [[service.backend]]
        name = "fixed"
        address = "10.0.0.1"
    "#;

    fn found(name: &str, address: &str) -> Found {
        Found {
            name: name.to_owned(),
            address: address.parse().unwrap(),
            port: None,
            weight: None,
            is_backup: false,
        }
    }

    fn merge_of(file: &str, all: Vec<Found>) -> (Vec<String>, Vec<String>) {
        let file = crate::config::parse(file.as_bytes()).unwrap().model;
        let (model, refused) = merged(&file, &AllFound::from([("web".to_owned(), all)]));
        let web = model.services.iter().find(|one| one.name == "web").unwrap();
        let names = web.backends.iter();
        (names.map(|one| one.name.clone()).collect(), refused)
    }

    #[test]
    fn what_is_found_comes_behind_what_the_file_says() {
        let (names, refused) = merge_of(FILE, vec![found("a", "10.0.0.2"), found("b", "10.0.0.3")]);
        assert_eq!(names, ["fixed", "a", "b"]);
        assert!(refused.is_empty(), "{refused:?}");
    }

    #[test]
    fn lies_are_left_out_and_told() {
        let rows = [
            (found("fixed", "10.0.0.2"), "its name is taken"),
            (found("a", "10.0.0.1"), "10.0.0.1:80 is a backend already"),
            (found("a", "127.0.0.1"), "loopback"),
            (found("a", "0.0.0.0"), "unspecified"),
            (found("a", "203.0.113.10"), "the service's own"),
            (found("a", "203.0.113.11"), "of a service here"),
            (found("a", "224.0.0.1"), "multicast"),
            (found("a", "255.255.255.255"), "broadcast"),
            (found("a", "2001:db8::1"), "another family"),
            (found("a b", "10.0.0.2"), "its name"),
            (found(&"x".repeat(65), "10.0.0.2"), "its name"),
            (
                Found {
                    port: Some(0),
                    ..found("a", "10.0.0.2")
                },
                "port 0",
            ),
            (
                Found {
                    weight: Some(257),
                    ..found("a", "10.0.0.2")
                },
                "weight 257",
            ),
        ];
        for (one, reason) in rows {
            let (names, refused) = merge_of(FILE, vec![one, found("good", "10.0.0.9")]);
            assert_eq!(names, ["fixed", "good"], "{reason}");
            assert!(refused[0].contains(reason), "{refused:?}");
        }
    }

    #[test]
    fn an_answer_of_which_nothing_can_be_taken_is_useless() {
        let file = crate::config::parse(FILE.as_bytes()).unwrap().model;
        let reason = |all: &[Found]| useless(&file, "web", all);
        let (good, bad) = (found("a", "10.0.0.2"), found("b", "127.0.0.1"));
        assert!(
            reason(std::slice::from_ref(&bad))
                .unwrap()
                .contains("loopback")
        );
        assert_eq!(reason(&[bad, good]), None);
        assert_eq!(reason(&[]), None);
    }

    #[test]
    fn a_service_that_asks_for_nothing_gets_nothing() {
        let file = FILE.replace(
            "[service.discovery]\n        kind = \"dns\"\n        name = \"web.example.org\"\n",
            "",
        );
        assert_eq!(merge_of(&file, vec![found("a", "10.0.0.2")]).0, ["fixed"]);
    }
}
