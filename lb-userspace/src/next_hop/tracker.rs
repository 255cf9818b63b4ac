//! What is known of routes, neighbours and interfaces, and the next hops that follow from it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use super::{Event, Link, Mac, NextHop, Resolved};

/// Bytes of a VLAN tag.
const VLAN_TAG: u32 = 4;

/// A neighbour: an address on a network that an interface leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NeighbourKey {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
}

/// What the kernel said of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reachability {
    /// The kernel knows no such neighbour (any more).
    Unknown,
    /// Asked, not answered yet.
    Asking,
    /// Its MAC is good, or was until lately.
    Usable(Mac),
    /// Set by hand, never asked for.
    Static(Mac),
    /// It does not answer.
    Failed,
}

/// A neighbour that a next hop needs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Neighbour {
    /// The MAC in use. It outlasts a question that is being asked, not one that went unanswered.
    mac: Option<Mac>,
    has_failed: bool,
    pub(super) is_static: bool,
    /// The kernel keeps it fresh by itself.
    pub(super) is_managed: bool,
}

impl Neighbour {
    /// Whether the kernel must be asked for it now and then.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.is_static && (self.mac.is_none() || self.has_failed)
    }
}

/// The way to an address by the routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Through that neighbour.
    Via(NeighbourKey),
    /// No way: it is an address of this host.
    Local,
    /// Not at all.
    None {
        /// Why.
        reason: String,
    },
}

#[derive(Debug, Default)]
struct Target {
    route: Option<Route>,
    told: Option<NextHop>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    targets: HashMap<IpAddr, Target>,
    neighbours: HashMap<NeighbourKey, Neighbour>,
    users: HashMap<NeighbourKey, HashSet<IpAddr>>,
    links: HashMap<u32, Link>,
    /// Addresses whose route is to be looked up.
    unrouted: BTreeSet<IpAddr>,
    /// Addresses whose next hop may be another now.
    touched: BTreeSet<IpAddr>,
    /// Neighbours of which nothing is known yet.
    unseen: BTreeSet<NeighbourKey>,
    /// Neighbours whose answer may have been lost, or that may be others now.
    doubted: BTreeSet<NeighbourKey>,
    /// Neighbours nobody needs any more.
    dropped: Vec<NeighbourKey>,
    link_events: Vec<Event>,
}

impl Tracker {
    /// Replaces the addresses.
    pub(super) fn set_addresses(&mut self, addresses: &HashSet<IpAddr>) {
        let gone: Vec<_> = self
            .targets
            .keys()
            .filter(|address| !addresses.contains(address))
            .copied()
            .collect();
        for address in gone {
            self.unlink(address);
            self.targets.remove(&address);
            self.unrouted.remove(&address);
            self.touched.remove(&address);
        }
        for address in addresses {
            if !self.targets.contains_key(address) {
                self.targets.insert(*address, Target::default());
                self.unrouted.insert(*address);
            }
        }
    }

    /// Takes a target off the neighbour it used.
    fn unlink(&mut self, address: IpAddr) {
        let Some(Route::Via(key)) = self
            .targets
            .get_mut(&address)
            .and_then(|target| target.route.take())
        else {
            return;
        };
        let Some(users) = self.users.get_mut(&key) else {
            return;
        };
        users.remove(&address);
        if users.is_empty() {
            self.users.remove(&key);
            self.unseen.remove(&key);
            self.doubted.remove(&key);
            if self
                .neighbours
                .remove(&key)
                .is_some_and(|neighbour| !neighbour.is_static)
            {
                self.dropped.push(key);
            }
        }
    }

    /// Has all routes looked up again.
    pub(super) fn distrust_routes(&mut self) {
        self.unrouted.extend(self.targets.keys());
    }

    /// Has the routes of addresses in a prefix looked up again.
    pub(super) fn distrust_prefix(&mut self, prefix: IpAddr, length: u8) {
        let affected = self
            .targets
            .keys()
            .filter(|address| contains(prefix, length, **address));
        self.unrouted.extend(affected);
    }

