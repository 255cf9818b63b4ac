//! What a new config changes: a pure comparison.

use std::{collections::HashMap, fmt::Debug};

use crate::{
    config::model::{Backend, Model, Service},
    mysql,
};

/// How two configs differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// What a running agent cannot take over, a sentence each.
    pub(super) needs_restart: Vec<String>,
    /// What becomes different, a line each, in the order of the new config.
    pub(super) changes: Vec<String>,
}

/// From the config that runs to a new one.
pub(super) fn difference(old: &Model, new: &Model) -> Difference {
    let mysql = mysql::difference(old.mysql.as_ref(), new.mysql.as_ref());
    let mut changes = changes(old, new);
    changes.extend(mysql.changes);
    Difference {
        needs_restart: needs_restart(old, new, &mysql.needs_restart),
        changes,
    }
}

fn needs_restart(old: &Model, new: &Model, mysql: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    let mut restart = |key: &str, is_same: bool, why: &str| {
        if !is_same {
            all.push(format!("{key} is another one, {why}"));
        }
    };
    let plain = "which takes a restart";
    restart(
        "agent.pin_path",
        old.agent.pin_path == new.agent.pin_path,
        plain,
    );
    restart(
        "agent.xdp_mode",
        old.agent.xdp_mode == new.agent.xdp_mode,
        plain,
    );
    restart(
        "agent.log_level or agent.log_format",
        old.agent.log == new.agent.log,
        plain,
    );
    restart("agent.user", old.agent.user == new.agent.user, plain);
    restart("[admin]", old.admin == new.admin, plain);
    restart("[app_host]", old.app_host == new.app_host, plain);
    restart("[cluster]", old.cluster == new.cluster, plain);
    for key in mysql {
        restart(key, false, plain);
    }
    restart(
        "[limits]",
        old.limits == new.limits,
        "which takes a start with `lb run --replace-tables`: tables keep the size they were made \
         with",
    );
    let steers = |model: &Model| !model.services.is_empty() || !model.agent.interfaces.is_empty();
    if steers(old) && !steers(new) {
        all.push("there is nothing left to steer, which takes a restart".to_owned());
    }
    all
}

fn changes(old: &Model, new: &Model) -> Vec<String> {
    let mut lines = Vec::new();
    if old.agent.interfaces != new.agent.interfaces {
        lines.push(format!("interfaces: {}", new.agent.interfaces.join(", ")));
    }
    if old.agent.on_exit != new.agent.on_exit {
        lines.push("agent.on_exit".to_owned());
    }
    if old.agent.on_new_layout != new.agent.on_new_layout {
        lines.push("agent.on_new_layout".to_owned());
    }
    if old.agent.state_file != new.agent.state_file {
        lines.push(format!(
            "agent.state_file: {}",
            new.agent.state_file.display()
        ));
    }
    if old.firewall != new.firewall {
        lines.push("firewall".to_owned());
    }
    let mut before: HashMap<&str, &Service> = old
        .services
        .iter()
        .map(|service| (service.name.as_str(), service))
        .collect();
    for service in &new.services {
        match before.remove(service.name.as_str()) {
            Some(known) => service_changes(known, service, &mut lines),
            None => lines.push(format!("service {} is new", service.name)),
        }
    }
    for service in &old.services {
        if before.contains_key(service.name.as_str()) {
            lines.push(format!("service {} is gone", service.name));
        }
    }
    lines
}

fn service_changes(old: &Service, new: &Service, lines: &mut Vec<String>) {
    let name = &new.name;
    let mut keys = Vec::new();
    let mut compare = |key: &'static str, is_same: bool| {
        if !is_same {
            keys.push(key);
        }
    };
    compare(
        "address and port",
        (old.address, old.port, old.protocol) == (new.address, new.port, new.protocol),
    );
    compare("scheduler", old.scheduler == new.scheduler);
    compare("forwarding", old.forwarding == new.forwarding);
    compare(
        "health check",
        (&old.health_check, old.passive) == (&new.health_check, new.passive),
    );
    compare("firewall", old.firewall == new.firewall);
    let rest = |service: &Service| Service {
        name: String::new(),
        address: new.address,
        port: new.port,
        protocol: new.protocol,
        scheduler: new.scheduler,
        forwarding: new.forwarding,
        health_check: new.health_check.clone(),
        passive: new.passive,
        firewall: new.firewall.clone(),
        backends: Vec::new(),
        ..service.clone()
    };
    compare("other settings", rest(old) == rest(new));
    if !keys.is_empty() {
        lines.push(format!("service {name}: {}", keys.join(", ")));
    }
    let mut before: HashMap<&str, &Backend> = old
        .backends
        .iter()
        .map(|backend| (backend.name.as_str(), backend))
        .collect();
    for backend in &new.backends {
        match before.remove(backend.name.as_str()) {
            Some(known) => lines.extend(backend_changes(name, known, backend)),
            None => lines.push(format!("backend {name}/{} is new", backend.name)),
        }
    }
    for backend in &old.backends {
        if before.contains_key(backend.name.as_str()) {
            lines.push(format!("backend {name}/{} is gone", backend.name));
        }
    }
    let order = |service: &Service| -> Vec<String> {
        service
            .backends
            .iter()
            .map(|backend| backend.name.clone())
            .collect()
    };
    let (mut sorted_old, mut sorted_new) = (order(old), order(new));
    if sorted_old != sorted_new {
        sorted_old.sort_unstable();
        sorted_new.sort_unstable();
        if sorted_old == sorted_new {
            lines.push(format!("service {name}: order of the backends"));
        }
    }
}

