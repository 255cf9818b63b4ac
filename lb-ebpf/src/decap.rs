//! The decapsulation program of app hosts: it adapts `lb_common::decap` to XDP and decides nothing
//! itself.
//!
//! On the host it is an empty program, so that the workspace can be checked as a whole.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
mod runtime;

/// Whether frames may be in several buffers: no program here is for that.
#[cfg(target_arch = "bpf")]
#[inline(always)]
const fn is_multi_buffer() -> bool {
    false
}

#[cfg(target_arch = "bpf")]
mod program {
    use core::{hint, ptr};

    use aya_ebpf::{
        bindings::xdp_action,
        macros::{map, xdp},
        maps::{HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
        programs::XdpContext,
    };
    use lb_common::{
        address::Address,
        decap::{
            self, Disposition, Rules, Verdict,
            abi::{Counters, Settings, SourceKey, VERDICT_CAPACITY},
        },
    };

    use crate::frame::XdpFrame;

    const NO_PREALLOC: u32 = 1;

    // The agent sets the sizes of the first two at load.
    #[map]
    static DECAP_VIPS: HashMap<Address, u32> = HashMap::with_max_entries(1, NO_PREALLOC);
    #[map]
    static DECAP_SOURCES: LpmTrie<[u32; 5], u32> = LpmTrie::with_max_entries(1, 0);
    #[map]
    static DECAP_COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

    /// Filled in by the agent before the program is loaded, constant from then on.
    // SAFETY: the name is used by nothing else in this object.
    #[unsafe(no_mangle)]
    static DECAP_SETTINGS: Settings = Settings {
        accepts: 0,
        checks_sources: 0,
    };

    /// The rules as the agent wrote them into maps.
    struct KernelRules;

    impl Rules for KernelRules {
        #[inline(always)]
        fn settings(&self) -> Settings {
            // SAFETY: the static is initialised, aligned and never written while the program
            // runs; volatile, since the compiler would use the zeros that it sees here.
            unsafe { ptr::read_volatile(&raw const DECAP_SETTINGS) }
        }

        #[inline(always)]
        fn is_vip(&self, address: Address) -> bool {
            DECAP_VIPS.get_ptr(&address).is_some()
        }

        #[inline(always)]
        fn is_source(&self, address: Address) -> bool {
            // On the stack with the address at a multiple of 8: the verifier refuses anything
            // else, and the map's own key type is packed.
            let key = SourceKey::whole(address);
            let key = (&raw const key).cast::<Key<[u32; 5]>>();
            // SAFETY: `SourceKey` has no padding and the layout of `Key<[u32; 5]>`, a length and
            // 20 bytes; it lives until the end of this function, and nobody writes to it.
            let key = unsafe { &*key };
            DECAP_SOURCES.get(key).is_some()
        }
    }

    /// Takes packets for a VIP out of their tunnels, and passes everything else on.
    #[xdp]
    pub(crate) fn decap(context: XdpContext) -> u32 {
        let verdict = decap::process(&mut XdpFrame::new(context), &KernelRules);
        count(verdict);
        match verdict.disposition() {
            Disposition::Pass => xdp_action::XDP_PASS,
            Disposition::Drop => xdp_action::XDP_DROP,
        }
    }

    #[inline(always)]
    fn count(verdict: Verdict) {
        if let Some(counters) = DECAP_COUNTERS.get_ptr_mut(0) {
            // The compiler knows that a verdict is small and leaves the mask out; the verifier may
            // not.
            let index = hint::black_box(verdict as usize) & (VERDICT_CAPACITY - 1);
            // SAFETY: the value belongs to this CPU, and an XDP program is not interrupted by
            // another one on its CPU; the index is below the array's length by the mask.
            unsafe { (*counters).verdicts[index] += 1 }
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