    /// Addresses whose routes are to be looked up now.
    pub(super) fn take_unrouted(&mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.unrouted).into_iter().collect()
    }

    /// Notes what the routing table says.
    pub(super) fn note_route(&mut self, address: IpAddr, route: Route) {
        let Some(target) = self.targets.get(&address) else {
            return;
        };
        self.touched.insert(address);
        if target.route.as_ref() == Some(&route) {
            return;
        }
        let told = target.told.clone();
        if let Route::Via(key) = route {
            // Before the old one is given up, so that a neighbour both need is not forgotten.
            self.users.entry(key).or_default().insert(address);
            self.neighbours.entry(key).or_insert_with(|| {
                self.unseen.insert(key);
                Neighbour::default()
            });
            self.unlink_other(address, key);
        } else {
            self.unlink(address);
        }
        self.targets.insert(
            address,
            Target {
                route: Some(route),
                told,
            },
        );
    }

    fn unlink_other(&mut self, address: IpAddr, kept: NeighbourKey) {
        let old = self
            .targets
            .get(&address)
            .and_then(|target| target.route.clone());
        if old != Some(Route::Via(kept)) {
            self.unlink(address);
        }
    }

    /// Neighbours to look up and to ask for now.
    pub(super) fn take_unseen(&mut self) -> Vec<NeighbourKey> {
        std::mem::take(&mut self.unseen).into_iter().collect()
    }

    /// Neighbours to ask everyone for now.
    pub(super) fn take_doubted(&mut self) -> Vec<NeighbourKey> {
        std::mem::take(&mut self.doubted).into_iter().collect()
    }

    /// Neighbours that nobody needs any more, which the kernel may be keeping fresh for us.
    pub(super) fn take_dropped(&mut self) -> Vec<NeighbourKey> {
        std::mem::take(&mut self.dropped)
    }

    /// The neighbours in use.
    pub(super) fn neighbours(&self) -> impl Iterator<Item = (NeighbourKey, &Neighbour)> {
        self.neighbours
            .iter()
            .map(|(key, neighbour)| (*key, neighbour))
    }

    /// A neighbour, if it is in use.
    pub(super) fn neighbour(&self, key: NeighbourKey) -> Option<&Neighbour> {
        self.neighbours.get(&key)
    }

    /// Notes what the kernel says of a neighbour; `is_managed` is left as it was where `None`.
    pub(super) fn note_neighbour(
        &mut self,
        key: NeighbourKey,
        reachability: Reachability,
        is_managed: Option<bool>,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(&key) else {
            return;
        };
        neighbour.is_managed = is_managed.unwrap_or(neighbour.is_managed);
        neighbour.is_static = matches!(reachability, Reachability::Static(_));
        match reachability {
            Reachability::Usable(mac) | Reachability::Static(mac) => {
                neighbour.mac = Some(mac);
                neighbour.has_failed = false;
            }
            Reachability::Failed => neighbour.has_failed = true,
            Reachability::Unknown | Reachability::Asking => {}
        }
        if let Some(users) = self.users.get(&key) {
            self.touched.extend(users);
        }
    }

    /// Notes that the kernel has forgotten a neighbour; it is to be asked for anew.
    pub(super) fn note_neighbour_gone(&mut self, key: NeighbourKey) {
        self.note_neighbour(key, Reachability::Unknown, Some(false));
        if self.neighbours.contains_key(&key) {
            self.unseen.insert(key);
        }
    }

    /// The neighbour of an address that is on a local network, and not behind a gateway.
    pub(super) fn on_link(&self, address: IpAddr) -> Option<NeighbourKey> {
        match self.targets.get(&address)?.route {
            Some(Route::Via(key)) if key.address == address => Some(key),
            _ => None,
        }
    }

    /// Notes an interface.
    pub(super) fn note_link(&mut self, link: Link) {
        let old = self.links.get(&link.ifindex);
        if old == Some(&link) {
            return;
        }
        let renamed_from = old
            .filter(|old| old.name != link.name)
            .map(|old| old.name.clone());
        if let Some(name) = renamed_from {
            self.link_events.push(Event::Link { name, link: None });
        }
        self.link_events.push(Event::Link {
            name: link.name.clone(),
            link: Some(link.clone()),
        });
        if link.is_usable() && old.is_some_and(|old| !old.is_usable()) {
            let there = |key: &&NeighbourKey| key.ifindex == link.ifindex;
            self.doubted.extend(self.neighbours.keys().filter(there));
        }
        self.links.insert(link.ifindex, link);
        // Routes may have come or gone with it, and the kernel does not say which.
        self.distrust_routes();
    }

    /// Notes that an interface is gone.
    pub(super) fn note_link_gone(&mut self, ifindex: u32) {
        if let Some(link) = self.links.remove(&ifindex) {
            self.link_events.push(Event::Link {
                name: link.name,
                link: None,
            });
            self.distrust_routes();
        }
    }

    /// Notes which interfaces there are, all of them.
    pub(super) fn note_all_links(&mut self, links: Vec<Link>) {
        let gone: Vec<_> = self
            .links
            .keys()
            .filter(|ifindex| !links.iter().any(|link| link.ifindex == **ifindex))
            .copied()
            .collect();
        for ifindex in gone {
            self.note_link_gone(ifindex);
        }
        for link in links {
            self.note_link(link);
        }
    }

    /// What has changed since the last call.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.link_events);
        for address in std::mem::take(&mut self.touched) {
            let Some(next_hop) = self.next_hop(address) else {
                continue;
            };
            let Some(target) = self.targets.get_mut(&address) else {
                continue;
            };
            if target.told.as_ref() != Some(&next_hop) {
                target.told = Some(next_hop.clone());
                events.push(Event::NextHop { address, next_hop });
            }
        }
        events
    }

    /// The next hop of an address; `None` while the question is open.
    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        let unresolved = |reason: String| Some(NextHop::Unresolved { reason });
        let key = match self.targets.get(&address)?.route.as_ref()? {
            Route::Via(key) => *key,
            Route::Local => return Some(NextHop::Local),
            Route::None { reason } => return unresolved(reason.clone()),
        };
        let Some(link) = self.links.get(&key.ifindex) else {
            return unresolved(format!("the interface to {} is gone", key.address));
        };
        let interface = &link.name;
        if !link.is_usable() {
            let state = if link.is_up {
                "has no carrier"
            } else {
                "is down"
            };
            return unresolved(format!("{interface} {state}"));
        }
        let Some(source) = link.mac else {
            return unresolved(format!("{interface} is no Ethernet interface"));
        };
        let neighbour = self.neighbours.get(&key)?;
        if neighbour.has_failed {
            let role = if key.address == address {
                ""
            } else {
                "the gateway "
            };
            return unresolved(format!(
                "{role}{} does not answer on {interface} ({})",
                key.address,
                if key.address.is_ipv4() {
                    "ARP"
                } else {
                    "neighbour discovery"
                },
            ));
        }
        let destination = neighbour.mac?;
        // XDP sees and sends frames on the interface below, with their tags.
        let Some((egress, vlan, outer_vlan)) = self.below(link) else {
            return unresolved(format!(
                "{interface} is a VLAN of a kind that is not supported (only 802.1Q, by itself or \
                 in one of 802.1ad), or the interface below it is not in this network namespace"
            ));
        };
        Some(NextHop::Resolved(Resolved {
            ifindex: egress.ifindex,
            interface: egress.name.clone(),
            source,
            destination,
            // Drivers have room for one tag beyond their MTU.
            mtu: if outer_vlan == 0 {
                link.mtu
            } else {
                link.mtu.min(egress.mtu.saturating_sub(VLAN_TAG))
            },
            vlan,
            outer_vlan,
        }))
    }

    /// The interface that XDP sees and sends the frames of another on, and their tags there, the
    /// inner one first; 0 is none.
    fn below<'a>(&'a self, link: &'a Link) -> Option<(&'a Link, u16, u16)> {
        let Some(inner) = link.vlan else {
            return Some((link, 0, 0));
        };
        let parent = self.links.get(&inner.parent)?;
        let (egress, outer_vlan) = match parent.vlan {
            None => (parent, 0),
            // Number 0 is a priority and no VLAN.
            Some(outer) if !outer.is_dot1q && outer.id != 0 && inner.id != 0 => {
                let lowest = self.links.get(&outer.parent)?;
                (lowest.vlan.is_none().then_some(lowest)?, outer.id)
            }
            Some(_) => return None,
        };
        inner.is_dot1q.then_some((egress, inner.id, outer_vlan))
    }
}

/// Whether an address lies in a prefix.
fn contains(prefix: IpAddr, length: u8, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, true),
        IpAddr::V6(v6) => (v6.to_bits(), false),
    };
    let ((prefix, prefix_is_v4), (address, address_is_v4)) = (bits(prefix), bits(address));
    let differing = prefix ^ address;
    prefix_is_v4 == address_is_v4 && (differing.leading_zeros() >= u32::from(length))
}

#[cfg(test)]
mod tests;
