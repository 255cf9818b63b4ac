//! Whose packets are dropped: a pure function of the config and of what was set at run time.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
};

use lb_common::firewall::{Action, Control, Prefix};

use super::{
    lock::{self, Lock},
    services::{self, Access, Scopes},
};
use crate::config::model;

/// What the table should hold.
pub(in crate::agent) type Entries = HashMap<Prefix, Action>;

/// What was set at run time; it goes before what the config says of the same prefix.
pub(in crate::agent) type Rules = BTreeMap<(IpAddr, u8), Action>;

/// What should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::agent) struct Wanted {
    pub(in crate::agent) entries: Entries,
    pub(in crate::agent) is_dry_run: bool,
    /// What this host lets in, where it is locked down.
    pub(in crate::agent) lock: Option<Lock>,
    /// Sources that no limit holds for, where there are limits and the host is not locked down.
    pub(in crate::agent) unlimited: HashSet<Prefix>,
    /// Services' own lists, by scope.
    pub(in crate::agent) services: HashMap<u32, Access>,
}

/// A prefix of the config as the tables have it.
pub(in crate::agent) fn of_config(prefix: model::Prefix) -> Prefix {
    Prefix::new(prefix.address, prefix.length)
}

/// What a config and rules come to.
pub(in crate::agent) fn wanted(model: &model::Model, rules: &Rules) -> Wanted {
    let mut wanted = Wanted::default();
    let entries = &mut wanted.entries;
    let firewall = &model.firewall;
    wanted.is_dry_run = firewall.dry_run;
    let lists = [
        (&firewall.deny, Action::Deny),
        // Beats the same prefix above.
        (&firewall.allow, Action::Allow),
    ];
    for (list, action) in lists {
        entries.extend(list.all().map(|prefix| (of_config(prefix), action)));
    }
    let rules = rules.iter();
    entries
        .extend(rules.map(|((address, length), action)| (Prefix::new(*address, *length), *action)));
    wanted.lock = firewall.locked.then(|| lock::of(model, entries));
    if firewall.rate.is_some() && !firewall.locked {
        wanted.unlimited = lock::trusted(model, entries);
    }
    if entries.values().any(|action| *action == Action::Deny) {
        protect(model, entries);
    }
    wanted
}

impl Wanted {
    /// The same with services' own lists.
    pub(in crate::agent) fn with_services(mut self, model: &model::Model, scopes: &Scopes) -> Self {
        self.services = services::wanted(&model.services, scopes);
        self
    }

    /// How many prefixes there are in all.
    pub(in crate::agent) fn prefixes(&self) -> usize {
        let of_services: usize = self.services.values().map(Access::len).sum();
        self.entries.len() + self.trusted().count() + of_services
    }
}

/// Allows those that the balancer cannot do without, where they would be denied: their packets are
/// answers. Others are left out, because whatever has an entry costs a look-up.
fn protect(model: &model::Model, entries: &mut Entries) {
    let backends = model.services.iter().flat_map(|service| &service.backends);
    let servers = model.mysql.iter().flat_map(|mysql| &mysql.servers);
    let peers = model.cluster.iter().flat_map(|cluster| &cluster.peers);
    let addresses = backends
        .map(|backend| backend.address)
        .chain(servers.map(|server| server.address.ip()))
        .chain(peers.map(|peer| peer.ip()));
    let whole = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    let mut protected: Vec<(IpAddr, u8)> =
        addresses.map(|address| (address, whole(address))).collect();
    // Neighbour discovery, without which nobody at all could be reached.
    let neighbours = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
    protected.extend([(neighbours.into(), 10), (Ipv6Addr::UNSPECIFIED.into(), 128)]);
    for (address, length) in protected {
        if longest_match(entries, address, length).is_some_and(|(_, action)| action == Action::Deny)
        {
            entries.insert(Prefix::new(address, length), Action::Allow);
        }
    }
}

/// The longest prefix, up to a length, that holds an address.
pub(in crate::agent) fn longest_match(
    entries: &Entries,
    address: IpAddr,
    longest: u8,
) -> Option<(Prefix, Action)> {
    let lengths = (0..=longest).rev();
    lengths
        .map(|length| Prefix::new(address, length))
        .find_map(|prefix| Some((prefix, *entries.get(&prefix)?)))
}

/// How the table says that these hold.
pub(in crate::agent) fn control(wanted: &Wanted, generation: u8) -> Control {
    let is_locked = wanted.lock.is_some();
    if wanted.entries.is_empty() {
        let none = Control(u64::from(generation)).locked(is_locked);
        let is_used = is_locked || !wanted.services.is_empty();
        return none.dry_run(is_used && wanted.is_dry_run);
    }
    let is_short = wanted.entries.keys().any(|prefix| prefix.is_short_v6());
    Control::new(generation)
        .short_v6(is_short)
        .locked(is_locked)
        .dry_run(wanted.is_dry_run)
}

/// One thing to do in the generation that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Step {
    /// Add or replace.
    Set(Prefix, Action),
    /// Remove.
    Remove(Prefix),
}

