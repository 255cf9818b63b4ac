//! The way to each backend, and whether its host answers where its check does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Finding, Severity};
use crate::{config::model::Model, next_hop::Way, status::Status};

/// What is wrong with them. `answering` are the hosts that answered a ping, if one could be sent.
pub(super) fn judge(
    model: &Model,
    ways: &BTreeMap<IpAddr, Way>,
    answering: Option<&BTreeSet<IpAddr>>,
    status: Option<&Status>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for service in &model.services {
        for backend in &service.backends {
            let subject = format!("{}/{}", service.name, backend.name);
            let address = backend.address;
            let answers_ping = answering.is_some_and(|hosts| hosts.contains(&address));
            let found = match ways.get(&address) {
                Some(Way::None { reason }) => Some(unrouted(&subject, address, reason)),
                // A ping has just had it asked for its MAC.
                Some(Way::Via {
                    gateway, answers, ..
                }) if !answers_ping
                    && (*answers == Some(false) || (answers.is_none() && answering.is_some())) =>
                {
                    Some(silent(&subject, address, *gateway))
                }
                Some(Way::Via { .. } | Way::Local) | None => unhealthy(
                    &subject,
                    (&service.name, &backend.name),
                    answers_ping,
                    status,
                ),
            };
            findings.extend(found);
        }
    }
    findings
}

fn unrouted(subject: &str, address: IpAddr, reason: &str) -> Finding {
    Finding::new(
        Severity::Error,
        "route",
        subject,
        format!("{address}: {reason}"),
    )
    .why("packets have no way to it, so it is out of rotation")
    .cure(format!("ip route add {address} via GATEWAY"))
}

fn silent(subject: &str, address: IpAddr, gateway: Option<IpAddr>) -> Finding {
    let (who, whose) = match gateway {
        Some(gateway) => (gateway, format!("the gateway {gateway} to it")),
        None => (address, address.to_string()),
    };
    let protocol = if who.is_ipv4() {
        "ARP"
    } else {
        "neighbour discovery"
    };
    Finding::new(
        Severity::Error,
        "neighbour",
        subject,
        format!("{whose} does not answer ({protocol})"),
    )
    .why("frames have no MAC to go to, so it is out of rotation")
    .cure(format!(
        "ip neigh show {who} says what the kernel tried; the host may be off, in another VLAN, or \
         have another address"
    ))
}

fn unhealthy(
    subject: &str,
    (service, backend): (&str, &str),
    answers_ping: bool,
    status: Option<&Status>,
) -> Option<Finding> {
    let service = status?.services.iter().find(|one| one.name == service)?;
    let backend = service.backends.iter().find(|one| one.name == backend)?;
    if backend.health != "down" {
        return None;
    }
    let finding = if answers_ping {
        let found = format!(
            "its host answers ping, and its check fails: {}",
            backend.last_check
        );
        Finding::new(Severity::Error, "check", subject, found)
            .why("it gets no connections; the network is fine, the server or its check is not")
            .cure(format!(
                "what listens on {}, and the check's port, path and status in the config",
                backend.port
            ))
    } else {
        let found = format!(
            "neither its check nor a ping is answered: {}",
            backend.last_check
        );
        Finding::new(Severity::Error, "down", subject, found)
            .why("it gets no connections")
            .cure("the host, or a firewall before it")
    };
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, doctor::report::checks, status};

    #[test]
    fn the_way_comes_first_and_the_check_last() {
        let text = "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\n\
                    address = \"203.0.113.10\"\nport = 80\n[[service.backend]]\n\
                    name = \"web1\"\naddress = \"10.0.0.11\"\nport = 8080\n";
        let model = config::parse(text.as_bytes()).unwrap().model;
        let address: IpAddr = "10.0.0.11".parse().unwrap();
        let via = |answers| Way::Via {
            ifindex: 1,
            gateway: None,
            answers,
        };
        let none = Way::None {
            reason: "no route".to_owned(),
        };
        let rows: [(Way, bool, &str, &[&str]); 10] = [
            (via(Some(true)), true, "up", &[]),
            (via(None), true, "up", &[]),
            (via(None), false, "down", &["neighbour"]),
            (Way::Local, false, "up", &[]),
            (none, false, "down", &["route"]),
            (via(Some(false)), false, "down", &["neighbour"]),
            (via(Some(true)), true, "down", &["check"]),
            (via(Some(true)), false, "down", &["down"]),
            (via(Some(true)), false, "checking", &[]),
            (via(Some(false)), true, "up", &[]),
        ];
        for (way, pings, health, expected) in rows {
            let mut status = status::tests::example();
            status.services[0].backends[0].health = health.to_owned();
            let answering: BTreeSet<IpAddr> = pings.then_some(address).into_iter().collect();
            let ways = BTreeMap::from([(address, way.clone())]);
            let found = judge(&model, &ways, Some(&answering), Some(&status));
            assert_eq!(checks(&found), expected, "{way:?} {pings} {health}");
        }
    }
}
