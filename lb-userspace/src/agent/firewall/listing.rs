//! `lb firewall list`: what holds.

use std::time::{Duration, Instant};

use lb_common::{
    abi::Ticks,
    firewall::{Action, offender::Offender, rate::Kind},
};

use crate::{
    agent::core::Core,
    config::model::firewall::Lists,
    dataplane::FlowTables,
    firewall::{self, Document, Listed},
};

/// Rules that are listed at most.
const MOST_LISTED: usize = 20_000;

impl Core {
    /// What holds.
    pub(in crate::agent) fn firewall_document(&mut self) -> Document {
        let now = Instant::now();
        let counters = self
            .dataplane
            .as_ref()
            .and_then(|dataplane| dataplane.tables.counters().ok())
            .unwrap_or_default();
        let of = |list: &[(&'static str, u64)], label: &str| {
            let found = list.iter().find(|(own, _)| *own == label);
            found.map_or(0, |(_, count)| *count)
        };
        let mut document = Document {
            active: self
                .dataplane
                .as_mut()
                .is_some_and(|dataplane| dataplane.tables.firewall().is_there()),
            dropped: of(&counters.verdicts, "drop_denied"),
            dropped_of_offenders: of(&counters.verdicts, "drop_offender"),
            would_drop: of(&counters.events, "firewall_would_drop"),
            awaits_confirmation: self
                .probation
                .as_ref()
                .map(|one| one.ends.saturating_duration_since(now).as_secs()),
            ..Document::default()
        };
        if let Some(held) = self.wall.held() {
            document.dry_run = held.is_dry_run;
            let denied = held.entries.values().filter(|one| **one == Action::Deny);
            document.denied = denied.count() as u64;
            document.allowed = held.entries.len() as u64 - document.denied;
        }
        let set = |service| {
            let rules = self.rules.of(service);
            rules.map(|((address, length), rule)| firewall::Rule {
                prefix: format!("{address}/{length}"),
                action: word(rule.action).to_owned(),
                origin: "run time".to_owned(),
                seconds_left: rule
                    .ends
                    .map(|ends| ends.saturating_duration_since(now).as_secs()),
            })
        };
        document.rules = set(None).collect();
        let config = &self.model.firewall;
        let (rules, files) = written(&config.deny, &config.allow);
        document.rules.extend(rules);
        document.files = files;
        document.rules.truncate(MOST_LISTED);
        let with_lists = self
            .model
            .services
            .iter()
            .filter(|service| service.firewall.is_used());
        document.services = with_lists
            .map(|service| {
                let (config, files) = written(&service.firewall.deny, &service.firewall.allow);
                let mut rules: Vec<_> = set(Some(&service.name)).collect();
                rules.extend(config);
                rules.truncate(MOST_LISTED);
                firewall::ServiceRules {
                    service: service.name.clone(),
                    allowed_only: service.firewall.is_restricted(),
                    rules,
                    files,
                }
            })
            .collect();
        // They wait for their service to come back.
        for name in self.rules.services() {
            if self.model.services.iter().all(|one| one.name != name) {
                document.services.push(firewall::ServiceRules {
                    service: name.to_owned(),
                    allowed_only: false,
                    rules: set(Some(name)).collect(),
                    files: Vec::new(),
                });
            }
        }
        let tick = FlowTables::now();
        let mut offenders = self.offenders(None);
        offenders.sort_by_key(|(prefix, _)| prefix.address());
        let described = offenders
            .iter()
            .take(MOST_LISTED)
            .map(|(prefix, offender)| {
                let left =
                    Duration::from_nanos(u64::from(offender.until().since(tick)) << Ticks::SHIFT);
                firewall::Offender {
                    prefix: format!("{}/{}", prefix.address(), prefix.length()),
                    exceeded: exceeded(*offender).to_owned(),
                    seconds_left: left.as_secs(),
                }
            });
        document.offenders = described.collect();
        document
    }
}

/// What the config itself and its files name.
fn written(deny: &Lists, allow: &Lists) -> (Vec<firewall::Rule>, Vec<Listed>) {
    let (mut rules, mut files) = (Vec::new(), Vec::new());
    for (lists, action) in [(deny, Action::Deny), (allow, Action::Allow)] {
        let written = lists.prefixes.iter().map(|prefix| firewall::Rule {
            prefix: prefix.to_string(),
            action: word(action).to_owned(),
            origin: "config".to_owned(),
            seconds_left: None,
        });
        rules.extend(written);
        if !lists.files.is_empty() {
            files.push(Listed {
                action: word(action).to_owned(),
                files: lists
                    .files
                    .iter()
                    .map(|file| file.display().to_string())
                    .collect(),
                prefixes: lists.listed.len() as u64,
            });
        }
    }
    (rules, files)
}

/// The key of the limit that one exceeded.
const fn exceeded(offender: Offender) -> &'static str {
    match offender.exceeded() {
        Some(Kind::Connections) => "new_connections",
        Some(Kind::Packets) => "packets",
        Some(Kind::Flows) => "flows",
        None => "a limit",
    }
}

const fn word(action: Action) -> &'static str {
    match action {
        Action::Deny => "deny",
        Action::Allow => "allow",
    }
}
