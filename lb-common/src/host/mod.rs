//! The host's side of both seams: a frame in a vector and tables in collections. For tests, for
//! fuzzing, and for questions that need no kernel.

mod fixture;
mod flow_memory;
mod wall;

pub use fixture::{Fixture, INGRESS, MAC_BACKEND, MAC_BALANCER, MAC_CLIENT};
pub use flow_memory::FlowMemory;
pub use wall::Firewall;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use crate::{
    abi::{
        Affinity, AffinityKey, Backend, BackendCounters, Check, EndpointKey, Fragment, FragmentKey,
        Handshake, Interface, NextHop, ServerIdKey, Service, Settings, Ticks, features,
    },
    address::Address,
    filter::{Bit, Role},
    firewall::{self, rate::Line},
    flow::{Bucket, FlowView},
    frame::{Frame, Header},
    ports,
    shared::{Shared32, Shared64},
    tables::{FlowTable, Tables},
    trace::Decision,
    verdict::Event,
};

/// Room in front of a frame, as XDP guarantees it.
const HEADROOM: usize = 256;

/// Bytes of a frame that its first buffer holds: those that the kernel's test runs put there. No
/// header is seen behind it.
pub const FIRST_BUFFER: usize = 3520;

/// A frame in memory of its own.
#[derive(Clone, Debug)]
pub struct HostFrame {
    bytes: Vec<u8>,
    start: usize,
    ingress: u32,
    /// Bytes of the first buffer, and of a frame that grows.
    capacity: usize,
}

impl HostFrame {
    /// A frame that came in by an interface.
    #[must_use]
    pub fn new(bytes: &[u8], ingress: u32) -> Self {
        Self::with_headroom(bytes, ingress, HEADROOM)
    }

    /// The same from a driver that leaves so many bytes in front of it.
    #[must_use]
    pub fn with_headroom(bytes: &[u8], ingress: u32, headroom: usize) -> Self {
        let mut memory = vec![0; headroom];
        memory.extend_from_slice(bytes);
        Self {
            bytes: memory,
            start: headroom,
            ingress,
            capacity: headroom + FIRST_BUFFER,
        }
    }

    /// What the frame holds now.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl Frame for HostFrame {
    fn header<H: Header>(&mut self, offset: usize) -> Option<&mut H> {
        let end = self.bytes.len().min(self.capacity);
        let bytes = self.bytes[self.start..end].get_mut(offset..)?;
        H::mut_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn ingress(&self) -> u32 {
        self.ingress
    }

    fn move_head(&mut self, delta: i32) -> bool {
        let Some(start) = self.start.checked_add_signed(delta as isize) else {
            return false;
        };
        if start + 14 > self.bytes.len().min(self.capacity) {
            return false;
        }
        self.start = start;
        true
    }

    fn set_len(&mut self, len: usize) -> bool {
        if len < 14 || self.start + len > self.capacity.max(self.bytes.len()) {
            return false;
        }
        self.bytes.resize(self.start + len, 0);
        true
    }
}

/// Backends whose load is counted.
const LOADS: usize = 4096;

fn cells(count: usize) -> Vec<Shared64> {
    (0..count).map(|_| Shared64::default()).collect()
}

/// Tables in collections.
#[derive(Debug)]
pub struct HostTables {
    /// The load-time constants.
    pub settings: Settings,
    /// The time; tests move it.
    pub now: Cell<Ticks>,
    /// By endpoint.
    pub services: HashMap<EndpointKey, Service>,
    /// Backend ids.
    pub slots: Vec<u32>,
    /// By service id.
    pub cursors: RefCell<HashMap<u32, u64>>,
    /// By id.
    pub backends: Vec<Backend>,
    /// By index.
    pub next_hops: Vec<NextHop>,
    /// By interface index.
    pub interfaces: HashMap<u32, Interface>,
    /// Source addresses of full NAT.
    pub sources: Vec<Address>,
    /// By client and service.
    pub affinity: RefCell<HashMap<AffinityKey, Affinity>>,
    /// By packet.
    pub fragments: RefCell<HashMap<FragmentKey, Fragment>>,
    /// Backend ids by server id.
    pub server_ids: HashMap<ServerIdKey, u32>,
    /// Health checks under way by source port, and their interface at 0.
    pub checks: HashMap<u16, Check>,
    /// Live flows by backend id.
    pub loads: Vec<Shared64>,
    /// Half-open flows by service id.
    pub half_open_flows: Vec<Shared64>,
    /// When a SYN cookie was last sent, by service id.
    pub cookies_sent: RefCell<HashMap<u32, Ticks>>,
    /// Packets that a service's lists kept out, by service id.
    pub denied: RefCell<HashMap<u32, u64>>,
    port_words: Vec<Shared64>,
    port_owners: Vec<Shared64>,
    filter: Vec<u64>,
    established: Vec<Bucket>,
    half_open: Vec<Bucket>,
    errors: Cell<(Ticks, u32)>,
    /// By backend id.
    pub counters: RefCell<HashMap<u32, BackendCounters>>,
    /// By event.
    pub events: RefCell<HashMap<Event, u64>>,
    /// Lines of sources' buckets. Only what was asked for takes memory.
    pub rates: RefCell<HashMap<u32, Line>>,
    /// Sources that are denied for a while.
    pub offenders: RefCell<HashMap<Address, u64>>,
    /// Who may send.
    pub firewall: Firewall,
    /// What was decided, if a feature asks for it.
    pub notes: RefCell<Vec<(Decision, u32)>>,
    /// Flows that other balancers should know.
    pub told: RefCell<Vec<u64>>,
}

impl HostTables {
    /// Empty tables of the sizes that the settings give.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let buckets = |mask: u32| (0..=mask).map(|_| Bucket::default()).collect();
        Self {
            settings,
            now: Cell::new(Ticks(1000)),
            services: HashMap::new(),
            slots: Vec::new(),
            cursors: RefCell::default(),
            backends: vec![Backend::default()],
            next_hops: vec![NextHop::default()],
            interfaces: HashMap::new(),
            sources: Vec::new(),
            affinity: RefCell::default(),
            fragments: RefCell::default(),
            server_ids: HashMap::new(),
            checks: HashMap::new(),
            loads: cells(LOADS),
            half_open_flows: cells(LOADS),
            cookies_sent: RefCell::default(),
            denied: RefCell::default(),
            port_words: Vec::new(),
            port_owners: Vec::new(),
            filter: vec![0; settings.filter_mask as usize + 1],
            established: buckets(settings.established_mask),
            half_open: buckets(settings.half_open_mask),
            errors: Cell::default(),
            counters: RefCell::default(),
            events: RefCell::default(),
            rates: RefCell::default(),
            offenders: RefCell::default(),
            firewall: Firewall::default(),
            notes: RefCell::default(),
            told: RefCell::default(),
        }
    }

