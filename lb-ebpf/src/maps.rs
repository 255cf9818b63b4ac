//! The maps, and the engine's look-ups in them.

use core::{arch::asm, hint};

use aya_ebpf::{
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_coarse_ns},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie},
};
use lb_common::{
    abi::{
        Affinity, AffinityKey, Backend, BackendCounters, Check, Counters, Cursor, EVENT_CAPACITY,
        EndpointKey, Fragment, FragmentKey, Handshake, Interface, Meta, NextHop, ServerIdKey,
        Service, Settings, Ticks, VERDICT_CAPACITY, features,
    },
    address::Address,
    firewall::{self, rate::WAYS},
    flow::Bucket,
    shared::{Shared32, Shared64},
    sync,
    tables::{FlowTable, Tables},
    trace::Decision,
    verdict::{Event, Verdict},
};

use crate::{atomics, watch};

const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1 << 10;

// The agent sets every size at load.
#[map]
static META: Array<Meta> = Array::with_max_entries(1, 0);
#[map]
static SERVICES: HashMap<EndpointKey, Service> = HashMap::with_max_entries(1, NO_PREALLOC);
#[map]
static SLOTS: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static CURSORS: Array<Cursor> = Array::with_max_entries(1, MMAPABLE);
#[map]
static BACKENDS: Array<Backend> = Array::with_max_entries(1, 0);
#[map]
static BACKEND_STATS: PerCpuArray<BackendCounters> = PerCpuArray::with_max_entries(1, 0);
#[map]
static NEXT_HOPS: Array<NextHop> = Array::with_max_entries(1, 0);
#[map]
static INTERFACES: HashMap<u32, Interface> = HashMap::with_max_entries(64, NO_PREALLOC);
#[map]
static FILTER: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static ESTABLISHED: Array<KernelBucket> = Array::with_max_entries(1, MMAPABLE);
#[map]
static HALF_OPEN: Array<KernelBucket> = Array::with_max_entries(1, MMAPABLE);
/// The tick in which this CPU last sent an ICMP error, and how many it sent in it.
#[map]
static ERRORS: PerCpuArray<[u32; 2]> = PerCpuArray::with_max_entries(1, 0);
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// What this CPU looked up of an interface in the present tick: the hash costs 15 ns, and every
/// reply asks.
#[map]
static NEAR_INTERFACES: PerCpuArray<NearInterface> = PerCpuArray::with_max_entries(NEAR, 0);

const NEAR: u32 = 32;

#[derive(Clone, Copy)]
#[repr(C)]
struct NearInterface {
    ifindex: u32,
    tick: u32,
    value: Interface,
}

#[map]
static LOADS: Array<KernelCell> = Array::with_max_entries(1, MMAPABLE);
#[map]
static SOURCES: Array<Address> = Array::with_max_entries(1, 0);
#[map]
static SOURCE_INDEX: HashMap<Address, u32> = HashMap::with_max_entries(1, NO_PREALLOC);
#[map]
static PORTS: Array<KernelCell> = Array::with_max_entries(1, MMAPABLE);
#[map]
static PORT_OWNERS: Array<KernelCell> = Array::with_max_entries(1, MMAPABLE);
#[map]
static AFFINITY: LruHashMap<AffinityKey, Affinity> = LruHashMap::with_max_entries(1, 0);
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, Fragment> = LruHashMap::with_max_entries(1, 0);
#[map]
static SERVER_IDS: HashMap<ServerIdKey, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

#[map]
static CHECKS: Array<Check> = Array::with_max_entries(1, 0);

#[map]
static FIREWALL: Array<u64> = Array::with_max_entries(1, MMAPABLE);
#[map]
static FIREWALL_LPM: LpmTrie<LpmData, u32> = LpmTrie::with_max_entries(1, NO_PREALLOC);

#[map]
static RATES: Array<KernelLine> = Array::with_max_entries(1, MMAPABLE);

#[map]
static OFFENDERS: LruHashMap<Address, u64> = LruHashMap::with_max_entries(1, 0);

/// What follows the length in a [`firewall::Key`].
type LpmData = [u32; 5];

