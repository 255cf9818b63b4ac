//! Tells the agent of rare verdicts, at most once in a while.

use aya_ebpf::{bindings::xdp_md, macros::map, maps::PerCpuArray, programs::XdpContext};
use aya_log_ebpf::warn;
use lb_common::{
    abi::{LOG_PAUSE_SECONDS, Ticks, VERDICT_CAPACITY},
    tables::Tables as _,
    verdict::Verdict,
};

use crate::maps::KernelTables;

/// The tick in which this CPU last logged, by verdict.
#[map]
static LOGGED: PerCpuArray<u32> = PerCpuArray::with_max_entries(VERDICT_CAPACITY as u32, 0);

/// Logs a verdict and the interface, both as numbers: the agent knows the words. It is a function
/// of its own because `steer`'s stack counts for every stage.
#[inline(always)]
pub(crate) fn note(context: &XdpContext, verdict: Verdict) {
    let _ = lb_log(context.ctx, verdict as u32);
}

// SAFETY: the name is used by nothing else in this object.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_log(context: *mut xdp_md, verdict: u32) -> u32 {
    const PAUSE: u32 = Ticks::from_seconds(LOG_PAUSE_SECONDS).0;
    let context = XdpContext::new(context);
    let Some(logged) = LOGGED.get_ptr_mut(verdict) else {
        return 0;
    };
    // SAFETY: the value belongs to this CPU, and an XDP program is not interrupted by another one
    // on its CPU.
    let logged = unsafe { &mut *logged };
    let now = KernelTables.now();
    if *logged != 0 && now.since(Ticks(*logged)) < PAUSE {
        return 0;
    }
    *logged = now.0;
    warn!(&context, "{} {}", verdict, context.ingress_ifindex() as u32);
    0
}
