//! Tables that several threads share, as CPUs do. What the engine only counts is not kept.

use std::sync::{
    Mutex,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use lb_common::{
    abi::{Backend, EndpointKey, Interface, NextHop, Service, Settings, Ticks},
    flow::Bucket,
    shared::{Shared32, Shared64},
    tables::{FlowTable, Tables},
    verdict::Event,
};

type Meanwhile = Box<dyn FnOnce(&SharedTables) + Send>;

/// Two flow tables, a cursor, and whatever else is looked up but not changed.
pub(crate) struct SharedTables {
    pub(crate) settings: Settings,
    pub(crate) now: Ticks,
    pub(crate) services: Vec<(EndpointKey, Service)>,
    pub(crate) slots: Vec<u32>,
    pub(crate) backends: Vec<Backend>,
    pub next_hops: Vec<NextHop>,
    pub(crate) filter: Vec<u64>,
    pub(crate) cursor: AtomicU64,
    established: Vec<Bucket>,
    half_open: Vec<Bucket>,
    /// Look-ups of a bucket until something happens meanwhile; 0 for never.
    countdown: AtomicU32,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl SharedTables {
    /// Empty tables of the sizes that the settings give.
    pub(crate) fn new(settings: Settings) -> Self {
        let buckets = |mask: u32| (0..=mask).map(|_| Bucket::default()).collect();
        Self {
            settings,
            now: Ticks(1000),
            services: Vec::new(),
            slots: Vec::new(),
            backends: vec![Backend::default()],
            next_hops: vec![NextHop::default()],
            filter: vec![0; settings.filter_mask as usize + 1],
            cursor: AtomicU64::new(0),
            established: buckets(settings.established_mask),
            half_open: buckets(settings.half_open_mask),
            countdown: AtomicU32::new(0),
            meanwhile: Mutex::new(None),
        }
    }

    /// Has another CPU do something at the look-up of that number from now on.
    pub(crate) fn meanwhile(&mut self, look_up: u32, what: impl FnOnce(&Self) + Send + 'static) {
        *self.countdown.get_mut() = look_up;
        self.meanwhile = Mutex::new(Some(Box::new(what)));
    }

    /// Whether that has happened.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.countdown.load(Ordering::Relaxed) == 0
    }

    /// All of a table.
    pub(crate) fn buckets(&self, table: FlowTable) -> &[Bucket] {
        match table {
            FlowTable::Established => &self.established,
            FlowTable::HalfOpen => &self.half_open,
        }
    }
}

impl Tables for SharedTables {
    fn settings(&self) -> Settings {
        self.settings
    }

    fn now(&self) -> Ticks {
        self.now
    }

    fn filter_word(&self, index: u32) -> u64 {
        self.filter[index as usize]
    }

    fn service(&self, key: &EndpointKey) -> Option<Service> {
        let found = self.services.iter().find(|(one, _)| one == key);
        found.map(|(_, service)| *service)
    }

    fn next_cursor(&self, _: u32) -> u64 {
        self.cursor.fetch_add(1, Ordering::AcqRel)
    }

    fn slot(&self, index: u32) -> Option<u32> {
        self.slots.get(index as usize).copied()
    }

    fn backend(&self, id: u32) -> Option<&Backend> {
        self.backends.get(id as usize)
    }

    fn next_hop(&self, index: u32) -> Option<&NextHop> {
        self.next_hops.get(index as usize)
    }

    fn interface(&self, _: u32, _: Ticks) -> Option<&Interface> {
        None
    }

    fn bucket(&self, table: FlowTable, index: u32) -> Option<&Bucket> {
        if self.countdown.load(Ordering::Relaxed) > 0
            && self.countdown.fetch_sub(1, Ordering::Relaxed) == 1
            && let Some(what) = self.meanwhile.lock().ok().and_then(|mut what| what.take())
        {
            what(self);
        }
        self.buckets(table).get(index as usize)
    }

    fn compare_exchange(&self, cell: &Shared32, current: u32, new: u32) -> bool {
        cell.compare_exchange(current, new)
    }

    fn publish(&self, cell: &Shared64, value: u64) {
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
        true
    }

    fn count_packet(&self, _: u32, _: u64) {}

    fn count_reply(&self, _: u32, _: u64) {}

    fn count_connection(&self, _: u32) {}

    fn count_event(&self, _: Event) {}
}
