//! What was set at run time, and the file that keeps it over a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use lb_common::firewall::Action;
use serde::{Deserialize, Serialize};

use super::plan;
use crate::{
    agent::state_file,
    config::model::{Model, Prefix},
};

/// A larger file is none of ours.
const LARGEST: u64 = 16 << 20;

/// Rules at most.
pub(in crate::agent) const MOST: usize = 10_000;

/// What was set at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::agent) struct Rules(BTreeMap<Place, Rule>);

/// Where one holds: at the host, or for a service, whose name it is; and for which prefix.
pub(in crate::agent) type Place = (Option<String>, (IpAddr, u8));

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) struct Rule {
    pub(in crate::agent) action: Action,
    /// When it ends, by a clock that nobody sets.
    pub(in crate::agent) ends: Option<Instant>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    address: IpAddr,
    length: u8,
    denies: bool,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends: Option<u64>,
}

fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Rules {
    /// What a former agent wrote down. A file of no use is set aside.
    pub(in crate::agent) fn load(state_file: &Path) -> Self {
        let file = beside(state_file);
        match state_file::read_json::<Vec<Entry>>(&file, LARGEST) {
            Ok(entries) => Self::from_entries(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                let kept = state_file::set_aside(&file);
                tracing::warn!(
                    "{} is damaged ({error}); {kept}, and the firewall is the config's",
                    file.display()
                );
                Self::default()
            }
        }
    }

    fn from_entries(entries: Vec<Entry>) -> Self {
        let (now, unix) = (Instant::now(), unix_now());
        let rule = |entry: Entry| {
            let ends = match entry.ends {
                Some(ends) if ends <= unix => return None,
                Some(ends) => Some(now.checked_add(Duration::from_secs(ends - unix))?),
                None => None,
            };
            let action = if entry.denies {
                Action::Deny
            } else {
                Action::Allow
            };
            let place = (entry.service, (entry.address, entry.length));
            Some((place, Rule { action, ends }))
        };
        Self(entries.into_iter().filter_map(rule).take(MOST).collect())
    }

    /// Writes them down; with none, there need be no file.
    pub(in crate::agent) fn save(&self, state_file: &Path) -> io::Result<()> {
        let file = beside(state_file);
        if self.0.is_empty() && !file.exists() {
            return Ok(());
        }
        let (now, unix) = (Instant::now(), unix_now());
        let entry = |((service, (address, length)), rule): (&Place, &Rule)| Entry {
            service: service.clone(),
            address: *address,
            length: *length,
            denies: rule.action == Action::Deny,
            ends: rule
                .ends
                .map(|ends| unix + ends.saturating_duration_since(now).as_secs().max(1)),
        };
        state_file::write_json(&file, &self.0.iter().map(entry).collect::<Vec<_>>())
    }

    /// Whether there are some that are not a service's.
    pub(in crate::agent) fn has_of_host(&self) -> bool {
        self.of(None).next().is_some()
    }

    pub(in crate::agent) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those of a service, or of the host.
    pub(in crate::agent) fn of(
        &self,
        service: Option<&str>,
    ) -> impl Iterator<Item = ((IpAddr, u8), &Rule)> {
        let own = self
            .0
            .iter()
            .filter(move |((own, _), _)| own.as_deref() == service);
        own.map(|((_, key), rule)| (*key, rule))
    }

    /// Services that have some.
    pub(in crate::agent) fn services(&self) -> BTreeSet<&str> {
        let services = self.0.keys().filter_map(|(service, _)| service.as_deref());
        services.collect()
    }

    pub(in crate::agent) fn set(&mut self, place: Place, rule: Rule) {
        self.0.insert(place, rule);
    }

    pub(in crate::agent) fn remove(&mut self, place: &Place) -> bool {
        self.0.remove(place).is_some()
    }

    /// Takes out all, or those of a service. Says how many.
    pub(in crate::agent) fn clear(&mut self, service: Option<&str>) -> usize {
        let before = self.0.len();
        match service {
            None => self.0.clear(),
            Some(service) => self.0.retain(|(own, _), _| own.as_deref() != Some(service)),
        }
        before - self.0.len()
    }

    /// Puts those of services into a config.
    pub(in crate::agent) fn put_into(&self, model: &mut Model) {
        let services = self.services();
        for service in &mut model.services {
            service.firewall.set.clear();
            if !services.contains(service.name.as_str()) {
                continue;
            }
            let own = self.of(Some(&service.name));
            service.firewall.set.extend(
                own.map(|((address, length), rule)| (Prefix { address, length }, rule.action)),
            );
        }
    }

    /// Takes out what has ended, and says which.
    pub(in crate::agent) fn expire(&mut self, now: Instant) -> Vec<Place> {
        let ended = |rule: &Rule| rule.ends.is_some_and(|ends| ends <= now);
        let over = self.0.iter().filter(|(_, rule)| ended(rule));
        let over: Vec<_> = over.map(|(place, _)| place.clone()).collect();
        for place in &over {
            self.0.remove(place);
        }
        over
    }

    /// Those of the host, as the plan takes them.
    pub(in crate::agent) fn actions(&self) -> plan::Rules {
        let rules = self.of(None);
        rules.map(|(key, rule)| (key, rule.action)).collect()
    }
}

