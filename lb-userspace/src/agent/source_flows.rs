//! Counts how many flows each source has, for `[firewall.rate] flows`, see
//! [`lb_common::firewall::count`].

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use lb_common::{
    address::Address,
    engine::Family,
    firewall::{
        count::{COUNTED, COUNTS, FLOW_LIMIT, correct::correct},
        rate::{Kind, Place, SOURCES, Sources},
    },
    shared::Shared64,
    tables::FlowTable,
};

use crate::dataplane::{FlowTables, Words};

/// How often they are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Keeps the counts right.
pub(super) struct SourceKeeper {
    tables: FlowTables,
    /// The firewall's words, and those of the lines of sources.
    words: (Words, Words),
    seed: u64,
    due: Instant,
}

impl SourceKeeper {
    /// Of a data path with these tables.
    pub(super) fn new(tables: FlowTables, words: (Words, Words), seed: u64) -> Self {
        Self {
            tables,
            words,
            seed,
            due: Instant::now(),
        }
    }

    /// Counts if it is time to.
    pub(super) fn tend(&mut self) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + COUNT_EVERY;
        let (firewall, lines) = (self.words.0.all(), self.words.1.all());
        let word = |index: u32| firewall.get(index as usize);
        let most = word(FLOW_LIMIT).map_or(0, Shared64::load) as u32;
        if most == 0 {
            return;
        }
        let sources = Sources(word(SOURCES).map_or(0, Shared64::load));
        let Some(counts) = lines.get(COUNTS) else {
            return;
        };
        let before: Vec<u64> = counts.iter().map(Shared64::load).collect();
        let Some(counted) = self.count(sources) else {
            return;
        };
        correct(lines, &before, counted, most.div_ceil(2));
        if let Some(word) = word(COUNTED) {
            word.publish(FlowTables::now().0.into());
        }
    }

    /// The flows of each source that are not closed. Nothing where they cannot be counted.
    fn count(&self, sources: Sources) -> Option<HashMap<Place, u32>> {
        let now = FlowTables::now();
        let mut counted = HashMap::new();
        for table in [FlowTable::Established, FlowTable::HalfOpen] {
            let done = self.tables.for_each(table, |bucket| {
                for flow in bucket.flows().filter(|flow| flow.is_active(now)) {
                    let place = place(self.seed, sources, flow.client());
                    *counted.entry(place).or_default() += 1;
                }
            });
            if let Err(error) = done {
                tracing::warn!("flows of sources could not be counted: {error}");
                return None;
            }
        }
        Some(counted)
    }
}

fn place(seed: u64, sources: Sources, client: Address) -> Place {
    let family = if client.is_v4() {
        Family::V4
    } else {
        Family::V6
    };
    Place::of(seed, Kind::Flows, sources.of(family, client))
}

#[cfg(test)]
mod tests {
    use lb_common::{
        abi::Ticks,
        firewall::rate::{ALL_LINES, WAYS},
        flow::{ClientLink, FlowKey, NewFlow, Path, Shift},
        host::FlowMemory,
    };

    use super::*;

    #[test]
    fn flows_of_a_source_are_counted_together() {
        let tables = FlowTables::detached(16, 16).unwrap();
        let now = FlowTables::now();
        let memory = FlowMemory::new(
            7,
            now,
            tables.own(FlowTable::Established),
            tables.own(FlowTable::HalfOpen),
        );
        for (host, port, table) in [
            (1, 1, FlowTable::Established),
            (2, 2, FlowTable::Established),
            (3, 3, FlowTable::HalfOpen),
        ] {
            let _ = memory.insert(
                table,
                &NewFlow {
                    key: FlowKey {
                        client: Address::from_v4([198, 51, 100, host]),
                        client_port: port,
                        service: Address::from_v4([203, 0, 113, 10]),
                        service_port: 80,
                        protocol: 6,
                    },
                    backend: 2,
                    link: ClientLink::default(),
                    expires: Ticks(now.0 + 1000),
                    path: Path::DIRECT,
                    own_mac: 0,
                    client_finished: false,
                    shift: Shift::NONE,
                },
            );
        }
        let firewall = Words::detached(16).unwrap();
        let lines = Words::detached(ALL_LINES * WAYS as u32).unwrap();
        let mut keeper = SourceKeeper::new(tables, (firewall.clone(), lines.clone()), 9);
        let all = || lines.all()[COUNTS].iter().map(Shared64::load).max();
        // Without a limit nobody counts.
        keeper.tend();
        assert_eq!(firewall.all()[COUNTED as usize].load(), 0);
        let sources = Sources::new(24, 64, false);
        firewall.all()[SOURCES as usize].store(sources.0);
        firewall.all()[FLOW_LIMIT as usize].store(5);
        keeper.due = Instant::now();
        keeper.tend();
        let own = place(9, sources, Address::from_v4([198, 51, 100, 77]));
        assert_eq!(all(), Some(own.word(3)));
        assert!(firewall.all()[COUNTED as usize].load() >= u64::from(now.0));
    }
}
