//! Services' own lists: which scope of the trie is whose, and what stands there.

use std::collections::HashMap;

use lb_common::{
    abi::EndpointKey,
    firewall::{Action, Entry, Prefix, lock::TRUSTED},
};

use super::plan::of_config;
use crate::{agent::plan::service_key, config::model};

/// What the trie should hold of a service.
pub(in crate::agent) type Access = HashMap<Prefix, Entry>;

/// Which scope is whose. One that is given up is not given to another service soon: for a moment the
/// former one may still be asked by it.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Scopes {
    by_service: HashMap<EndpointKey, u32>,
    last: u32,
}

impl Scopes {
    /// Of tables that hold these.
    pub(in crate::agent) fn new(held: impl Iterator<Item = (EndpointKey, u32)>) -> Self {
        let by_service: HashMap<EndpointKey, u32> = held.filter(|(_, scope)| *scope != 0).collect();
        let last = by_service.values().copied().max().unwrap_or_default();
        Self { by_service, last }
    }

    /// The scope of a service; 0 if it has no lists.
    pub(in crate::agent) fn of(&self, key: &EndpointKey) -> u32 {
        self.by_service.get(key).copied().unwrap_or_default()
    }

    /// The same for these services: those that keep their lists keep their scopes.
    pub(in crate::agent) fn next(&self, services: &[model::Service]) -> Self {
        let mut next = Self {
            by_service: HashMap::new(),
            last: self.last,
        };
        let listed = services.iter().filter(|one| one.firewall.is_used());
        for key in listed.map(service_key) {
            let scope = match self.of(&key) {
                0 => next.take(self),
                known => known,
            };
            next.by_service.insert(key, scope);
        }
        next
    }

    fn take(&mut self, before: &Self) -> u32 {
        let is_used = |scope: u32| {
            let mut used = before.by_service.values().chain(self.by_service.values());
            used.any(|one| *one == scope)
        };
        let scopes = (self.last + 1..TRUSTED).chain(1..=self.last);
        // There are fewer services than scopes.
        self.last = scopes
            .into_iter()
            .find(|scope| !is_used(*scope))
            .unwrap_or(1);
        self.last
    }
}

/// What should stand in the scopes.
pub(in crate::agent) fn wanted(
    services: &[model::Service],
    scopes: &Scopes,
) -> HashMap<u32, Access> {
    let listed = services.iter().filter(|one| one.firewall.is_used());
    listed
        .map(|service| (scopes.of(&service_key(service)), access(&service.firewall)))
        .filter(|(scope, _)| *scope != 0)
        .collect()
}

/// What a service's lists come to.
pub(in crate::agent) fn access(lists: &model::firewall::Access) -> Access {
    let mut access = Access::new();
    if lists.is_restricted() {
        access.extend(Prefix::everybody().map(|prefix| (prefix, Entry::NOT_ALLOWED)));
    }
    // The later one beats the same prefix of the former.
    for (list, action) in [(&lists.deny, Action::Deny), (&lists.allow, Action::Allow)] {
        let prefixes = list.all().map(of_config);
        access.extend(prefixes.map(|prefix| (prefix, prefix.entry(action))));
    }
    let set = lists.set.iter();
    access.extend(set.map(|(prefix, action)| {
        let prefix = of_config(*prefix);
        (prefix, prefix.entry(*action))
    }));
    access
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(lists: [&str; 3]) -> model::Model {
        let mut text = "[agent]\ninterfaces = [\"eth0\"]\n".to_owned();
        for (number, list) in lists.into_iter().enumerate() {
            text += &format!(
                "[[service]]\nname = \"s{number}\"\naddress = \"203.0.113.10\"\nport = {}\n\
                 [service.firewall]\n{list}\n[[service.backend]]\nname = \"b\"\n\
                 address = \"10.0.0.11\"\n",
                80 + number
            );
        }
        crate::config::parse(text.as_bytes()).unwrap().model
    }

    const DENY: &str = "deny = [\"198.51.100.0/24\"]";

    fn scopes(scopes: &Scopes, model: &model::Model) -> Vec<u32> {
        let keys = model.services.iter().map(service_key);
        keys.map(|key| scopes.of(&key)).collect()
    }

    #[test]
    fn scopes_stay_and_rest() {
        let none = Scopes::new(std::iter::empty());
        let all = model([DENY, "", DENY]);
        let first = none.next(&all.services);
        assert_eq!(scopes(&first, &all), [1, 0, 2]);
        let other = model(["", DENY, DENY]);
        let second = first.next(&other.services);
        assert_eq!(
            scopes(&second, &other),
            [0, 3, 2],
            "1 is not used again at once"
        );
        // Another agent takes over.
        let keys = other.services.iter().map(service_key);
        let held = keys.zip(scopes(&second, &other));
        let third = Scopes::new(held).next(&all.services);
        assert_eq!(scopes(&third, &all), [4, 0, 2]);
    }

    #[test]
    fn scopes_begin_anew_when_they_are_used_up() {
        let all = model([DENY, DENY, ""]);
        let key = service_key(&all.services[1]);
        let last = Scopes::new([(key, TRUSTED - 1)].into_iter());
        assert_eq!(scopes(&last.next(&all.services), &all), [1, TRUSTED - 1, 0]);
    }

    #[test]
    fn with_allow_nobody_else_may() {
        let prefix = |text: &str, length| Prefix::new(text.parse().unwrap(), length);
        let [v4, v6] = Prefix::everybody();
        let model = model([
            "allow = [\"10.0.0.0/8\"]\ndeny = [\"10.9.0.0/16\", \"10.0.0.0/8\"]",
            DENY,
            "allow = [\"0.0.0.0/0\"]",
        ]);
        let of = |number: usize| access(&model.services[number].firewall);
        let expected = Access::from([
            (v4, Entry::NOT_ALLOWED),
            (v6, Entry::NOT_ALLOWED),
            (prefix("10.0.0.0", 8), Entry::new(Action::Allow, 8)),
            (prefix("10.9.0.0", 16), Entry::new(Action::Deny, 16)),
        ]);
        assert_eq!(of(0), expected);
        assert_eq!(of(1).len(), 1);
        assert!(!of(2)[&v4].denies() && of(2)[&v6].denies());
        let none = Scopes::new(std::iter::empty());
        let wanted = wanted(&model.services, &none.next(&model.services));
        assert_eq!(wanted.len(), 3);
    }
}
