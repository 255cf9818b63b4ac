//! Whether packets for the services come here.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Finding, Severity};
use crate::{config::model::Model, next_hop::Way, status::Status};

/// What is wrong with the VIPs.
pub(super) fn judge(
    model: &Model,
    ways: &BTreeMap<IpAddr, Way>,
    status: Option<&Status>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut told = Vec::new();
    for service in &model.services {
        let vip = service.address;
        let is_here = matches!(ways.get(&vip), Some(Way::Local));
        // Somebody routes it here, then.
        let gets_packets = status
            .and_then(|status| status.services.iter().find(|one| one.name == service.name))
            .is_some_and(|running| running.connections > 0 || running.packets > 0);
        if is_here || gets_packets || told.contains(&vip) {
            continue;
        }
        told.push(vip);
        let length = if vip.is_ipv4() { 32 } else { 128 };
        let device = model.agent.interfaces.first().map_or("lo", String::as_str);
        findings.push(
            Finding::new(
                Severity::Warning,
                "vip",
                service.name.clone(),
                format!("{vip} is no address of this host, and no packet for it has come"),
            )
            .why(
                "nobody answers for it here (ARP), so its packets only come if a router sends them",
            )
            .cure(format!(
                "ip addr add {vip}/{length} dev {device}\n(or a route to it by this host, on the \
                 router before it)"
            )),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, doctor::report::checks, status};

    #[test]
    fn a_vip_is_here_or_routed_here() {
        let text = "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\n\
                    address = \"203.0.113.10\"\nport = 80\n[[service]]\nname = \"tls\"\n\
                    address = \"203.0.113.10\"\nport = 443\n";
        let model = config::parse(text.as_bytes()).unwrap().model;
        let vip: IpAddr = "203.0.113.10".parse().unwrap();
        let none = Way::None {
            reason: "no route".to_owned(),
        };
        let local = BTreeMap::from([(vip, Way::Local)]);
        let gone = BTreeMap::from([(vip, none)]);
        assert_eq!(checks(&judge(&model, &local, None)), [""; 0]);
        assert_eq!(checks(&judge(&model, &gone, None)), ["vip"], "told once");
        let mut status = status::tests::example();
        assert_eq!(checks(&judge(&model, &gone, Some(&status))), ["vip"]);
        status.services.push(status::Service {
            name: "tls".to_owned(),
            ..status.services[0].clone()
        });
        assert_eq!(checks(&judge(&model, &gone, Some(&status))), [""; 0]);
    }
}
