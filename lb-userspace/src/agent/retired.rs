//! What was steered to backends that are gone for good: a part of their services' counters, which
//! must not fall. It is kept in a file beside the state file for as long as the tables last.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use lb_common::{
    abi::{BackendCounters, EndpointKey, network_port},
    address::Address,
};
use serde::{Deserialize, Serialize};

use super::state_file;
use crate::dataplane;

/// A larger file is none of ours.
const LARGEST: u64 = 64 << 20;

/// By service.
#[derive(Debug, Default)]
pub(super) struct Retired {
    /// What tells these tables from those that were made anew.
    tables: u64,
    sums: HashMap<EndpointKey, BackendCounters>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    tables: u64,
    services: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    address: IpAddr,
    port: u16,
    protocol: u8,
    packets: u64,
    bytes: u64,
    connections: u64,
    reply_packets: u64,
    reply_bytes: u64,
}

impl Retired {
    /// What a former agent wrote down about the same tables, if anything.
    pub(super) fn load(state_file: &Path, tables: u64) -> Self {
        let file = place(state_file);
        let sums = match state_file::read_json::<Contents>(&file, LARGEST) {
            Ok(contents) if contents.tables == tables => {
                contents.services.into_iter().map(Entry::split).collect()
            }
            Ok(_) => HashMap::new(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => {
                tracing::warn!(
                    "{} is of no use ({error}); counters of services lack what was steered to \
                     backends that are gone",
                    file.display()
                );
                HashMap::new()
            }
        };
        Self { tables, sums }
    }

    /// Adds the counters of a backend that is gone.
    pub(super) fn add(&mut self, key: EndpointKey, counters: &BackendCounters) {
        let sum = self.sums.entry(key).or_default();
        *sum = dataplane::add(sum, counters);
    }

    /// What went to backends of a service that are gone.
    pub(super) fn of(&self, key: &EndpointKey) -> BackendCounters {
        self.sums.get(key).copied().unwrap_or_default()
    }

    /// Writes it down for the next agent.
    pub(super) fn save(&self, state_file: &Path) {
        let contents = Contents {
            tables: self.tables,
            services: self.sums.iter().map(Entry::join).collect(),
        };
        let file = place(state_file);
        if let Err(error) = state_file::write_json(&file, &contents) {
            tracing::warn!(
                "cannot write {}: {error}; after a restart, counters of services would lack what \
                 was steered to backends that are gone",
                file.display()
            );
        }
    }
}

impl Entry {
    fn join((key, counters): (&EndpointKey, &BackendCounters)) -> Self {
        Self {
            address: key.address.into(),
            // Network order is its own inverse.
            port: network_port(key.port),
            protocol: key.protocol,
            packets: counters.packets,
            bytes: counters.bytes,
            connections: counters.connections,
            reply_packets: counters.reply_packets,
            reply_bytes: counters.reply_bytes,
        }
    }

    fn split(self) -> (EndpointKey, BackendCounters) {
        let address = Address::from(self.address);
        let key = EndpointKey::new(address, network_port(self.port), self.protocol);
        let counters = BackendCounters {
            packets: self.packets,
            bytes: self.bytes,
            connections: self.connections,
            reply_packets: self.reply_packets,
            reply_bytes: self.reply_bytes,
            // Only of interest for single backends.
            ..BackendCounters::default()
        };
        (key, counters)
    }
}

fn place(state_file: &Path) -> PathBuf {
    state_file.with_extension("retired.json")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn counters(packets: u64) -> BackendCounters {
        BackendCounters {
            packets,
            bytes: 2 * packets,
            connections: 3,
            reply_packets: 4,
            reply_bytes: 5,
            ..BackendCounters::default()
        }
    }

    #[test]
    fn sums_last_as_long_as_the_tables() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state.json");
        let key = |text: &str, port| {
            let ip: IpAddr = text.parse().unwrap();
            EndpointKey::new(ip.into(), network_port(port), 6)
        };
        let (one, other) = (key("203.0.113.10", 80), key("2001:db8::1", 443));
        let mut retired = Retired::load(&state, 7);
        for packets in [10, 20] {
            retired.add(one, &counters(packets));
        }
        retired.add(other, &counters(1));
        retired.save(&state);
        let again = Retired::load(&state, 7);
        assert_eq!(again.of(&one).packets, 30);
        assert_eq!(again.of(&one).connections, 6);
        assert_eq!(again.of(&other), counters(1));
        assert_eq!(
            again.of(&key("203.0.113.10", 81)),
            BackendCounters::default()
        );
        // New tables count from 0.
        assert_eq!(
            Retired::load(&state, 8).of(&one),
            BackendCounters::default()
        );
        // Damage is no crash.
        fs::write(place(&state), "{\"tables\": 7").unwrap();
        assert_eq!(
            Retired::load(&state, 7).of(&one),
            BackendCounters::default()
        );
    }
}