    /// Adds a source address of full NAT, with these ports to give away.
    pub fn add_source(&mut self, address: Address, free: impl Fn(u16) -> bool) -> u32 {
        self.sources.push(address);
        let count = self.sources.len() as u32;
        self.port_owners
            .resize_with(ports::owners(count) as usize, Shared64::default);
        self.port_words
            .resize_with(ports::words(count) as usize, Shared64::default);
        for first in (0..=u16::MAX).step_by(64) {
            let taken = (0..64).filter(|bit| !free(first + bit));
            let taken = taken.fold(0, |word, bit| word | 1 << bit);
            for protocol in [6, 17] {
                let word = ports::word_index(count - 1, protocol, first) as usize;
                self.port_words[word].fetch_or(taken);
            }
        }
        count - 1
    }

    /// Words of the bitmap of source ports.
    #[must_use]
    pub fn port_words(&self) -> Vec<u64> {
        self.port_words.iter().map(Shared64::load).collect()
    }

    /// Sets the filter's bit for an endpoint.
    pub fn set_filter(&mut self, role: Role, key: &EndpointKey) {
        let Settings {
            hash_seed,
            filter_mask,
            ..
        } = self.settings;
        let bit = Bit::of(
            hash_seed,
            filter_mask,
            role,
            key.address,
            key.port,
            key.protocol,
        );
        self.filter[bit.word as usize] |= bit.mask;
    }

    /// The filter's words.
    #[must_use]
    pub fn filter(&self) -> &[u64] {
        &self.filter
    }

    /// How often an event happened.
    #[must_use]
    pub fn event(&self, event: Event) -> u64 {
        self.events.borrow().get(&event).copied().unwrap_or(0)
    }

    /// Flows in a table.
    #[must_use]
    pub fn flows(&self, table: FlowTable) -> usize {
        self.buckets(table)
            .iter()
            .map(|bucket| bucket.flows().count())
            .sum()
    }

    /// Claims every place of a table, as if other CPUs were about to fill all of them.
    pub fn claim_all(&self, table: FlowTable) {
        self.buckets(table).iter().for_each(Bucket::claim_all);
    }

    /// Every flow, expired ones included.
    pub fn views(&self) -> impl Iterator<Item = FlowView> {
        let tables = [FlowTable::Established, FlowTable::HalfOpen];
        tables
            .into_iter()
            .flat_map(|table| self.buckets(table).iter().flat_map(Bucket::views))
    }

    fn buckets(&self, table: FlowTable) -> &[Bucket] {
        match table {
            FlowTable::Established => &self.established,
            FlowTable::HalfOpen => &self.half_open,
        }
    }

    fn count(&self, backend: u32, change: impl FnOnce(&mut BackendCounters)) {
        change(self.counters.borrow_mut().entry(backend).or_default());
    }
}

impl Tables for HostTables {
    fn settings(&self) -> Settings {
        self.settings
    }

    fn now(&self) -> Ticks {
        self.now.get()
    }

