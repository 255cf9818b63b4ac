//! The agent: whether it runs, whether it runs with this config, and what it sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use lb_common::abi::{Forwarding, Protocol};
use serde::Deserialize;

use super::{Finding, Running, Severity};
use crate::{
    admin::client,
    config::model::Model,
    flow_list::{
        Query, State,
        document::{Line, NotADocument, Reader},
    },
    status::Status,
};

/// Percentage of a flow table from which on it is nearly full.
const NEARLY_FULL: u64 = 80;
/// Half-open flows of one backend that are no coincidence.
const MANY_HALF_OPEN: u64 = 3;
/// Packets that should have brought a reply: a connection request and its repetitions.
const FEW: u64 = 3;
/// Most flows looked at.
const MOST_FLOWS: u64 = 100_000;

/// Half-open flows by service and backend.
pub(super) type HalfOpen = BTreeMap<(String, String), u64>;

pub(super) struct Facts<'a> {
    pub(super) file: &'a Path,
    pub(super) model: &'a Model,
    pub(super) running: &'a Running,
    pub(super) socket: &'a Path,
    /// Interfaces with a program, in the pins of an agent that is gone.
    pub(super) left_behind: Option<Vec<String>>,
    pub(super) half_open: &'a HalfOpen,
}

/// Asks the agent for flows that only one side has been heard of. What it does not tell is none.
pub(super) fn half_open(socket: &Path) -> HalfOpen {
    #[derive(Deserialize)]
    struct Flow {
        service: String,
        backend: String,
    }

    let query = Query {
        state: Some(State::HalfOpen),
        limit: Some(MOST_FLOWS),
        ..Query::default()
    };
    let mut found = HalfOpen::new();
    let mut reader = Reader::default();
    let _ = client::flows(socket, &query, |piece| {
        reader.read(piece, |line| {
            if let Line::Flow(json) = line
                && let Ok(Flow { service, backend }) = serde_json::from_slice(json)
            {
                *found.entry((service, backend)).or_default() += 1;
            }
            Ok::<(), NotADocument>(())
        })
    });
    found
}

/// What is wrong with it.
pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let file = facts.file.display();
    let run = format!("lb run --config {file}");
    match facts.running {
        Running::Yes(status) => {
            let mut findings = Vec::from_iter(differences(facts, status));
            findings.extend(tables(status));
            findings.extend(replies(facts, status));
            findings.extend(rotation(status));
            findings
        }
        Running::Silent(why) => vec![
            Finding::new(Severity::Error, "agent", "agent", why.clone())
                .why("health checks, and changes of backends, are the agent's work")
                .cure("run this as root; if it hangs, restart it: the data path goes on meanwhile"),
        ],
        Running::No => {
            let socket = facts.socket.display();
            let left = facts.left_behind.as_deref().unwrap_or_default();
            let found = format!("no agent answers at {socket}");
            let (why, check) = if left.is_empty() {
                (idle(facts.model).to_owned(), "agent")
            } else {
                let left = left.join(", ");
                let why = format!(
                    "the program that it left on {left} goes on steering, by tables that nobody \
                     keeps: backends that fail stay in use"
                );
                (why, "left_behind")
            };
            vec![
                Finding::new(Severity::Error, check, "agent", found)
                    .why(why)
                    .cure(format!(
                        "{run}\n(or, to take everything away: lb detach --config {file})"
                    )),
            ]
        }
    }
}

/// What does not happen without an agent.
fn idle(model: &Model) -> &'static str {
    match (model.loads_programs(), &model.mysql) {
        (false, _) => "MySQL's clients find nobody to talk to",
        (true, Some(_)) => "nothing is steered, and MySQL's clients find nobody to talk to",
        (true, None) => "nothing is steered",
    }
}

/// What identifies services and backends, and what a reload brings.
fn configured(model: &Model) -> BTreeSet<String> {
    let mut set = BTreeSet::new();
    for service in &model.services {
        let name = &service.name;
        let protocol = match service.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        set.insert(format!(
            "{name} {} {} {protocol}",
            service.address, service.port
        ));
        for backend in &service.backends {
            set.insert(format!(
                "{name}/{} {} {}",
                backend.name, backend.address, backend.port
            ));
        }
    }
    set
}

