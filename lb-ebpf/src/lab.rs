//! Programs for test beds and benchmarks; none of them steers.
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
    use aya_ebpf::{
        bindings::xdp_action,
        macros::{map, xdp},
        maps::{Array, PerCpuArray, ProgramArray},
        programs::XdpContext,
    };
    use lb_common::{
        checksum::Sum,
        frame::Frame,
        headers::{Ethernet, Ipv4, Ipv6, Ports, Tcp, Udp, Word64},
        lab::{Plan, flow_offsets},
    };

    use crate::frame::XdpFrame;

    #[map]
    static PLAN: Array<Plan> = Array::with_max_entries(1, 0);
    #[map]
    static GENERATED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
    #[map]
    static SUNK: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
    #[map]
    static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

    /// Passes every frame. A veth delivers frames that its peer transmits by XDP only while it
    /// runs a program itself.
    #[xdp]
    pub(crate) fn pass(_: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// Drops every frame and counts it.
    #[xdp]
    pub(crate) fn sink(_: XdpContext) -> u32 {
        let _ = next(&SUNK);
        xdp_action::XDP_DROP
    }

    /// Transmits every frame with its MACs exchanged: the least that a forwarder can do.
    #[xdp]
    pub(crate) fn bounce(context: XdpContext) -> u32 {
        let mut frame = XdpFrame::new(context);
        let Some(ethernet) = frame.header::<Ethernet>(0) else {
            return xdp_action::XDP_ABORTED;
        };
        (ethernet.source, ethernet.destination) = (ethernet.destination, ethernet.source);
        xdp_action::XDP_TX
    }

    /// Writes the next frame of the plan over the one it got. The kernel does not undo what a
    /// program did to the frame of the run before, so a benchmark of anything that rewrites has
    /// to begin with this.
    #[xdp]
    pub(crate) fn generate(context: XdpContext) -> u32 {
        let mut frame = XdpFrame::new(XdpContext::new(context.ctx));
        let Some(plan) = PLAN.get(0) else {
            return xdp_action::XDP_ABORTED;
        };
        let number = next(&GENERATED) & plan.flow_mask;
        let surplus = frame.len() as i32 - plan.length as i32;
        let restores = |frame: &mut XdpFrame| {
            if plan.grows_behind == 0 {
                frame.move_head(surplus)
            } else {
                frame.set_len(plan.length as usize)
            }
        };
        if surplus != 0 && !restores(&mut frame) {
            return xdp_action::XDP_ABORTED;
        }
        if write(&mut frame, plan, number).is_none() {
            return xdp_action::XDP_ABORTED;
        }
        if plan.calls_target == 0 {
            return xdp_action::XDP_TX;
        }
        // SAFETY: the context is the one this program was called with; on success the call does
        // not return, and on failure nothing has happened.
        unsafe { TARGET.tail_call(&context, 0) };
        xdp_action::XDP_ABORTED
    }

    #[inline(always)]
    fn next(counter: &PerCpuArray<u64>) -> u64 {
        let Some(value) = counter.get_ptr_mut(0) else {
            return 0;
        };
        // SAFETY: the value belongs to this CPU, and an XDP program is not interrupted by another
        // one on its CPU.
        let value = unsafe { &mut *value };
        *value += 1;
        *value - 1
    }

    #[inline(always)]
    fn write(frame: &mut XdpFrame, plan: &Plan, number: u64) -> Option<()> {
        const SHORT: usize = 64;
        let l3 = size_of::<Ethernet>();
        let (port, address) = flow_offsets(number);
        let l4 = if plan.is_v6 != 0 {
            *frame.header::<[u8; lb_common::lab::TEMPLATE]>(0)? = plan.template;
            l3 + size_of::<Ipv6>()
        } else {
            *frame.header::<[u8; SHORT]>(0)? = *plan.template.first_chunk()?;
            l3 + size_of::<Ipv4>()
        };
        let delta = if plan.is_v6 != 0 {
            let header = frame.header::<Ipv6>(l3)?;
            let old = header.source[1].get();
            let new = old ^ (u64::from(address.to_be()) << 32);
            header.source[1] = Word64::new(new);
            Sum::default().add64(!old).add64(new)
        } else {
            let header = frame.header::<Ipv4>(l3)?;
            let old = header.source.get();
            let new = old ^ address.to_be();
            header.source.set(new);
            let delta = Sum::default().add32(!old).add32(new);
            delta.update(&mut header.checksum);
            delta
        };
        let ports = frame.header::<Ports>(l4)?;
        let old = ports.source.get();
        let new = (u16::from_be(old) ^ port).to_be();
        ports.source.set(new);
        let delta = delta.remove16(old).add16(new);
        let old = ports.destination.get();
        let new = old ^ (number as u16 & plan.service_mask as u16).to_be();
        ports.destination.set(new);
        let delta = delta.remove16(old).add16(new);
        if plan.is_udp != 0 {
            delta.update(&mut frame.header::<Udp>(l4)?.checksum);
        } else {
            delta.update(&mut frame.header::<Tcp>(l4)?.checksum);
        }
        Some(())
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
