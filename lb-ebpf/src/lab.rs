//! Programs for test beds and benchmarks; none of them steers.
//!
//! On the host it is an empty program, so that the workspace can be checked as a whole.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

    /// Passes every frame. A veth delivers frames that its peer transmits by XDP only while it
    /// runs a program itself.
    #[xdp]
    pub(crate) fn pass(_: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        // Unreachable in a program that the verifier accepts.
        loop {}
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