fn served(status: &Status) -> BTreeSet<String> {
    let mut set = BTreeSet::new();
    for service in &status.services {
        let name = &service.name;
        set.insert(format!(
            "{name} {} {} {}",
            service.address, service.port, service.protocol
        ));
        for backend in &service.backends {
            set.insert(format!(
                "{name}/{} {} {}",
                backend.name, backend.address, backend.port
            ));
        }
    }
    set
}

fn differences(facts: &Facts<'_>, status: &Status) -> Option<Finding> {
    let same_file = |one: &Path, other: &Path| match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    };
    let theirs = Path::new(&status.agent.config_file);
    let (wanted, found) = (configured(facts.model), served(status));
    let different: Vec<&str> = wanted
        .symmetric_difference(&found)
        .filter_map(|line| line.split(' ').next())
        .take(5)
        .collect();
    if different.is_empty() {
        return None;
    }
    let list = different.join(", ");
    let finding = if same_file(theirs, facts.file) {
        Finding::new(
            Severity::Warning,
            "config",
            "agent",
            format!("the file is not what the agent runs with: {list}"),
        )
        .cure("lb reload")
    } else {
        Finding::new(
            Severity::Warning,
            "config",
            "agent",
            format!(
                "the agent runs with {}, which differs: {list}",
                theirs.display()
            ),
        )
        .cure(format!("lb doctor --config {}", theirs.display()))
    };
    Some(finding.why("the file only counts once the agent has read it"))
}

fn tables(status: &Status) -> Vec<Finding> {
    let full = |table: &&crate::status::FlowTable| {
        table.entries.saturating_mul(100) >= table.capacity.saturating_mul(NEARLY_FULL)
            && table.capacity > 0
    };
    status
        .flow_tables
        .iter()
        .filter(full)
        .map(|table| {
            let found = format!("{} of {} flows", table.entries, table.capacity);
            let key = if table.name == "half_open" {
                "half_open_flows"
            } else {
                "flows"
            };
            Finding::new(Severity::Warning, "flow_table", table.name.clone(), found)
                .why("a full table forgets its oldest flows, whose packets then go to any backend")
                .cure(format!(
                    "a larger limits.{key} in the config, and lb reload"
                ))
        })
        .collect()
}

/// NAT backends that get packets and are not heard of.
fn replies(facts: &Facts<'_>, status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    for service in &facts.model.services {
        let sees_replies = Forwarding::sees_replies(service.forwarding as u8);
        let running = status.services.iter().find(|one| one.name == service.name);
        // Datagrams need no answer.
        let may_be_silent = service.protocol == Protocol::Udp;
        let (Some(running), true, false) = (running, sees_replies, may_be_silent) else {
            continue;
        };
        for backend in &running.backends {
            let key = (service.name.clone(), backend.name.clone());
            let half_open = facts.half_open.get(&key).copied().unwrap_or(0);
            // One that never answered, or of which many connections hang and none is open.
            let is_silent = backend.packets >= FEW && backend.reply_packets == 0;
            let hangs = half_open >= MANY_HALF_OPEN && backend.active_flows == 0;
            if !(is_silent || hangs) {
                continue;
            }
            let full_nat = service.forwarding == Forwarding::FullNat;
            let found = format!(
                "{} packets went there and {} came back; {half_open} connections wait for the \
                 server's answer",
                backend.packets, backend.reply_packets
            );
            let cure = if full_nat {
                format!(
                    "on the backend: ip route get {}",
                    list(&service.source_addresses)
                )
            } else {
                "on the backend: ip route replace default via ADDRESS, with this host's ADDRESS \
                 there\n(or forwarding = \"full-nat\", which needs no route there; or a firewall \
                 there swallows the packets)"
                    .to_owned()
            };
            let subject = format!("{}/{}", service.name, backend.name);
            findings.push(
                Finding::new(Severity::Error, "return_path", subject, found)
                    .why(
                        "replies have to come back through this host to be translated; clients \
                         drop what comes from the backend's own address",
                    )
                    .cure(cure),
            );
        }
    }
    findings
}

