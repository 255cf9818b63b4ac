//! How many flows there are, and whose.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use lb_common::{
    abi::{Protocol, Ticks},
    flow::FlowEntry,
    tables::FlowTable,
};

use super::FlowTables;

/// What stands in the flow tables.
#[derive(Clone, Debug, Default)]
pub struct FlowCounts {
    /// Flows in the established table that have not expired.
    pub established: u64,
    /// Flows in the half-open table that have not expired.
    pub half_open: u64,
    /// Active flows, by backend id.
    active: Vec<u32>,
    /// Flows that are not closed, half-open ones included, by backend id.
    live: Vec<u32>,
    /// Whether any flow refers to a backend, by backend id.
    referred: Vec<bool>,
    /// Whether there may be more than was counted.
    is_partial: bool,
}

impl FlowCounts {
    /// Flows of a backend that are alive and not closed: all established ones, and of the half-open
    /// ones those of UDP. A TCP flow counts only once its handshake is done, so that a SYN flood
    /// does not look like clients.
    #[must_use]
    pub fn active(&self, backend: u32) -> u64 {
        self.active
            .get(backend as usize)
            .copied()
            .unwrap_or(0)
            .into()
    }

    /// Flows of a backend that are alive and not closed, half-open ones included.
    #[must_use]
    pub fn live(&self, backend: u32) -> u64 {
        self.live.get(backend as usize).copied().unwrap_or(0).into()
    }

    /// Whether a flow refers to a backend, be it closed or half open.
    #[must_use]
    pub fn is_referred(&self, backend: u32) -> bool {
        let found = self.referred.get(backend as usize);
        self.is_partial || found.copied().unwrap_or(false)
    }

    /// Counts what stands in the tables.
    #[must_use]
    pub fn of(tables: &FlowTables, now: Ticks) -> Self {
        let mut counts = Self::default();
        counts.established = counts.count_table(tables, FlowTable::Established, now);
        counts.half_open = counts.count_table(tables, FlowTable::HalfOpen, now);
        counts
    }

    fn count_table(&mut self, tables: &FlowTables, table: FlowTable, now: Ticks) -> u64 {
        let mut alive = 0;
        let counted = tables.for_each(table, |bucket| {
            alive += self.count(bucket.flows(), table, now);
        });
        if let Err(error) = counted {
            tracing::warn!("flows could not be counted: {error}");
            self.is_partial = true;
        }
        alive
    }

    fn count<'b>(
        &mut self,
        flows: impl Iterator<Item = &'b FlowEntry>,
        table: FlowTable,
        now: Ticks,
    ) -> u64 {
        let mut alive = 0;
        let gone = FlowTables::surely_gone(now);
        for flow in flows {
            let backend = flow.backend() as usize;
            if flow.is_expired(gone) {
                continue;
            }
            if backend >= self.referred.len() {
                self.referred.resize(backend + 1, false);
                self.active.resize(backend + 1, 0);
                self.live.resize(backend + 1, 0);
            }
            self.referred[backend] = true;
            alive += u64::from(!flow.is_expired(now));
            let is_proven =
                table == FlowTable::Established || flow.protocol() != Protocol::Tcp as u8;
            let is_active = flow.is_active(now);
            self.live[backend] += u32::from(is_active);
            self.active[backend] += u32::from(is_proven && is_active);
        }
        alive
    }
}

/// When a scan began, and what it found.
type Scan = (Instant, Arc<FlowCounts>);

/// Counts flows. Clones share one cache, so that many readers cost one scan.
#[derive(Clone)]
pub struct FlowScanner {
    tables: FlowTables,
    latest: Arc<Mutex<Option<Scan>>>,
}

impl FlowScanner {
    /// Counts in these tables.
    #[must_use]
    pub fn new(tables: FlowTables) -> Self {
        Self {
            tables,
            latest: Arc::default(),
        }
    }

    /// The tables that it counts in.
    #[must_use]
    pub fn tables(&self) -> &FlowTables {
        &self.tables
    }

    /// Flows by backend, as of now. Whoever waits while another scans may share the next scan.
    #[must_use]
    pub fn scan(&self) -> Arc<FlowCounts> {
        let asked = Instant::now();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            // Older than the question, it would not say what the one who asks has just done.
            Some((begun, counts)) if *begun >= asked => Arc::clone(counts),
            _ => {
                let begun = Instant::now();
                let counts = Arc::new(FlowCounts::of(&self.tables, FlowTables::now()));
                *latest = Some((begun, Arc::clone(&counts)));
                counts
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lb_common::{
        abi::Settings,
        address::Address,
        flow::{ClientLink, FlowKey, NewFlow, Path, Place, Shift, insert},
        host::HostTables,
        tables::Tables as _,
    };

    use super::*;

    #[test]
    fn a_handshake_that_is_not_done_is_no_active_flow() {
        let settings = Settings::default();
        let tables = HostTables::new(settings);
        let now = tables.now();
        let mut port = 0;
        let mut add = |table, protocol: Protocol| {
            port += 1;
            let key = FlowKey {
                client: Address::default(),
                client_port: port,
                service: Address::default(),
                service_port: 80,
                protocol: protocol as u8,
            };
            let flow = NewFlow {
                key,
                backend: 5,
                link: ClientLink::default(),
                expires: Ticks(now.0 + 10),
                path: Path::DIRECT,
                own_mac: 0,
                client_finished: false,
                shift: Shift::NONE,
            };
            let place = Place::of(&settings, key.client, port, key.protocol);
            insert(&tables, table, place, now, &flow);
        };
        add(FlowTable::Established, Protocol::Tcp);
        add(FlowTable::HalfOpen, Protocol::Udp);
        for _ in 0..2 {
            add(FlowTable::HalfOpen, Protocol::Tcp);
        }
        let mut counts = FlowCounts::default();
        let mut count = |table| {
            let bucket = tables.bucket(table, 0).unwrap();
            counts.count(bucket.flows(), table, now)
        };
        assert_eq!(count(FlowTable::Established), 1);
        assert!((2..=3).contains(&count(FlowTable::HalfOpen)));
        assert!(counts.is_referred(5));
        assert!((1..=2).contains(&counts.active(5)));
    }
}
