//! Keeps the counts of live flows right by which least connections goes.
//!
//! The data path adds 1 where a flow begins and takes it away where one ends. It does not see flows
//! that expire, nor who is displaced, and two CPUs may count one end twice. So every
//! [`CORRECT_EVERY`] the flows in the tables are counted, and the difference is added: what began
//! or ended during the count (a few milliseconds for a million places) is off until the next one.

use std::time::{Duration, Instant};

use lb_common::shared::Shared64;

use crate::dataplane::{FlowScanner, Words};

/// How often the counts are corrected.
const CORRECT_EVERY: Duration = Duration::from_secs(2);

/// Corrects the counts.
pub(super) struct LoadKeeper {
    scanner: FlowScanner,
    loads: Words,
    due: Instant,
}

impl LoadKeeper {
    /// Of a data path with these tables.
    pub(super) fn new(scanner: FlowScanner, loads: Words) -> Self {
        Self {
            scanner,
            loads,
            due: Instant::now(),
        }
    }

    /// Corrects them if it is time to.
    pub(super) fn tend(&mut self) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + CORRECT_EVERY;
        let before: Vec<u64> = self.loads.all().iter().map(Shared64::load).collect();
        let counts = self.scanner.scan();
        for ((id, load), before) in (0u32..).zip(self.loads.all()).zip(before) {
            let difference = counts.live(id).wrapping_sub(before);
            if difference != 0 {
                load.fetch_add(difference);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lb_common::{
        abi::Ticks,
        address::Address,
        flow::{ClientLink, FlowKey, NewFlow, Path, Shift},
        host::FlowMemory,
        tables::FlowTable,
    };

    use super::*;
    use crate::dataplane::FlowTables;

    #[test]
    fn what_expired_unseen_is_taken_off_and_what_is_there_is_added() {
        let tables = FlowTables::detached(16, 16).unwrap();
        let now = FlowTables::now();
        let memory = FlowMemory::new(
            7,
            now,
            tables.own(FlowTable::Established),
            tables.own(FlowTable::HalfOpen),
        );
        for (port, table) in [
            (1, FlowTable::Established),
            (2, FlowTable::Established),
            (3, FlowTable::HalfOpen),
        ] {
            let _ = memory.insert(
                table,
                &NewFlow {
                    key: FlowKey {
                        client: Address::from_v4([198, 51, 100, 7]),
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
        let loads = Words::detached(4).unwrap();
        loads.all()[1].store(5);
        loads.all()[3].store(u64::MAX);
        let mut keeper = LoadKeeper::new(FlowScanner::new(tables), loads.clone());
        keeper.tend();
        let found: Vec<u64> = loads.all().iter().map(Shared64::load).collect();
        assert_eq!(found, [0, 0, 3, 0]);
        // Not before it is time again.
        loads.all()[1].store(9);
        keeper.tend();
        assert_eq!(loads.all()[1].load(), 9);
    }
}