fn list(addresses: &[std::net::IpAddr]) -> String {
    addresses
        .first()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// Services that nobody serves.
fn rotation(status: &Status) -> Vec<Finding> {
    status
        .services
        .iter()
        .filter(|service| !service.backends.iter().any(|backend| backend.in_rotation))
        .map(|service| {
            Finding::new(
                Severity::Error,
                "no_backend",
                service.name.clone(),
                "no backend is in rotation",
            )
            .why("new connections get what on_no_backend says")
            .cure("lb status, which says of each backend why it is out")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, doctor::report::checks, status};

    const CONFIG: &str = "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\n\
                          address = \"203.0.113.10\"\nport = 80\n[[service.backend]]\n\
                          name = \"web1\"\naddress = \"10.0.0.11\"\nport = 8080\n";

    fn judged(
        config: &str,
        change: impl FnOnce(&mut Status),
        half_open: u64,
        file: &str,
    ) -> Vec<Finding> {
        let model = config::parse(config.as_bytes()).unwrap().model;
        let mut running = status::tests::example();
        running.services[0].backends[0].reply_packets = 200;
        change(&mut running);
        let half_open = HalfOpen::from([(("web".to_owned(), "web1".to_owned()), half_open)]);
        judge(&Facts {
            file: Path::new(file),
            model: &model,
            running: &Running::Yes(Box::new(running)),
            socket: Path::new("/run/lb/lb.sock"),
            left_behind: None,
            half_open: &half_open,
        })
    }

    #[test]
    fn a_healthy_agent_has_nothing() {
        assert_eq!(checks(&judged(CONFIG, |_| {}, 2, "lb.toml")), [""; 0]);
    }

    #[test]
    fn replies_that_do_not_come_back_are_seen() {
        let silent = |status: &mut Status| status.services[0].backends[0].reply_packets = 0;
        assert_eq!(
            checks(&judged(CONFIG, silent, 0, "lb.toml")),
            ["return_path"]
        );
        let unused = |status: &mut Status| {
            status.services[0].backends[0].reply_packets = 0;
            status.services[0].backends[0].packets = 0;
        };
        assert_eq!(checks(&judged(CONFIG, unused, 0, "lb.toml")), [""; 0]);
        let hangs = |status: &mut Status| status.services[0].backends[0].active_flows = 0;
        assert_eq!(
            checks(&judged(CONFIG, hangs, 3, "lb.toml")),
            ["return_path"]
        );
        let direct = CONFIG.replace("port = 80\n", "port = 8080\nforwarding = \"dsr-l2\"\n");
        let found = judged(&direct, silent, 9, "lb.toml");
        assert_eq!(
            checks(&found),
            ["config"],
            "direct return is never seen here"
        );
    }

    #[test]
    fn another_config_is_told() {
        let other = CONFIG.replace("10.0.0.11", "10.0.0.12");
        let found = judged(&other, |_| {}, 0, "lb.toml");
        assert_eq!(checks(&found), ["config"]);
        assert_eq!(found[0].cure, "lb reload");
        let found = judged(&other, |_| {}, 0, "other.toml");
        assert_eq!(found[0].cure, "lb doctor --config lb.toml");
    }

    #[test]
    fn a_full_table_and_a_service_without_backends_are_told() {
        let found = judged(
            CONFIG,
            |status| {
                status.flow_tables.push(status::FlowTable {
                    name: "established".to_owned(),
                    entries: 80,
                    capacity: 100,
                    expired: 0,
                });
                status.services[0].backends[0].in_rotation = false;
            },
            0,
            "lb.toml",
        );
        assert_eq!(checks(&found), ["flow_table", "no_backend"]);
    }

    #[test]
    fn an_agent_that_is_gone_may_have_left_its_program() {
        let model = config::parse(CONFIG.as_bytes()).unwrap().model;
        let gone = |left: Option<&str>| {
            judge(&Facts {
                file: Path::new("lb.toml"),
                model: &model,
                running: &Running::No,
                socket: Path::new("/s"),
                left_behind: left.map(|name| vec![name.to_owned()]),
                half_open: &HalfOpen::new(),
            })
        };
        assert_eq!(checks(&gone(None)), ["agent"]);
        assert_eq!(checks(&gone(Some("eth0"))), ["left_behind"]);
        let silent = Facts {
            file: Path::new("lb.toml"),
            model: &model,
            running: &Running::Silent("it hangs".to_owned()),
            socket: Path::new("/s"),
            left_behind: None,
            half_open: &HalfOpen::new(),
        };
        assert_eq!(checks(&judge(&silent)), ["agent"]);
    }
}