/// From what is held to what is wanted: those that let somebody through come first, so that nobody
/// who should pass is dropped meanwhile.
pub(in crate::agent) fn steps(held: &Entries, wanted: &Entries) -> Vec<Step> {
    let set = wanted
        .iter()
        .filter(|(prefix, action)| held.get(prefix) != Some(action))
        .map(|(prefix, action)| Step::Set(*prefix, *action));
    let gone = held
        .keys()
        .filter(|prefix| !wanted.contains_key(prefix))
        .map(|prefix| Step::Remove(*prefix));
    let mut steps: Vec<Step> = set.chain(gone).collect();
    steps.sort_by_key(|step| match step {
        Step::Set(_, Action::Allow) => 0,
        Step::Remove(prefix) if held.get(prefix) == Some(&Action::Deny) => 1,
        Step::Set(_, Action::Deny) => 2,
        Step::Remove(_) => 3,
    });
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(firewall: &str) -> model::Model {
        let text = format!(
            "[agent]\ninterfaces = [\"eth0\"]\n{firewall}\n[[service]]\nname = \"web\"\n\
             address = \"203.0.113.10\"\nport = 80\n[[service.backend]]\nname = \"web1\"\n\
             address = \"10.0.0.11\"\n[[service.backend]]\nname = \"web2\"\naddress = \"10.1.0.12\"\n"
        );
        crate::config::parse(text.as_bytes()).unwrap().model
    }

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap())
    }

    fn sorted(entries: &Entries) -> Vec<String> {
        let mut all: Vec<String> = entries
            .iter()
            .map(|(prefix, action)| format!("{}/{} {action:?}", prefix.address(), prefix.length()))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn nothing_is_denied_without_a_list() {
        assert_eq!(wanted(&model(""), &Rules::new()), Wanted::default());
        let empty = wanted(&model("[firewall]"), &Rules::new());
        assert_eq!(empty, Wanted::default());
        assert!(!control(&empty, 3).is_on());
        assert_eq!(control(&empty, 3).generation(), 3);
    }

    #[test]
    fn allow_beats_deny_and_run_time_beats_both() {
        let model = model(
            "[firewall]\ndeny = [\"198.51.100.0/24\", \"192.0.2.0/24\"]\n\
             allow = [\"198.51.100.0/24\"]\ndry_run = true",
        );
        let rules = Rules::from([
            (("192.0.2.0".parse().unwrap(), 24), Action::Allow),
            (("2001::".parse().unwrap(), 16), Action::Deny),
        ]);
        let wanted = wanted(&model, &rules);
        assert_eq!(
            sorted(&wanted.entries),
            [
                "192.0.2.0/24 Allow",
                "198.51.100.0/24 Allow",
                "2001::/16 Deny"
            ]
        );
        let control = control(&wanted, 1);
        assert!(control.is_on() && control.is_dry_run() && control.has_short_v6());
    }

    #[test]
    fn backends_and_neighbours_are_never_denied() {
        let model = model("[firewall]\ndeny = [\"10.0.0.0/16\", \"::/0\"]");
        let wanted = wanted(&model, &Rules::new());
        assert_eq!(
            sorted(&wanted.entries),
            [
                "10.0.0.0/16 Deny",
                "10.0.0.11/32 Allow",
                "::/0 Deny",
                "::/128 Allow",
                "fe80::/10 Allow"
            ]
        );
        let peers = self::model(
            "[firewall]\ndeny = [\"10.2.0.0/16\"]\n[cluster]\nlisten = \"10.2.0.1:4789\"\n\
             peers = [\"10.2.0.2:4789\"]\nkey_file = \"/etc/lb/cluster.key\"",
        );
        assert_eq!(
            sorted(&super::wanted(&peers, &Rules::new()).entries),
            ["10.2.0.0/16 Deny", "10.2.0.2/32 Allow"]
        );
        let rules = Rules::from([(("10.1.0.12".parse().unwrap(), 32), Action::Deny)]);
        let wanted = super::wanted(&model, &rules);
        assert!(sorted(&wanted.entries).contains(&"10.1.0.12/32 Allow".to_owned()));
    }

    #[test]
    fn whoever_should_pass_is_let_through_first() {
        let held = Entries::from([
            (prefix("192.0.2.1/32"), Action::Allow),
            (prefix("192.0.2.2/32"), Action::Deny),
            (prefix("192.0.2.3/32"), Action::Deny),
        ]);
        let wanted = Entries::from([
            (prefix("192.0.2.0/24"), Action::Deny),
            (prefix("192.0.2.9/32"), Action::Allow),
            (prefix("192.0.2.3/32"), Action::Deny),
        ]);
        assert_eq!(
            steps(&held, &wanted),
            [
                Step::Set(prefix("192.0.2.9/32"), Action::Allow),
                Step::Remove(prefix("192.0.2.2/32")),
                Step::Set(prefix("192.0.2.0/24"), Action::Deny),
                Step::Remove(prefix("192.0.2.1/32")),
            ]
        );
        assert_eq!(steps(&wanted, &wanted), []);
    }
}