fn backend_changes(service: &str, old: &Backend, new: &Backend) -> Option<String> {
    let mut parts = Vec::new();
    let from_to = |key: &str, old: &dyn Debug, new: &dyn Debug| format!("{key} {old:?} -> {new:?}");
    if (old.address, old.port) != (new.address, new.port) {
        parts.push(from_to(
            "address",
            &std::net::SocketAddr::new(old.address, old.port),
            &std::net::SocketAddr::new(new.address, new.port),
        ));
    }
    if old.weight != new.weight {
        parts.push(from_to("weight", &old.weight, &new.weight));
    }
    if old.role != new.role {
        parts.push(from_to("role", &old.role, &new.role).to_lowercase());
    }
    if old.server_id != new.server_id {
        parts.push("server_id".to_owned());
    }
    (!parts.is_empty()).then(|| format!("backend {service}/{}: {}", new.name, parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"
        [agent]
        interfaces = ["eth0"]
        [[service]]
        name = "web"
        address = "203.0.113.10"
        port = 80
        [service.health_check]
        kind = "tcp"
        [[service.backend]]
        name = "web1"
        address = "10.0.0.11"
        [[service.backend]]
        name = "web2"
        address = "10.0.0.12"
        [[service]]
        name = "dns"
        address = "203.0.113.10"
        port = 53
        protocol = "udp"
        [[service.backend]]
        name = "dns1"
        address = "10.0.0.21"
    "#;

    fn from_base(edits: &[(&str, &str)]) -> Difference {
        let mut text = BASE.to_owned();
        for (old, new) in edits {
            assert!(text.contains(old), "{old}");
            text = text.replacen(old, new, 1);
        }
        let parse = |text: &str| crate::config::parse(text.as_bytes()).unwrap().model;
        difference(&parse(BASE), &parse(&text))
    }

    #[test]
    fn the_same_is_no_difference() {
        assert_eq!(from_base(&[]), Difference::default());
    }

    #[test]
    fn each_change_is_a_line() {
        for (edit, expected) in [
            (
                ("port = 80", "port = 81"),
                "service web: address and port|backend web/web1: address 10.0.0.11:80 -> 10.0.0.11:81|backend web/web2: address 10.0.0.12:80 -> 10.0.0.12:81",
            ),
            (
                ("kind = \"tcp\"", "kind = \"none\""),
                "service web: health check",
            ),
            (
                ("port = 80", "port = 80\nscheduler = \"maglev\""),
                "service web: scheduler",
            ),
            (
                ("port = 80", "port = 80\nslow_start_seconds = 3"),
                "service web: other settings",
            ),
            (
                ("10.0.0.11\"", "10.0.0.11\"\nweight = 5"),
                "backend web/web1: weight 1 -> 5",
            ),
            (
                ("10.0.0.11\"", "10.0.0.11\"\nrole = \"backup\""),
                "backend web/web1: role active -> backup",
            ),
            (
                ("\"web1\"", "\"web9\""),
                "backend web/web9 is new|backend web/web1 is gone",
            ),
            (
                ("\"dns\"", "\"names\""),
                "service names is new|service dns is gone",
            ),
            (("\"eth0\"", "\"eth0\", \"eth1\""), "interfaces: eth0, eth1"),
        ] {
            let found = from_base(&[edit]);
            assert_eq!(found.changes.join("|"), expected);
            assert!(found.needs_restart.is_empty(), "{found:?}");
        }
    }

    #[test]
    fn another_order_is_a_change() {
        let found = from_base(&[
            (
                "\"web1\"\n        address = \"10.0.0.11\"",
                "\"x\"\n        address = \"10.0.0.12\"",
            ),
            (
                "\"web2\"\n        address = \"10.0.0.12\"",
                "\"web1\"\n        address = \"10.0.0.11\"",
            ),
            ("\"x\"", "\"web2\""),
        ]);
        assert_eq!(found.changes, ["service web: order of the backends"]);
    }

    #[test]
    fn what_takes_a_restart_is_all_said_at_once() {
        let found = from_base(&[(
            "interfaces = [\"eth0\"]",
            "interfaces = [\"eth0\"]\npin_path = \"/sys/fs/bpf/x\"\nxdp_mode = \"generic\"\n\
             [admin]\nsocket = \"/run/x\"\n[limits]\nflows = 2048",
        )]);
        assert_eq!(found.needs_restart.len(), 4, "{found:?}");
        assert!(
            found.needs_restart[3].contains("--replace-tables"),
            "{found:?}"
        );
    }
}
