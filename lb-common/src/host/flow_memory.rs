//! Flow tables in somebody else's memory, and nothing else: for tests and measurements that put
//! flows into a mapped table.

use crate::{
    abi::{Backend, EndpointKey, Interface, NextHop, Service, Settings, Ticks},
    flow::{Bucket, Inserted, NewFlow, Place, insert},
    shared::{Shared32, Shared64},
    tables::{FlowTable, Tables},
    verdict::Event,
};

/// See the module. Every look-up outside of the flow tables finds nothing.
#[derive(Clone, Copy, Debug)]
pub struct FlowMemory<'t> {
    /// Seed and sizes of the tables.
    pub settings: Settings,
    /// The time.
    pub now: Ticks,
    /// Buckets of the established table.
    pub established: &'t [Bucket],
    /// Buckets of the half-open table.
    pub half_open: &'t [Bucket],
    /// Called before each step that others can see, in a place that is claimed; a test may end
    /// there, as an agent does that is killed.
    pub before_publishing: fn(),
}

impl<'t> FlowMemory<'t> {
    /// Of tables whose numbers of buckets are powers of two.
    #[must_use]
    pub fn new(
        hash_seed: u64,
        now: Ticks,
        established: &'t [Bucket],
        half_open: &'t [Bucket],
    ) -> Self {
        Self {
            settings: Settings {
                hash_seed,
                established_mask: established.len() as u32 - 1,
                half_open_mask: half_open.len() as u32 - 1,
                ..Settings::default()
            },
            now,
            established,
            half_open,
            before_publishing: || {},
        }
    }

    /// Puts a flow where the data path would.
    pub fn insert(&self, table: FlowTable, flow: &NewFlow) -> Inserted {
        let key = &flow.key;
        let place = Place::of(&self.settings, key.client, key.client_port, key.protocol);
        insert(self, table, place, self.now, flow)
    }
}

impl Tables for FlowMemory<'_> {
    fn settings(&self) -> Settings {
        self.settings
    }

    /// Whatever a flow has is stored.
    fn has(&self, _: u32) -> bool {
        true
    }

    fn now(&self) -> Ticks {
        self.now
    }

    fn filter_word(&self, _: u32) -> u64 {
        0
    }

    fn service(&self, _: &EndpointKey) -> Option<Service> {
        None
    }

    fn next_cursor(&self, _: u32) -> u64 {
        0
    }

    fn slot(&self, _: u32) -> Option<u32> {
        None
    }

    fn backend(&self, _: u32) -> Option<&Backend> {
        None
    }

    fn next_hop(&self, _: u32) -> Option<&NextHop> {
        None
    }

    fn interface(&self, _: u32, _: Ticks) -> Option<&Interface> {
        None
    }

    fn bucket(&self, table: FlowTable, index: u32) -> Option<&Bucket> {
        match table {
            FlowTable::Established => self.established.get(index as usize),
            FlowTable::HalfOpen => self.half_open.get(index as usize),
        }
    }

    fn compare_exchange(&self, cell: &Shared32, current: u32, new: u32) -> bool {
        cell.compare_exchange(current, new)
    }

    fn publish(&self, cell: &Shared64, value: u64) {
        (self.before_publishing)();
        cell.publish(value);
    }

    fn compare_exchange_word(&self, cell: &Shared64, current: u64, new: u64) -> bool {
        cell.compare_exchange(current, new)
    }

    fn fetch_or(&self, cell: &Shared64, bits: u64) -> u64 {
        cell.fetch_or(bits)
    }

    fn fetch_and(&self, cell: &Shared64, bits: u64) -> u64 {
        cell.fetch_and(bits)
    }

    fn add(&self, cell: &Shared64, change: u64) {
        cell.fetch_add(change);
    }

    fn may_send_error(&self, _: Ticks) -> bool {
        false
    }

    fn count_packet(&self, _: u32, _: u64) {}

    fn count_reply(&self, _: u32, _: u64) {}

    fn count_connection(&self, _: u32) {}

    fn count_event(&self, _: Event) {}
}