#[map]
static SYNC: Array<KernelCell> = Array::with_max_entries(1, MMAPABLE);

/// A word in a map, which every CPU may use.
#[repr(transparent)]
pub(crate) struct KernelCell(pub(crate) Shared64);

// SAFETY: a word is read and written by one instruction; changes that CPUs race for go through the
// atomic instructions of `atomics`.
unsafe impl Sync for KernelCell {}

/// Buckets of sources in a map, which every CPU may use.
#[repr(transparent)]
pub(crate) struct KernelLine(pub(crate) firewall::rate::Line);

// SAFETY: as of a `KernelCell`, of which it has eight.
unsafe impl Sync for KernelLine {}

/// A bucket in a map, which every CPU may use.
#[repr(transparent)]
pub(crate) struct KernelBucket(pub(crate) Bucket);

// SAFETY: a bucket is made of `Shared` integers, each read and written by one instruction, and
// changes of tags that CPUs race for go through the atomic instructions of `atomics`.
unsafe impl Sync for KernelBucket {}

/// Filled in by the agent before the program is loaded, constant from then on.
// SAFETY: the name is used by nothing else in this object.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    hash_seed: 0,
    established_mask: 0,
    half_open_mask: 0,
    filter_mask: 0,
    errors_per_tick: 0,
    features: 0,
    reserved: 0,
};

/// The settings as they are in the kernel: the compiler would use the zeros that it sees here, and
/// what is volatile would be read as a whole each time.
#[inline(always)]
fn settings() -> &'static Settings {
    let mut settings = &raw const SETTINGS;
    // SAFETY: no instruction at all; the compiler merely does not know what comes out.
    unsafe {
        asm!(
            "/* {settings} */",
            settings = inout(reg) settings,
            options(pure, nomem, nostack),
        );
    }
    // SAFETY: it is still the static's address, which is initialised, aligned and never written
    // while the program runs.
    unsafe { &*settings }
}

/// Whether frames may be in several buffers.
#[inline(always)]
pub(crate) fn is_multi_buffer() -> bool {
    settings().features & features::MULTI_BUFFER != 0
}

/// Whether nothing may change.
#[inline(always)]
pub(crate) fn is_dry_run() -> bool {
    settings().features & features::DRY_RUN != 0
}

/// A bucket where it stands.
#[inline(always)]
pub(crate) fn real_bucket(table: FlowTable, index: u32) -> Option<&'static Bucket> {
    match table {
        FlowTable::Established => ESTABLISHED.get(index).map(|bucket| &bucket.0),
        FlowTable::HalfOpen => HALF_OPEN.get(index).map(|bucket| &bucket.0),
    }
}

/// Words that belong to source ports.
#[derive(Clone, Copy)]
pub(crate) enum Word {
    /// Which are in use.
    Ports = 0,
    /// Whose they are.
    Owners = 1,
}

/// A word where it stands.
#[inline(always)]
pub(crate) fn real_word(kind: Word, index: u32) -> Option<&'static Shared64> {
    let map = match kind {
        Word::Ports => &PORTS,
        Word::Owners => &PORT_OWNERS,
    };
    map.get(index).map(|cell| &cell.0)
}

/// A word, or the copy of it that a dry run changes.
#[inline(always)]
fn word(kind: Word, index: u32) -> Option<&'static Shared64> {
    if is_dry_run() {
        return watch::word(kind, index);
    }
    real_word(kind, index)
}

/// Tells the agent of a flow. A function with a global name, which the verifier walks through once.
// SAFETY: the name is used by nothing else in this object.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sync_tell(mark: u64) -> u64 {
    if settings().features & features::SYNC == 0 || is_dry_run() {
        return 0;
    }
    // SAFETY: the helper takes nothing and is allowed in XDP programs.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(cursor) = SYNC.get(sync::cursor(cpu)) {
        let number = atomics::fetch_add(&cursor.0, 1);
        if let Some(slot) = SYNC.get(sync::slot(cpu, number)) {
            slot.0.store(mark);
        }
    }
    0
}

/// The maps as the engine sees them.
pub(crate) struct KernelTables;

