//! What this host's interfaces have to do with it: which records mean, and who holds an address.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use lb_common::address::Address;
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

use super::wire::MOST_INTERFACES;

/// As they are at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interfaces {
    /// Where steering is attached, in the order of the config: name, index, MAC. Index 0 is gone.
    steered: Vec<(String, u32, [u8; 6])>,
    /// Addresses of services on an interface other than a loopback, as the active one of two
    /// balancers has them.
    pub(super) held: Vec<Address>,
}

impl Interfaces {
    /// Reads them: those of these names, and who has these addresses.
    pub(super) fn read(names: &[String], addresses: &HashSet<Address>) -> Self {
        let mut links: BTreeMap<String, (u32, [u8; 6])> = BTreeMap::new();
        let mut held: Vec<Address> = Vec::new();
        for one in getifaddrs().into_iter().flatten() {
            let Some(address) = one.address else {
                continue;
            };
            if let Some(link) = address.as_link_addr() {
                let mac = link.addr().unwrap_or_default();
                let index = u32::try_from(link.ifindex()).unwrap_or(0);
                links.insert(one.interface_name, (index, mac));
                continue;
            }
            let v4 = address.as_sockaddr_in().map(|one| IpAddr::V4(one.ip()));
            let v6 = || address.as_sockaddr_in6().map(|one| IpAddr::V6(one.ip()));
            if let Some(address) = v4.or_else(v6).map(Address::from)
                && !one.flags.contains(InterfaceFlags::IFF_LOOPBACK)
                && addresses.contains(&address)
                && !held.contains(&address)
            {
                held.push(address);
            }
        }
        let steered = names.iter().take(MOST_INTERFACES).map(|name| {
            let (index, mac) = links.get(name).copied().unwrap_or_default();
            (name.clone(), index, mac)
        });
        Self {
            steered: steered.collect(),
            held,
        }
    }

    /// Their names, in the order that records mean.
    pub(super) fn names(&self) -> Vec<String> {
        self.steered.iter().map(|one| one.0.clone()).collect()
    }

    /// The index of the one of a name; 0 without one.
    pub(super) fn index(&self, name: &str) -> u32 {
        let mut all = self.steered.iter();
        all.find(|one| one.0 == name).map_or(0, |one| one.1)
    }

    /// Which a record means by an index.
    pub(super) fn position(&self, index: u32) -> Option<u8> {
        let position = self.steered.iter().position(|one| one.1 == index)?;
        u8::try_from(position).ok()
    }

    /// Eight bits that no frame for this host has, see [`lb_common::flow::FlowEntry::adopt`].
    pub(super) fn foreign_mac(&self) -> u8 {
        let own = |mac: &[u8; 6]| mac.iter().fold(0, |all, byte| all ^ byte);
        let taken: HashSet<u8> = self.steered.iter().map(|one| own(&one.2)).collect();
        let mut free = (0..=u8::MAX).filter(|byte| !taken.contains(byte));
        free.next().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_this_host_are_found_by_name() {
        let names = ["nosuch0".to_owned(), "lo".to_owned()];
        let loopback = HashSet::from([Address::from_v4([127, 0, 0, 1])]);
        let read = Interfaces::read(&names, &loopback);
        assert_eq!(read.index("nosuch0"), 0);
        assert_ne!(read.index("lo"), 0);
        assert_eq!(read.position(read.index("lo")), Some(1));
        assert_eq!(read.names(), names);
        assert!(read.held.is_empty(), "a loopback holds nothing");
        assert_eq!(read.foreign_mac(), 1);
    }
}
