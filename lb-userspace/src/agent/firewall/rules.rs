//! What was set at run time, and the file that keeps it over a restart.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use lb_common::firewall::Action;
use serde::{Deserialize, Serialize};

use super::plan;
use crate::agent::state_file;

/// A larger file is none of ours.
const LARGEST: u64 = 16 << 20;

/// Rules at most.
pub(in crate::agent) const MOST: usize = 10_000;

/// What was set at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::agent) struct Rules(BTreeMap<(IpAddr, u8), Rule>);

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
        let file = place(state_file);
        match state_file::read_json::<Vec<Entry>>(&file, LARGEST) {
            Ok(entries) => Self::of(entries),
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

    fn of(entries: Vec<Entry>) -> Self {
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
            Some(((entry.address, entry.length), Rule { action, ends }))
        };
        Self(entries.into_iter().filter_map(rule).take(MOST).collect())
    }

    /// Writes them down; with none, there need be no file.
    pub(in crate::agent) fn save(&self, state_file: &Path) -> io::Result<()> {
        let file = place(state_file);
        if self.0.is_empty() && !file.exists() {
            return Ok(());
        }
        let (now, unix) = (Instant::now(), unix_now());
        let entry = |((address, length), rule): (&(IpAddr, u8), &Rule)| Entry {
            address: *address,
            length: *length,
            denies: rule.action == Action::Deny,
            ends: rule
                .ends
                .map(|ends| unix + ends.saturating_duration_since(now).as_secs().max(1)),
        };
        state_file::write_json(&file, &self.0.iter().map(entry).collect::<Vec<_>>())
    }

    pub(in crate::agent) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::agent) fn len(&self) -> usize {
        self.0.len()
    }

    pub(in crate::agent) fn iter(&self) -> impl Iterator<Item = (&(IpAddr, u8), &Rule)> {
        self.0.iter()
    }

    pub(in crate::agent) fn set(&mut self, key: (IpAddr, u8), rule: Rule) {
        self.0.insert(key, rule);
    }

    pub(in crate::agent) fn remove(&mut self, key: (IpAddr, u8)) -> bool {
        self.0.remove(&key).is_some()
    }

    /// Takes out what has ended, and says which.
    pub(in crate::agent) fn expire(&mut self, now: Instant) -> Vec<(IpAddr, u8)> {
        let ended = |rule: &Rule| rule.ends.is_some_and(|ends| ends <= now);
        let over = self.0.iter().filter(|(_, rule)| ended(rule));
        let over: Vec<_> = over.map(|(key, _)| *key).collect();
        for key in &over {
            self.0.remove(key);
        }
        over
    }

    /// As the plan takes them.
    pub(in crate::agent) fn actions(&self) -> plan::Rules {
        let rules = self.0.iter();
        rules.map(|(key, rule)| (*key, rule.action)).collect()
    }
}

/// Beside the state file.
fn place(state_file: &Path) -> PathBuf {
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

    #[test]
    fn what_is_saved_is_loaded_but_for_what_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        assert!(Rules::load(&file).is_empty());
        Rules::default().save(&file).unwrap();
        assert!(!place(&file).exists());
        let mut rules = Rules::default();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "2001:db8::".parse().unwrap());
        rules.set((one, 32), rule(Action::Deny, Some(600)));
        rules.set((other, 32), rule(Action::Allow, None));
        rules.save(&file).unwrap();
        let again = Rules::load(&file);
        assert_eq!(again.actions(), rules.actions());
        let left = again.0[&(one, 32)].ends.unwrap() - Instant::now();
        assert!(left > Duration::from_secs(590) && left <= Duration::from_secs(600));
        assert_eq!(again.0[&(other, 32)].ends, None);
        let past = r#"[{"address": "192.0.2.9", "length": 32, "denies": true, "ends": 1}]"#;
        std::fs::write(place(&file), past).unwrap();
        assert!(Rules::load(&file).is_empty());
        std::fs::write(place(&file), "[{").unwrap();
        assert!(Rules::load(&file).is_empty());
        assert!(!place(&file).exists(), "it is set aside");
    }

    #[test]
    fn rules_end() {
        let mut rules = Rules::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        rules.set((address, 32), rule(Action::Deny, Some(5)));
        rules.set((address, 24), rule(Action::Deny, None));
        let now = Instant::now();
        assert_eq!(rules.expire(now), []);
        assert_eq!(rules.expire(now + Duration::from_secs(6)), [(address, 32)]);
        assert_eq!(rules.len(), 1);
    }
}