impl KernelTables {
    /// Counts how a packet left.
    #[inline(always)]
    pub(crate) fn count_verdict(verdict: Verdict) {
        if is_dry_run() {
            return;
        }
        if let Some(counters) = COUNTERS.get_ptr_mut(0) {
            // The compiler knows that a verdict is small and leaves the mask out; the verifier,
            // which has it from another function, does not know.
            let index = hint::black_box(verdict as usize) & (VERDICT_CAPACITY - 1);
            // SAFETY: the value belongs to this CPU, and an XDP program is not interrupted by
            // another one on its CPU; the index is below the array's length by the mask.
            unsafe { (*counters).verdicts[index] += 1 }
        }
    }

    #[inline(always)]
    fn count_backend(id: u32, change: impl FnOnce(&mut BackendCounters)) {
        if is_dry_run() {
            return;
        }
        if let Some(counters) = BACKEND_STATS.get_ptr_mut(id) {
            // SAFETY: the value belongs to this CPU, and an XDP program is not interrupted by
            // another one on its CPU.
            change(unsafe { &mut *counters });
        }
    }
}

impl Tables for KernelTables {
    #[inline(always)]
    fn settings(&self) -> Settings {
        *settings()
    }

    #[inline(always)]
    fn has(&self, features: u32) -> bool {
        settings().features & features != 0
    }

    #[inline(always)]
    fn now(&self) -> Ticks {
        // SAFETY: the helper takes nothing and is allowed in XDP programs.
        Ticks::from_nanos(unsafe { bpf_ktime_get_coarse_ns() })
    }

