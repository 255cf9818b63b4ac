//! For programs that are watched: what was decided, copies to play with, and captured packets.
//!
//! None of it is in a program without [`features::DRY_RUN`] and [`features::CAPTURE`]. The functions
//! have global names, so that the verifier walks through each once; each looks at the features
//! first, so that it finds nothing there where they are off.

use core::slice;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_ktime_get_ns, generated::bpf_xdp_load_bytes},
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
    programs::XdpContext,
};
use lb_common::{
    abi::features,
    capture::{Counts, Filter, Record, SNAP},
    engine::Outcome,
    flow::Bucket,
    frame::Frame as _,
    shared::Shared64,
    tables::{FlowTable, Tables as _},
    trace::{CAPACITY, Decision, Trace},
};

use crate::{
    frame::XdpFrame,
    maps::{KernelBucket, KernelCell, KernelTables, Word, real_bucket, real_word},
};

#[map]
static TRACE: PerCpuArray<Trace> = PerCpuArray::with_max_entries(1, 0);
#[map]
static COPIES: PerCpuArray<KernelBucket> = PerCpuArray::with_max_entries(COPY_COUNT as u32, 0);
#[map]
static COPY_KEYS: PerCpuArray<[u64; COPY_COUNT]> = PerCpuArray::with_max_entries(1, 0);
/// A word of each kind.
#[map]
static WORDS: PerCpuArray<KernelCell> = PerCpuArray::with_max_entries(WORD_KINDS as u32, 0);
/// Which words they are copies of, plus 1.
#[map]
static WORD_KEYS: PerCpuArray<[u64; WORD_KINDS]> = PerCpuArray::with_max_entries(1, 0);
#[map]
static CAPTURE_FILTER: Array<Filter> = Array::with_max_entries(1, 0);
#[map]
static CAPTURE_COUNTS: PerCpuArray<Counts> = PerCpuArray::with_max_entries(1, 0);
// The agent sets the size where it is used.
#[map]
static CAPTURE_RING: RingBuf = RingBuf::with_byte_size(4096, 0);
#[map]
static CAPTURED: PerCpuArray<Captured> = PerCpuArray::with_max_entries(1, 0);

/// Two buckets of each table: more, no packet looks at.
const COPY_COUNT: usize = 4;
const WORD_KINDS: usize = 2;

#[repr(C)]
struct Captured {
    record: Record,
    bytes: [u8; SNAP],
}

#[inline(always)]
fn is_watched() -> bool {
    KernelTables.has(features::DRY_RUN | features::CAPTURE)
}

/// A value of this CPU's.
macro_rules! own {
    ($map:ident) => {
        match $map.get_ptr_mut(0) {
            // SAFETY: the value belongs to this CPU, and an XDP program is not interrupted by
            // another one on its CPU; the borrow ends before the next one of this map begins.
            Some(value) => unsafe { &mut *value },
            None => return 0,
        }
    };
}

// SAFETY: the name is used by nothing else in this object.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn watch_begin(context: *mut xdp_md) -> u64 {
    if !is_watched() {
        return 0;
    }
    let trace = own!(TRACE);
    trace.runs = trace.runs.wrapping_add(1);
    trace.length = 0;
    trace.service = 0;
    for key in own!(COPY_KEYS) {
        *key = 0;
    }
    for key in own!(WORD_KEYS) {
        *key = 0;
    }
    if !KernelTables.has(features::CAPTURE) {
        return 0;
    }
    let captured = own!(CAPTURED);
    // Nothing, until it is sampled.
    captured.record.captured = 0;
    let counts = own!(CAPTURE_COUNTS);
    let seen = counts.seen;
    counts.seen += 1;
    let Some(filter) = CAPTURE_FILTER.get(0) else {
        return 0;
    };
    if filter.sample == 0 || !seen.is_multiple_of(u64::from(filter.sample)) {
        return 0;
    }
    counts.sampled += 1;
    let frame = XdpFrame::new(XdpContext::new(context));
    let length = frame.len() as u32;
    captured.record.length = length;
    captured.record.ingress = frame.ingress();
    // SAFETY: the context is the one that the kernel called the program with. Volatile, or the
    // compiler would read two fields at once, which the verifier refuses.
    captured.record.queue = unsafe { (&raw const (*context).rx_queue_index).read_volatile() };
    let wanted = length.min(filter.snap).min(SNAP as u32);
    if wanted == 0 {
        return 0;
    }
    // SAFETY: the helper writes `wanted` bytes, which the buffer has room for.
    let result =
        unsafe { bpf_xdp_load_bytes(context, 0, (&raw mut captured.bytes).cast(), wanted) };
    if result == 0 {
        captured.record.captured = wanted;
    }
    0
}

