//! The interfaces that checks with `via = "service"` take into the data path.

use super::{Finding, Severity};
use crate::{
    check_lane::{SOCKETS_END, STEERING_END},
    config::model::{Model, Via},
    next_hop::Link,
    status::Status,
};

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
        next_hop::XdpProgram,
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