    #[inline(always)]
    fn filter_word(&self, index: u32) -> u64 {
        FILTER.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn service(&self, key: &EndpointKey) -> Option<Service> {
        // SAFETY: the agent replaces values as a whole, and without preallocation the kernel
        // frees the old one only after every program that can see it has returned.
        unsafe { SERVICES.get(key) }.copied()
    }

    #[inline(always)]
    fn next_cursor(&self, service: u32) -> u64 {
        CURSORS.get_ptr_mut(service).map_or(0, |cursor| {
            if is_dry_run() {
                // SAFETY: a map value, which is aligned and outlives this run; one plain load.
                return unsafe { (&raw const (*cursor).value).read_volatile() };
            }
            // SAFETY: `cursor` points to a map value, which is aligned and outlives this run.
            unsafe { atomics::fetch_add_one(&raw mut (*cursor).value) }
        })
    }

    #[inline(always)]
    fn half_open_flows(&self, service: u32) -> Option<&Shared64> {
        let cursor = CURSORS.get_ptr_mut(service)?;
        // SAFETY: a map value, which is aligned and outlives this run; from here on it is read by
        // one load and changed by the atomic instructions of `atomics`.
        Some(unsafe { &*(&raw const (*cursor).half_open).cast::<Shared64>() })
    }

    #[inline(always)]
    fn cookie_sent(&self, service: u32) -> Ticks {
        CURSORS.get_ptr_mut(service).map_or(Ticks(0), |cursor| {
            // SAFETY: a map value, which is aligned and outlives this run; one plain load.
            Ticks(unsafe { (&raw const (*cursor).cookie_sent).read_volatile() } as u32)
        })
    }

    #[inline(always)]
    fn note_cookie_sent(&self, service: u32, now: Ticks) {
        if is_dry_run() {
            return;
        }
        if let Some(cursor) = CURSORS.get_ptr_mut(service) {
            let sent = u64::from(now.0);
            // SAFETY: as in `cookie_sent`, and whichever CPU is the last to store is right. Only
            // when it changes, so that the line stays with all CPUs.
            unsafe {
                let cell = &raw mut (*cursor).cookie_sent;
                if cell.read_volatile() != sent {
                    cell.write_volatile(sent);
                }
            }
        }
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<u32> {
        SLOTS.get(index).copied()
    }

    #[inline(always)]
    fn backend(&self, id: u32) -> Option<&Backend> {
        BACKENDS.get(id)
    }

    #[inline(always)]
    fn next_hop(&self, index: u32) -> Option<&NextHop> {
        NEXT_HOPS.get(index)
    }

    #[inline(always)]
    fn interface(&self, ifindex: u32, now: Ticks) -> Option<&Interface> {
        let near = NEAR_INTERFACES.get_ptr_mut(ifindex % NEAR)?;
        // SAFETY: the value belongs to this CPU, and an XDP program is not interrupted by another
        // one on its CPU.
        let near = unsafe { &mut *near };
        if near.ifindex != ifindex || near.tick != now.0 {
            // SAFETY: as in `service`.
            near.value = unsafe { INTERFACES.get(ifindex) }.copied()?;
            near.ifindex = ifindex;
            near.tick = now.0;
        }
        Some(&near.value)
    }

    #[inline(always)]
    fn interface_anew(&self, ifindex: u32, _: Ticks) -> Option<&Interface> {
        // SAFETY: as in `service`.
        unsafe { INTERFACES.get(ifindex) }
    }

    #[inline(always)]
    fn bucket(&self, table: FlowTable, index: u32) -> Option<&Bucket> {
        if is_dry_run() {
            return watch::bucket(table, index);
        }
        real_bucket(table, index)
    }

    #[inline(always)]
    fn compare_exchange(&self, cell: &Shared32, current: u32, new: u32) -> bool {
        atomics::compare_exchange(cell, current, new)
    }

    #[inline(always)]
    fn publish(&self, cell: &Shared64, value: u64) {
        atomics::publish(cell, value);
    }

    #[inline(always)]
    fn compare_exchange_word(&self, cell: &Shared64, current: u64, new: u64) -> bool {
        atomics::compare_exchange_word(cell, current, new)
    }

    #[inline(always)]
    fn fetch_or(&self, cell: &Shared64, bits: u64) -> u64 {
        atomics::fetch_or(cell, bits)
    }

    #[inline(always)]
    fn fetch_and(&self, cell: &Shared64, bits: u64) -> u64 {
        atomics::fetch_and(cell, bits)
    }

    #[inline(always)]
    fn add(&self, cell: &Shared64, change: u64) {
        if is_dry_run() {
            return;
        }
        atomics::add(cell, change);
    }

    #[inline(always)]
    fn load(&self, backend: u32) -> Option<&Shared64> {
        LOADS.get(backend).map(|cell| &cell.0)
    }

    #[inline(always)]
    fn source(&self, index: u32) -> Option<Address> {
        SOURCES.get(index).copied()
    }

    #[inline(always)]
    fn source_index(&self, address: &Address) -> Option<u32> {
        // SAFETY: as in `service`.
        unsafe { SOURCE_INDEX.get(address) }.copied()
    }

    #[inline(always)]
    fn port_word(&self, index: u32) -> Option<&Shared64> {
        word(Word::Ports, index)
    }

    #[inline(always)]
    fn port_owner(&self, index: u32) -> Option<&Shared64> {
        word(Word::Owners, index)
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Affinity {
        // SAFETY: the value is copied at once; one that is replaced meanwhile is two words of
        // which either may be new, and both are checked.
        unsafe { AFFINITY.get(key) }.copied().unwrap_or_default()
    }

    #[inline(always)]
    fn set_affinity(&self, key: &AffinityKey, value: &Affinity) {
        if is_dry_run() {
            return;
        }
        // Without room there is no affinity, which costs nobody a connection.
        let _ = AFFINITY.insert(key, value, 0);
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Fragment {
        // SAFETY: as in `affinity`.
        unsafe { FRAGMENTS.get(key) }.copied().unwrap_or_default()
    }

    #[inline(always)]
    fn set_fragment(&self, key: &FragmentKey, value: &Fragment) {
        if is_dry_run() {
            return;
        }
        // Without room the later fragments are dropped and counted.
        let _ = FRAGMENTS.insert(key, value, 0);
    }

    #[inline(always)]
    fn server_id(&self, key: &ServerIdKey) -> Option<u32> {
        // SAFETY: as in `service`.
        unsafe { SERVER_IDS.get(key) }.copied()
    }

    #[inline(always)]
    fn check(&self, port: u16) -> Option<&Check> {
        CHECKS.get(u32::from(port))
    }

    #[inline(always)]
    fn firewall_word(&self, index: u32) -> u64 {
        let Some(word) = FIREWALL.get_ptr(index) else {
            return 0;
        };
        // SAFETY: a map value, which is aligned and outlives this run; one plain load, so that it is
        // not read anew when the agent has changed it.
        unsafe { word.read_volatile() }
    }

    #[inline(always)]
    fn change_bucket(
        &self,
        index: u32,
        change: impl FnOnce(&firewall::rate::Line) -> Option<(usize, u64, u64)>,
    ) -> bool {
        let Some(line) = RATES.get(index) else {
            return true;
        };
        let Some((way, old, new)) = change(&line.0) else {
            return false;
        };
        if !is_dry_run() {
            atomics::compare_exchange_word(&line.0.0[way % WAYS], old, new);
        }
        true
    }

    #[inline(always)]
    fn count_denied(&self, service: u32) {
        if is_dry_run() {
            return;
        }
        if let Some(cursor) = CURSORS.get_ptr_mut(service) {
            // SAFETY: `cursor` points to a map value, which is aligned and outlives this run.
            unsafe { atomics::fetch_add_one(&raw mut (*cursor).denied) };
        }
    }

    #[inline(always)]
    fn offender(&self, source: &Address) -> u64 {
        // SAFETY: the value is one word, which is copied at once.
        unsafe { OFFENDERS.get(source) }.copied().unwrap_or(0)
    }

    #[inline(always)]
    fn set_offender(&self, source: &Address, offender: u64) {
        if is_dry_run() {
            return;
        }
        // Without room it is not denied, and exceeds its limit again.
        let _ = OFFENDERS.insert(source, &offender, 0);
    }

    #[inline(always)]
    fn firewall_entry(&self, key: &firewall::Key) -> firewall::Entry {
        const {
            assert!(size_of::<firewall::Key>() == size_of::<lpm_trie::Key<LpmData>>());
        }
        let key = (&raw const *key).cast::<lpm_trie::Key<LpmData>>();
        // SAFETY: both are the length and then twenty bytes, without padding, and the second asks for
        // no alignment.
        let key = unsafe { &*key };
        firewall::Entry(FIREWALL_LPM.get(key).copied().unwrap_or(0))
    }

    #[inline(always)]
    fn tell(&self, mark: u64) {
        sync_tell(mark);
    }

    #[inline(always)]
    fn note(&self, decision: Decision, value: u32) {
        watch::note(decision, value);
    }

    #[inline(always)]
    fn may_send_error(&self, now: Ticks) -> bool {
        if is_dry_run() {
            return true;
        }
        let Some(errors) = ERRORS.get_ptr_mut(0) else {
            return false;
        };
        // SAFETY: as in `count_verdict`.
        let [tick, sent] = unsafe { &mut *errors };
        if *tick != now.0 {
            *tick = now.0;
            *sent = 0;
        }
        *sent = sent.wrapping_add(1);
        *sent <= self.settings().errors_per_tick
    }

    #[inline(always)]
    fn count_packet(&self, backend: u32, bytes: u64) {
        Self::count_backend(backend, |counters| {
            counters.packets += 1;
            counters.bytes += bytes;
        });
    }

    #[inline(always)]
    fn count_reply(&self, backend: u32, bytes: u64) {
        Self::count_backend(backend, |counters| {
            counters.reply_packets += 1;
            counters.reply_bytes += bytes;
        });
    }

    #[inline(always)]
    fn count_connection(&self, backend: u32) {
        Self::count_backend(backend, |counters| counters.connections += 1);
    }

    #[inline(always)]
    fn count_handshake(&self, backend: u32, handshake: Handshake) {
        Self::count_backend(backend, |counters| counters.count(handshake));
    }

    #[inline(always)]
    fn count_event(&self, event: Event) {
        if is_dry_run() {
            return;
        }
        if let Some(counters) = COUNTERS.get_ptr_mut(0) {
            // SAFETY: as in `count_verdict`.
            unsafe { (*counters).events[event as usize & (EVENT_CAPACITY - 1)] += 1 }
        }
    }
}
