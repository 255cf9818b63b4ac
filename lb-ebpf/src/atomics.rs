//! Atomic operations that return a value.
//!
//! `core::sync::atomic` has none of them for BPF, as the target declares no compare-and-swap; the
//! instructions exist since Linux 5.12 (`-C target-cpu=v3`). Never use `Relaxed` where the result
//! is read: LLVM 22 then emits the form of the instruction that returns nothing, and goes on with
//! a stale register. A test looks for the right instructions in the object.

use core::intrinsics::{
    AtomicOrdering, atomic_and, atomic_cxchg, atomic_or, atomic_xadd, atomic_xchg,
};

use lb_common::shared::{Shared32, Shared64};

/// Adds 1 and returns what was there before.
///
/// # Safety
///
/// `cell` points to an aligned `u64` that lives for the whole program run, such as a map value.
#[inline(always)]
pub(crate) unsafe fn fetch_add_one(cell: *mut u64) -> u64 {
    // SAFETY: by the contract of this function.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(cell, 1) }
}

/// Replaces `current` by `new` if it is still there.
#[inline(always)]
pub(crate) fn compare_exchange(cell: &Shared32, current: u32, new: u32) -> bool {
    // SAFETY: a reference to a `Shared32` is a valid, aligned pointer to its value, which may
    // be changed through it at any time.
    let (_, done) = unsafe {
        atomic_cxchg::<u32, { AtomicOrdering::AcqRel }, { AtomicOrdering::Acquire }>(
            cell.as_ptr(),
            current,
            new,
        )
    };
    done
}

/// Writes a value after everything before it and before everything after it.
#[inline(always)]
pub(crate) fn publish(cell: &Shared64, value: u64) {
    // An exchange is a full barrier in BPF; a plain store would not be one on every machine.
    // SAFETY: as in `compare_exchange`.
    let _ = unsafe { atomic_xchg::<u64, { AtomicOrdering::AcqRel }>(cell.as_ptr(), value) };
}

/// Replaces `current` by `new` if it is still there.
#[inline(always)]
pub(crate) fn compare_exchange_word(cell: &Shared64, current: u64, new: u64) -> bool {
    // SAFETY: a reference to a `Shared64` is a valid, aligned pointer to its value, which may
    // be changed through it at any time.
    let (_, done) = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::AcqRel }, { AtomicOrdering::Acquire }>(
            cell.as_ptr(),
            current,
            new,
        )
    };
    done
}

/// Sets bits and returns what was there before.
#[inline(always)]
pub(crate) fn fetch_or(cell: &Shared64, bits: u64) -> u64 {
    // SAFETY: as in `compare_exchange_word`.
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::AcqRel }>(cell.as_ptr(), bits) }
}

/// Keeps only these bits and returns what was there before.
#[inline(always)]
pub(crate) fn fetch_and(cell: &Shared64, bits: u64) -> u64 {
    // SAFETY: as in `compare_exchange_word`.
    unsafe { atomic_and::<u64, u64, { AtomicOrdering::AcqRel }>(cell.as_ptr(), bits) }
}

/// Adds, wrapping.
#[inline(always)]
pub(crate) fn add(cell: &Shared64, change: u64) {
    // SAFETY: as in `compare_exchange_word`.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(cell.as_ptr(), change) };
}

/// Adds, wrapping, and returns what was there before.
#[inline(always)]
pub(crate) fn fetch_add(cell: &Shared64, change: u64) -> u64 {
    // SAFETY: as in `compare_exchange_word`.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(cell.as_ptr(), change) }
}
