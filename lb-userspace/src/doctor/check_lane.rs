//! The interfaces that checks with `via = "service"` take into the data path.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Finding, Severity};
use crate::{
    check_lane::{SOCKETS_END, STEERING_END},
    config::model::{Model, Via},
    next_hop::{Link, Way},
    status::Status,
};

/// Services whose checks go through them to backends that answer by an interface without steering,
/// one finding for each such interface.
pub(super) fn unheard(model: &Model, links: &[Link], ways: &BTreeMap<IpAddr, Way>) -> Vec<Finding> {
    let steers = |link: &Link| model.agent.interfaces.contains(&link.name);
    let by_index = |ifindex: u32| links.iter().find(|link| link.ifindex == ifindex);
    let mut found = BTreeMap::new();
    for service in &model.services {
        if service.health_check.via != Via::Service {
            continue;
        }
        for backend in &service.backends {
            let Some(Way::Via { ifindex, .. }) = ways.get(&backend.address) else {
                continue;
            };
            let Some(link) = by_index(*ifindex) else {
                continue;
            };
            let below = link.vlan.and_then(|vlan| by_index(vlan.parent));
            if !steers(link) && !below.is_some_and(steers) {
                let first = format!("{}/{}", service.name, backend.name);
                found.entry(&*link.name).or_insert(first);
            }
        }
    }
    let finding = |(name, backend): (&str, String)| {
        let found =
            format!("backends, {backend} for one, are reached by it, and steering is not on it");
        Finding::new(Severity::Error, "check_lane", name, found)
            .why(
                "replies to checks with via = \"service\" come in there and are not steered, so the \
                 checks fail, though clients may be served",
            )
            .cure(format!("{name} in agent.interfaces"))
    };
    found.into_iter().map(finding).collect()
}

/// What is wrong with them, where an agent runs that needs them.
pub(super) fn judge(model: &Model, links: &[Link], status: Option<&Status>) -> Option<Finding> {
    let mut services = model.services.iter();
    let status = status?;
    services.find(|service| service.health_check.via == Via::Service)?;
    let finding = |name: &str, found: &str| {
        Finding::new(Severity::Error, "check_lane", name, found)
            .why("checks with via = \"service\" fail or are not made, whatever the backends do")
            .cure("systemctl restart lb")
    };
    for name in [SOCKETS_END, STEERING_END] {
        let Some(link) = links.iter().find(|link| link.name == name) else {
            return Some(finding(name, "there is no such interface any more"));
        };
        if !link.is_usable() {
            return Some(finding(name, "it is down"));
        }
    }
    let end = links.iter().find(|link| link.name == STEERING_END)?;
    let has_ours = end.xdp.is_some_and(|program| {
        let mut interfaces = status.interfaces.iter();
        interfaces.any(|interface| interface.program_id == program.id)
    });
    (!has_ours).then(|| finding(STEERING_END, "our XDP program is not on it any more"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        doctor::report::checks,
        next_hop::{Vlan, XdpProgram},
        status::{self, Interface},
    };

    fn link(name: &str, program: Option<u32>) -> Link {
        Link {
            ifindex: 7,
            name: name.to_owned(),
            mac: None,
            mtu: 1500,
            is_up: true,
            has_carrier: true,
            xdp: program.map(|id| XdpProgram {
                id,
                is_native: false,
            }),
            vlan: None,
            is_bond: false,
            controller: None,
        }
    }

    fn model(via: &str) -> Model {
        let text = format!(
            "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\n\
             address = \"203.0.113.10\"\nport = 80\n[service.health_check]\nvia = \"{via}\"\n\
             [[service.backend]]\nname = \"web1\"\naddress = \"10.0.0.11\"\n"
        );
        config::parse(text.as_bytes()).unwrap().model
    }

    #[test]
    fn who_answers_by_another_interface_is_not_heard() {
        let named = |ifindex, name: &str, parent: Option<u32>| Link {
            ifindex,
            vlan: parent.map(|parent| Vlan {
                parent,
                id: 9,
                is_dot1q: true,
            }),
            ..link(name, None)
        };
        let links = [
            named(1, "eth0", None),
            named(2, "eth1", None),
            named(3, "eth0.9", Some(1)),
            named(4, "eth1.9", Some(2)),
        ];
        let found = |via: &str, ifindex| {
            let way = Way::Via {
                ifindex,
                gateway: None,
                answers: Some(true),
            };
            let ways = BTreeMap::from([([10, 0, 0, 11].into(), way)]);
            let found = unheard(&model(via), &links, &ways).into_iter();
            found.map(|finding| finding.subject).collect::<Vec<_>>()
        };
        assert_eq!(found("service", 1), [""; 0]);
        assert_eq!(found("service", 2), ["eth1"]);
        assert_eq!(found("service", 3), [""; 0]);
        assert_eq!(found("service", 4), ["eth1.9"]);
        assert_eq!(found("direct", 2), [""; 0]);
    }

    #[test]
    fn it_is_there_and_up_and_steered() {
        let mut status = status::tests::example();
        status.interfaces = vec![Interface {
            name: "eth0".to_owned(),
            xdp_mode: "native".to_owned(),
            program_id: 12,
        }];
        let sockets = || link(SOCKETS_END, None);
        let down = Link {
            is_up: false,
            ..link(STEERING_END, Some(12))
        };
        let rows: [(Vec<Link>, &[&str]); 5] = [
            (vec![sockets(), link(STEERING_END, Some(12))], &[]),
            (
                vec![sockets(), link(STEERING_END, Some(13))],
                &["check_lane"],
            ),
            (vec![sockets(), link(STEERING_END, None)], &["check_lane"]),
            (vec![sockets(), down], &["check_lane"]),
            (Vec::new(), &["check_lane"]),
        ];
        for (links, expected) in rows {
            let found = judge(&model("service"), &links, Some(&status));
            assert_eq!(checks(&Vec::from_iter(found)), expected, "{links:?}");
        }
        assert_eq!(judge(&model("direct"), &[], Some(&status)), None);
        assert_eq!(judge(&model("service"), &[], None), None);
    }
}