    fn filter_word(&self, index: u32) -> u64 {
        self.filter.get(index as usize).copied().unwrap_or(0)
    }

    fn service(&self, key: &EndpointKey) -> Option<Service> {
        self.services.get(key).copied()
    }

    fn next_cursor(&self, service: u32) -> u64 {
        let mut cursors = self.cursors.borrow_mut();
        let cursor = cursors.entry(service).or_default();
        let turn = *cursor;
        *cursor += 1;
        turn
    }

    fn half_open_flows(&self, service: u32) -> Option<&Shared64> {
        self.half_open_flows.get(service as usize)
    }

    fn cookie_sent(&self, service: u32) -> Ticks {
        let sent = self.cookies_sent.borrow();
        sent.get(&service).copied().unwrap_or_default()
    }

    fn note_cookie_sent(&self, service: u32, now: Ticks) {
        self.cookies_sent.borrow_mut().insert(service, now);
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

    fn interface(&self, ifindex: u32, _: Ticks) -> Option<&Interface> {
        self.interfaces.get(&ifindex)
    }

    fn bucket(&self, table: FlowTable, index: u32) -> Option<&Bucket> {
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

    fn load(&self, backend: u32) -> Option<&Shared64> {
        self.loads.get(backend as usize)
    }

    fn source(&self, index: u32) -> Option<Address> {
        self.sources.get(index as usize).copied()
    }

    fn source_index(&self, address: &Address) -> Option<u32> {
        let index = self.sources.iter().position(|source| source == address)?;
        Some(index as u32)
    }

    fn port_word(&self, index: u32) -> Option<&Shared64> {
        self.port_words.get(index as usize)
    }

    fn port_owner(&self, index: u32) -> Option<&Shared64> {
        self.port_owners.get(index as usize)
    }

    fn affinity(&self, key: &AffinityKey) -> Affinity {
        self.affinity.borrow().get(key).copied().unwrap_or_default()
    }

    fn set_affinity(&self, key: &AffinityKey, value: &Affinity) {
        self.affinity.borrow_mut().insert(*key, *value);
    }

    fn fragment(&self, key: &FragmentKey) -> Fragment {
        self.fragments
            .borrow()
            .get(key)
            .copied()
            .unwrap_or_default()
    }

    fn set_fragment(&self, key: &FragmentKey, value: &Fragment) {
        self.fragments.borrow_mut().insert(*key, *value);
    }

    fn server_id(&self, key: &ServerIdKey) -> Option<u32> {
        self.server_ids.get(key).copied()
    }

    fn check(&self, port: u16) -> Option<&Check> {
        self.checks.get(&port)
    }

    fn firewall_word(&self, index: u32) -> u64 {
        self.firewall.word(index)
    }

    fn change_bucket(
        &self,
        index: u32,
        change: impl FnOnce(&Line) -> Option<(usize, u64, u64)>,
    ) -> bool {
        let mut rates = self.rates.borrow_mut();
        let line = rates.entry(index).or_default();
        let Some((way, _, new)) = change(line) else {
            return false;
        };
        line.0[way].store(new);
        true
    }

    fn count_denied(&self, service: u32) {
        *self.denied.borrow_mut().entry(service).or_default() += 1;
    }

    fn offender(&self, source: &Address) -> u64 {
        self.offenders
            .borrow()
            .get(source)
            .copied()
            .unwrap_or_default()
    }

    fn set_offender(&self, source: &Address, offender: u64) {
        self.offenders.borrow_mut().insert(*source, offender);
    }

    fn firewall_entry(&self, key: &firewall::Key) -> firewall::Entry {
        self.firewall.longest_match(key)
    }

    fn tell(&self, mark: u64) {
        self.told.borrow_mut().push(mark);
    }

    fn note(&self, decision: Decision, value: u32) {
        if self.has(features::DRY_RUN | features::CAPTURE) {
            self.notes.borrow_mut().push((decision, value));
        }
    }

    fn may_send_error(&self, now: Ticks) -> bool {
        let (tick, sent) = self.errors.get();
        let sent = if tick == now { sent + 1 } else { 1 };
        self.errors.set((now, sent));
        sent <= self.settings.errors_per_tick
    }

    fn count_packet(&self, backend: u32, bytes: u64) {
        self.count(backend, |counters| {
            counters.packets += 1;
            counters.bytes += bytes;
        });
    }

    fn count_reply(&self, backend: u32, bytes: u64) {
        self.count(backend, |counters| {
            counters.reply_packets += 1;
            counters.reply_bytes += bytes;
        });
    }

    fn count_connection(&self, backend: u32) {
        self.count(backend, |counters| counters.connections += 1);
    }

    fn count_handshake(&self, backend: u32, handshake: Handshake) {
        self.count(backend, |counters| counters.count(handshake));
    }

    fn count_event(&self, event: Event) {
        *self.events.borrow_mut().entry(event).or_default() += 1;
    }
}