// SAFETY: the name is used by nothing else in this object.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn watch_end(outcome: u64) -> u64 {
    if !is_watched() {
        return 0;
    }
    let outcome = Outcome::unpack(outcome);
    let trace = own!(TRACE);
    trace.verdict = outcome.verdict as u32;
    trace.egress = outcome.egress;
    if !KernelTables.has(features::CAPTURE) {
        return 0;
    }
    let captured = own!(CAPTURED);
    if captured.record.captured == 0 {
        return 0;
    }
    let Some(filter) = CAPTURE_FILTER.get(0) else {
        return 0;
    };
    if filter.verdicts >> (trace.verdict & 63) & 1 == 0
        || (filter.service != 0 && filter.service != trace.service)
    {
        return 0;
    }
    captured.record.trace = *trace;
    // SAFETY: the helper takes nothing and is allowed in XDP programs.
    captured.record.time = unsafe { bpf_ktime_get_ns() };
    let bytes = (captured.record.captured as usize).min(SNAP);
    // SAFETY: the value has that many bytes, and nothing writes to it while they are borrowed.
    let record = unsafe {
        slice::from_raw_parts(
            (&raw const *captured).cast::<u8>(),
            size_of::<Record>() + bytes,
        )
    };
    if CAPTURE_RING.output::<[u8]>(record, 0).is_err() {
        own!(CAPTURE_COUNTS).lost += 1;
    }
    0
}

// SAFETY: the name is used by nothing else in this object.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn watch_note(decision: u64, value: u64) -> u64 {
    if !is_watched() {
        return 0;
    }
    let trace = own!(TRACE);
    let about = |wanted: Decision| decision == wanted as u64;
    if about(Decision::Service) {
        trace.service = value as u32 + 1;
    } else if (about(Decision::Established)
        || about(Decision::HalfOpen)
        || about(Decision::Reply)
        || about(Decision::ErrorToBackend)
        || about(Decision::ErrorToClient))
        && let Some(backend) = KernelTables.backend(value as u32)
    {
        trace.service = backend.service + 1;
    }
    let index = trace.length as usize;
    trace.length += 1;
    if index < CAPACITY {
        let note = &mut trace.notes[index];
        note.decision = decision as u32;
        note.value = value as u32;
    }
    0
}

/// Makes a copy of a bucket unless there is one, and says which it is.
// SAFETY: the name is used by nothing else in this object.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn watch_bucket(is_half_open: u64, index: u64) -> u64 {
    const LENGTH: usize = size_of::<Bucket>() / size_of::<u64>();
    const NONE: u64 = COPY_COUNT as u64;
    if !KernelTables.has(features::DRY_RUN) {
        return NONE;
    }
    let table = if is_half_open == 0 {
        FlowTable::Established
    } else {
        FlowTable::HalfOpen
    };
    let wanted = 1 << 63 | is_half_open << 32 | index;
    let keys = own!(COPY_KEYS);
    let mut slot = 0;
    while slot < COPY_COUNT && keys[slot] != wanted && keys[slot] != 0 {
        slot += 1;
    }
    if slot >= COPY_COUNT || keys[slot] == wanted {
        return slot as u64;
    }
    keys[slot] = wanted;
    let (Some(from), Some(to)) = (
        real_bucket(table, index as u32),
        COPIES.get_ptr_mut(slot as u32),
    ) else {
        return NONE;
    };
    let (from, to) = ((&raw const *from).cast::<u64>(), to.cast::<u64>());
    for word in 0..LENGTH {
        // SAFETY: both are map values of that many words, the one read as the data path reads it,
        // the other this CPU's own. Volatile, or the compiler would call a function for it.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) }
    }
    slot as u64
}

/// Begins to watch a packet, and says whether it is sampled.
#[inline(always)]
pub(crate) fn begin(context: *mut xdp_md) -> u64 {
    if is_watched() {
        watch_begin(context)
    } else {
        0
    }
}

/// Notes how a packet left.
#[inline(always)]
pub(crate) fn end(outcome: Outcome) {
    if is_watched() {
        watch_end(outcome.pack());
    }
}

/// Notes a decision.
#[inline(always)]
pub(crate) fn note(decision: Decision, value: u32) {
    if is_watched() {
        watch_note(decision as u64, u64::from(value));
    }
}

/// A copy of a bucket, the same one for the whole packet.
#[inline(always)]
pub(crate) fn bucket(table: FlowTable, index: u32) -> Option<&'static Bucket> {
    let is_half_open = match table {
        FlowTable::Established => 0,
        FlowTable::HalfOpen => 1,
    };
    let slot = watch_bucket(is_half_open, u64::from(index));
    let copy = COPIES.get_ptr(slot as u32)?;
    // SAFETY: the value belongs to this CPU and is read and written through `Shared` only.
    Some(unsafe { &(*copy).0 })
}

/// Whether there is a copy of a word now, the same one until another word of that kind is asked for.
// SAFETY: the name is used by nothing else in this object.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn watch_word(kind: u64, index: u64) -> u64 {
    if !KernelTables.has(features::DRY_RUN) {
        return 0;
    }
    let real = if kind == Word::Ports as u64 {
        real_word(Word::Ports, index as u32)
    } else {
        real_word(Word::Owners, index as u32)
    };
    let (Some(real), Some(copy)) = (real, WORDS.get_ptr(kind as u32)) else {
        return 0;
    };
    let key = &mut own!(WORD_KEYS)[kind as usize % WORD_KINDS];
    if *key != index + 1 {
        *key = index + 1;
        // SAFETY: the value belongs to this CPU and is read and written through `Shared` only.
        unsafe { (*copy).0.store(real.load()) }
    }
    1
}

/// A copy of a word, the same one until another word of that kind is asked for.
#[inline(always)]
pub(crate) fn word(kind: Word, index: u32) -> Option<&'static Shared64> {
    if watch_word(kind as u64, u64::from(index)) == 0 {
        return None;
    }
    let copy = WORDS.get_ptr(kind as u32)?;
    // SAFETY: as in `watch_word`.
    Some(unsafe { &(*copy).0 })
}
