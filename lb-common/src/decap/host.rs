//! The host's side: rules in collections.

use std::{collections::HashSet, net::IpAddr};

use super::{Rules, abi};
use crate::address::Address;

/// What the agent would tell the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRules {
    /// Load-time constants.
    pub settings: abi::Settings,
    /// Addresses that packets are taken out for.
    pub vips: HashSet<Address>,
    /// Where tunnels may come from, if that is checked: addresses and prefix lengths.
    pub sources: Vec<(Address, u8)>,
}

impl HostRules {
    /// Every kind of tunnel, for these addresses, from anywhere.
    #[must_use]
    pub fn for_vips(vips: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            settings: abi::Settings {
                accepts: abi::accepts::IPIP | abi::accepts::GUE,
                checks_sources: 0,
            },
            vips: vips.into_iter().map(Address::from).collect(),
            sources: Vec::new(),
        }
    }

    /// The same, from these prefixes only.
    #[must_use]
    pub fn from_sources(mut self, sources: impl IntoIterator<Item = (IpAddr, u8)>) -> Self {
        self.settings.checks_sources = 1;
        let sources = sources.into_iter();
        self.sources = sources
            .map(|(address, length)| (address.into(), length))
            .collect();
        self
    }
}

impl Rules for HostRules {
    fn settings(&self) -> abi::Settings {
        self.settings
    }

    fn is_vip(&self, address: Address) -> bool {
        self.vips.contains(&address)
    }

    fn is_source(&self, address: Address) -> bool {
        let bits = |address: Address| u128::from_be_bytes(address.octets());
        self.sources.iter().any(|&(prefix, length)| {
            let unused = if prefix.is_v4() { 32 } else { 128 } - u32::from(length);
            let mask = u128::MAX.checked_shl(unused).unwrap_or(0);
            prefix.is_v4() == address.is_v4() && bits(address) & mask == bits(prefix) & mask
        })
    }
}
