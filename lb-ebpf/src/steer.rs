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
mod watch;

#[cfg(target_arch = "bpf")]
use maps::is_multi_buffer;

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::{
        bindings::{xdp_action, xdp_md},
        helpers::bpf_redirect,
        macros::xdp,
        programs::XdpContext,
    };
    use lb_common::{
        abi::features,
        engine::{self, Family, Hint, Outcome, Stages},
        frame::Frame,
        ip::{V4, V6},
        tables::Tables as _,
        verdict::{Disposition, Verdict},
    };

    use crate::{
        frame::XdpFrame,
        log,
        maps::{KernelTables, is_dry_run},
        watch,
    };

    /// The stages of one IP version, each a function that the verifier walks through on its own:
    /// only functions with a global name are verified so (Linux 5.6).
    macro_rules! stages {
        ($name:ident, $ip:ty, $flow:ident $open:ident $control:ident $answer:ident $check:ident
         $cookie:ident $forward:ident) => {
            // SAFETY: the name is used by nothing else in this object.
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $flow(context: *mut xdp_md, hint: u64) -> u64 {
                let mut frame = XdpFrame::new(XdpContext::new(context));
                engine::flow::<$ip, _, _>(&mut frame, &KernelTables, Hint(hint)).pack()
            }

            // SAFETY: as above.
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $open(context: *mut xdp_md, hint: u64) -> u64 {
                // `flow` was there before.
                let mut frame = XdpFrame::measured(XdpContext::new(context));
                engine::open::<$ip, _, _>(&mut frame, &KernelTables, Hint(hint)).pack()
            }

            // SAFETY: as above.
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $control(context: *mut xdp_md) -> u64 {
                let mut frame = XdpFrame::new(XdpContext::new(context));
                engine::control::<$ip, _, _>(&mut frame, &KernelTables).pack()
            }

            // SAFETY: as above.
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $answer(context: *mut xdp_md, outcome: u64) -> u64 {
                let mut frame = XdpFrame::new(XdpContext::new(context));
                let outcome = Outcome::unpack(outcome);
                engine::answer::<$ip, _, _>(&mut frame, &KernelTables, outcome).pack()
            }

            // SAFETY: as above.
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $check(context: *mut xdp_md) -> u64 {
                // `flow` was there before.
                let mut frame = XdpFrame::measured(XdpContext::new(context));
                engine::check::<$ip, _, _>(&mut frame, &KernelTables).pack()
            }

            // SAFETY: as above.
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $cookie(context: *mut xdp_md, outcome: u64) -> u64 {
                let mut frame = XdpFrame::new(XdpContext::new(context));
                let outcome = Outcome::unpack(outcome);
                engine::cookie::<$ip, _, _>(&mut frame, &KernelTables, outcome).pack()
            }

            // SAFETY: as above.
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $forward(context: *mut xdp_md, outcome: u64, hint: u64) -> u64 {
                // `open` was there before.
                let mut frame = XdpFrame::measured(XdpContext::new(context));
                let outcome = Outcome::unpack(outcome);
                engine::forward::<$ip, _, _>(&mut frame, &KernelTables, outcome, Hint(hint)).pack()
            }

            struct $name(*mut xdp_md);

            impl Stages for $name {
                #[inline(always)]
                fn flow(&mut self, hint: Hint) -> Outcome {
                    Outcome::unpack($flow(self.0, hint.0))
                }

                #[inline(always)]
                fn open(&mut self, hint: Hint) -> Outcome {
                    Outcome::unpack($open(self.0, hint.0))
                }

                #[inline(always)]
                fn control(&mut self) -> Outcome {
                    Outcome::unpack($control(self.0))
                }

                #[inline(always)]
                fn rate(&mut self, deliberate: bool) -> Option<Verdict> {
                    limited(self.0, deliberate)
                }

                #[inline(always)]
                fn answer(&mut self, outcome: Outcome) -> Outcome {
                    Outcome::unpack($answer(self.0, outcome.pack()))
                }

                #[inline(always)]
                fn check(&mut self) -> Outcome {
                    Outcome::unpack($check(self.0))
                }

                #[inline(always)]
                fn cookie(&mut self, outcome: Outcome) -> Outcome {
                    Outcome::unpack($cookie(self.0, outcome.pack()))
                }

                #[inline(always)]
                fn forward(&mut self, outcome: Outcome, hint: Hint) -> Outcome {
                    Outcome::unpack($forward(self.0, outcome.pack(), hint.0))
                }
            }
        };
    }

    stages!(StagesV4, V4, flow_v4 open_v4 control_v4 answer_v4 check_v4 cookie_v4 forward_v4);
    stages!(StagesV6, V6, flow_v6 open_v6 control_v6 answer_v6 check_v6 cookie_v6 forward_v6);

    /// Whether a frame's sender may send, and so much: 0, or the verdict and 1. A function of its own, because the
    /// trie's key takes stack.
    // SAFETY: the name is used by nothing else in this object.
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn wall(context: *mut xdp_md) -> u64 {
        let mut frame = XdpFrame::measured(XdpContext::new(context));
        engine::wall(&mut frame, &KernelTables).map_or(0, |verdict| verdict as u64 + 1)
    }

    /// Whether a source has begun too much: 0, or the verdict and 1.
    // SAFETY: the name is used by nothing else in this object.
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn rate(context: *mut xdp_md) -> u64 {
        let mut frame = XdpFrame::measured(XdpContext::new(context));
        engine::rate(&mut frame, &KernelTables, true).map_or(0, |verdict| verdict as u64 + 1)
    }

    /// The same for a connection of another balancer. Not a parameter of the one above, which would
    /// take stack of all that follows.
    // SAFETY: the name is used by nothing else in this object.
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn rate_taken_up(context: *mut xdp_md) -> u64 {
        let mut frame = XdpFrame::measured(XdpContext::new(context));
        engine::rate(&mut frame, &KernelTables, false).map_or(0, |verdict| verdict as u64 + 1)
    }

    /// Whether a frame may not pass to the host: 0, or the verdict and 1.
    // SAFETY: the name is used by nothing else in this object.
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn lock(context: *mut xdp_md) -> u64 {
        // What is cut comes here without having been measured.
        let mut frame = XdpFrame::new(XdpContext::new(context));
        engine::lock(&mut frame, &KernelTables).map_or(0, |verdict| verdict as u64 + 1)
    }

    #[inline(always)]
    fn locked(context: *mut xdp_md, verdict: Verdict) -> Option<Verdict> {
        if !KernelTables.has(features::LOCK_DOWN) || !engine::is_for_host(verdict) {
            return None;
        }
        match lock(context) {
            0 => None,
            number => Some(Verdict::from_number((number - 1) as u8)),
        }
    }

    #[inline(always)]
    fn limited(context: *mut xdp_md, deliberate: bool) -> Option<Verdict> {
        if !KernelTables.has(features::RATE_LIMIT | features::FLOW_LIMIT) {
            return None;
        }
        let answer = if deliberate {
            rate(context)
        } else {
            rate_taken_up(context)
        };
        match answer {
            0 => None,
            number => Some(Verdict::from_number((number - 1) as u8)),
        }
    }

    #[inline(always)]
    fn refused(context: *mut xdp_md) -> Option<Verdict> {
        if !KernelTables.has(features::FIREWALL | features::PACKET_LIMIT | features::OFFENDERS) {
            return None;
        }
        match wall(context) {
            0 => None,
            number => Some(Verdict::from_number((number - 1) as u8)),
        }
    }

    /// Steers a frame, or passes it on. The driver gives it whole frames only.
    #[xdp]
    #[inline(always)]
    pub(crate) fn steer(context: XdpContext) -> u32 {
        run(context)
    }

    /// The same where frames may be in several buffers (Linux 5.18). Loaded with
    /// [`features::MULTI_BUFFER`](lb_common::abi::features::MULTI_BUFFER), and only with it.
    #[xdp(frags)]
    #[inline(always)]
    pub(crate) fn steer_frags(context: XdpContext) -> u32 {
        run(context)
    }

    #[inline(always)]
    fn run(context: XdpContext) -> u32 {
        watch::begin(context.ctx);
        let mut frame = XdpFrame::new(context);
        let outcome = match refused(frame.context.ctx) {
            Some(verdict) => verdict.into(),
            None => match engine::served(&mut frame, &KernelTables) {
                Ok(Family::V4) => engine::drive(&mut StagesV4(frame.context.ctx)),
                Ok(Family::V6) => engine::drive(&mut StagesV6(frame.context.ctx)),
                Err(verdict) => verdict.into(),
            },
        };
        let outcome = locked(frame.context.ctx, outcome.verdict).map_or(outcome, Outcome::from);
        KernelTables::count_verdict(outcome.verdict);
        watch::end(outcome);
        if outcome.verdict.is_logged() && !is_dry_run() {
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
