//! The steering program: it adapts the engine of `lb-common` to XDP and decides nothing itself.
//!
//! On the host it is an empty program, so that the workspace can be checked as a whole.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    allow(
        internal_features,
        reason = "the BPF target has no stable compare-and-exchange"
    )
)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch, core_intrinsics))]

#[cfg(target_arch = "bpf")]
mod atomics;
#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
mod log;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod runtime;

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::{
        bindings::xdp_action, helpers::bpf_redirect, macros::xdp, programs::XdpContext,
    };
    use lb_common::{engine, frame::Frame, verdict::Disposition};

    use crate::{frame::XdpFrame, log, maps::KernelTables};

    /// Steers a frame, or passes it on.
    #[xdp]
    #[inline(always)]
    pub(crate) fn steer(context: XdpContext) -> u32 {
        let mut frame = XdpFrame::new(context);
        let outcome = engine::process(&mut frame, &KernelTables);
        KernelTables::count_verdict(outcome.verdict);
        if outcome.verdict.is_logged() {
            log::note(&frame.context, outcome.verdict);
        }
        match outcome.verdict.disposition() {
            Disposition::Pass => xdp_action::XDP_PASS,
            Disposition::Drop => xdp_action::XDP_DROP,
            Disposition::Emit if outcome.egress == frame.ingress() => xdp_action::XDP_TX,
            Disposition::Emit => {
                // SAFETY: the helper takes plain numbers and is allowed in XDP programs; an
                // interface that does not exist makes the kernel drop the frame.
                unsafe { bpf_redirect(outcome.egress, 0) as u32 }
            }
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
