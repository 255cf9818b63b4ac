//! Integers that other CPUs and the agent read and write at any time.
//!
//! Plain loads and stores of one machine word each, in no order to one another. On the host they
//! are relaxed atomics; the BPF target has atomic types for 64 bits only, so there they are cells,
//! which compile to the same instructions.

macro_rules! shared {
    ($(#[$doc:meta])* $name:ident, $integer:ty, $atomic:ident) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name(
            #[cfg(not(target_arch = "bpf"))] core::sync::atomic::$atomic,
            #[cfg(target_arch = "bpf")] core::cell::Cell<$integer>,
        );

        impl $name {
            /// Reads it.
            #[inline(always)]
            #[must_use]
            pub fn load(&self) -> $integer {
                #[cfg(not(target_arch = "bpf"))]
                return self.0.load(core::sync::atomic::Ordering::Relaxed);
                #[cfg(target_arch = "bpf")]
                return self.0.get();
            }

            /// Writes it.
            #[inline(always)]
            pub fn store(&self, value: $integer) {
                #[cfg(not(target_arch = "bpf"))]
                self.0.store(value, core::sync::atomic::Ordering::Relaxed);
                #[cfg(target_arch = "bpf")]
                self.0.set(value);
            }

            /// Writes it unless it is there already, so that an unchanged cache line stays shared
            /// between CPUs.
            #[inline(always)]
            pub fn update(&self, value: $integer) {
                if self.load() != value {
                    self.store(value);
                }
            }

            /// Where it stands, for the atomic instructions that only the kernel side has.
            #[must_use]
            pub const fn as_ptr(&self) -> *mut $integer {
                self.0.as_ptr()
            }
        }
    };
}

shared!(
    /// 8 bits.
    Shared8, u8, AtomicU8
);
shared!(
    /// 16 bits.
    Shared16, u16, AtomicU16
);
shared!(
    /// 32 bits.
    Shared32, u32, AtomicU32
);
shared!(
    /// 64 bits.
    Shared64, u64, AtomicU64
);

#[cfg(not(target_arch = "bpf"))]
impl Shared32 {
    /// Replaces `current` by `new`, if it is still there, in one atomic step.
    pub fn compare_exchange(&self, current: u32, new: u32) -> bool {
        use core::sync::atomic::Ordering::{AcqRel, Relaxed};
        self.0
            .compare_exchange(current, new, AcqRel, Relaxed)
            .is_ok()
    }
}

#[cfg(not(target_arch = "bpf"))]
impl Shared64 {
    /// Sets bits, and returns what was there before.
    pub fn fetch_or(&self, bits: u64) -> u64 {
        self.0.fetch_or(bits, core::sync::atomic::Ordering::AcqRel)
    }

    /// Keeps only these bits, and returns what was there before.
    pub fn fetch_and(&self, bits: u64) -> u64 {
        self.0.fetch_and(bits, core::sync::atomic::Ordering::AcqRel)
    }

    /// Adds, and returns what was there before.
    pub fn fetch_add(&self, change: u64) -> u64 {
        self.0
            .fetch_add(change, core::sync::atomic::Ordering::AcqRel)
    }

    /// Replaces `current` by `new`, if it is still there, in one atomic step.
    pub fn compare_exchange(&self, current: u64, new: u64) -> bool {
        use core::sync::atomic::Ordering::{AcqRel, Relaxed};
        self.0
            .compare_exchange(current, new, AcqRel, Relaxed)
            .is_ok()
    }

    /// Writes it after everything before it and before everything after it.
    pub fn publish(&self, value: u64) {
        self.0.swap(value, core::sync::atomic::Ordering::SeqCst);
    }
}