/// What is set at a place, in words.
pub(in crate::agent) fn in_words((service, (address, length)): &Place) -> String {
    let service = service.as_ref();
    let of = service.map_or(String::new(), |service| format!(" of service {service}"));
    format!("{address}/{length}{of}")
}

/// Beside the state file.
fn beside(state_file: &Path) -> PathBuf {
    state_file.with_extension("firewall.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: Action, ends: Option<u64>) -> Rule {
        Rule {
            action,
            ends: ends.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
        }
    }

    fn at(service: Option<&str>, address: &str, length: u8) -> Place {
        (
            service.map(str::to_owned),
            (address.parse().unwrap(), length),
        )
    }

    #[test]
    fn what_is_saved_is_loaded_but_for_what_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        assert_eq!(Rules::load(&file).len(), 0);
        Rules::default().save(&file).unwrap();
        assert!(!beside(&file).exists());
        let mut rules = Rules::default();
        let (one, other) = (at(None, "192.0.2.1", 32), at(Some("web"), "2001:db8::", 32));
        rules.set(one.clone(), rule(Action::Deny, Some(600)));
        rules.set(other.clone(), rule(Action::Allow, None));
        rules.save(&file).unwrap();
        let again = Rules::load(&file);
        assert_eq!(again.actions(), rules.actions());
        assert_eq!(again.actions().len(), 1);
        let left = again.0[&one].ends.unwrap() - Instant::now();
        assert!(left > Duration::from_secs(590) && left <= Duration::from_secs(600));
        assert_eq!(again.0[&other], rules.0[&other]);
        let past = r#"[{"address": "192.0.2.9", "length": 32, "denies": true, "ends": 1}]"#;
        std::fs::write(beside(&file), past).unwrap();
        assert_eq!(Rules::load(&file).len(), 0);
        std::fs::write(beside(&file), "[{").unwrap();
        assert_eq!(Rules::load(&file).len(), 0);
        assert!(!beside(&file).exists(), "it is set aside");
    }

    #[test]
    fn rules_end() {
        let mut rules = Rules::default();
        let (long, short) = (at(None, "192.0.2.1", 24), at(Some("web"), "192.0.2.1", 32));
        rules.set(short.clone(), rule(Action::Deny, Some(5)));
        rules.set(long, rule(Action::Deny, None));
        let now = Instant::now();
        assert_eq!(rules.expire(now), []);
        assert_eq!(rules.expire(now + Duration::from_secs(6)), [short]);
        assert_eq!(rules.len(), 1);
    }

    #[test]
    fn a_service_has_its_own() {
        let text = "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\naddress = \
                    \"203.0.113.10\"\nport = 80\n[[service.backend]]\nname = \"b\"\naddress = \
                    \"10.0.0.11\"\n";
        let mut model = crate::config::parse(text.as_bytes()).unwrap().model;
        let mut rules = Rules::default();
        for (service, address) in [
            (None, "192.0.2.1"),
            (Some("web"), "192.0.2.2"),
            (Some("gone"), "192.0.2.3"),
        ] {
            rules.set(at(service, address, 32), rule(Action::Deny, None));
        }
        rules.put_into(&mut model);
        let set = |model: &Model| {
            let set = model.services[0].firewall.set.iter();
            set.map(|(prefix, action)| format!("{prefix} {action:?}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(set(&model), ["192.0.2.2/32 Deny"]);
        assert!(model.services[0].firewall.is_used());
        assert_eq!(rules.clear(Some("web")), 1);
        rules.put_into(&mut model);
        assert!(!model.services[0].firewall.is_used());
        assert_eq!(rules.clear(None), 2);
    }
}
