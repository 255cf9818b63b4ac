//! A frame between the two pointers of an XDP context, and, where it may be in several buffers,
//! behind them: headers are read in the first buffer only, and one that is not there whole counts
//! as cut. Drivers put all headers there; nobody else would forward such a frame either.

use core::arch::asm;

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, generated::bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use lb_common::frame::{Frame, Header};

/// Every offset is smaller: an Ethernet header, a tag, and six extension headers of 2,048 bytes at
/// most. The verifier does not know, and a mask tells it without a branch.
const MAX_OFFSET: usize = 0x3fff;

/// The frame that the program was called for.
pub(crate) struct XdpFrame {
    pub(crate) context: XdpContext,
    /// A number that the verifier knows nothing about.
    unknown: u64,
    /// A stage before has seen that all of the packet is there.
    is_measured: bool,
}

impl XdpFrame {
    #[inline(always)]
    pub(crate) fn new(context: XdpContext) -> Self {
        // The queue's index; read once, since it is three loads away.
        let unknown = u64::from(context.rx_queue_index());
        Self {
            context,
            unknown,
            is_measured: false,
        }
    }

    /// For a stage behind one that has found the packet whole and left the frame as it was, and
    /// that only adds to its front: it is spared the length, and its stack what that takes.
    #[allow(dead_code, reason = "only steering has stages")]
    #[inline(always)]
    pub(crate) fn measured(context: XdpContext) -> Self {
        Self {
            is_measured: true,
            ..Self::new(context)
        }
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn header<H: Header>(&mut self, offset: usize) -> Option<&mut H> {
        let start = self.context.data() + (offset & MAX_OFFSET);
        // One comparison of pointers for each header: the verifier forgets a length that was
        // computed from both pointers.
        if start + size_of::<H>() > self.context.data_end() {
            return None;
        }
        // SAFETY: the comparison above shows that all of `H` is inside the frame, which is memory
        // of this program run alone; `H` has alignment 1 and no invalid bit patterns; the borrow
        // of `self` keeps any other header from being handed out at the same time.
        Some(unsafe { &mut *(start as *mut H) })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        if self.is_measured {
            return usize::MAX;
        }
        if crate::is_multi_buffer() {
            // SAFETY: the context is the one the kernel passed to this run. Kernels that do not
            // know the helper never see the call: the branch depends on a constant of the load.
            return unsafe { bpf_xdp_get_buff_len(self.context.as_ptr().cast()) } as usize;
        }
        let mut length = self.context.data_end();
        // The compiler would mix this difference of pointers with other arithmetic, which the
        // verifier refuses; in assembly it is a number from here on.
        // SAFETY: one subtraction of registers; nothing else is touched.
        unsafe {
            asm!(
                "{length} -= {start}",
                length = inout(reg) length,
                start = in(reg) self.context.data(),
                options(pure, nomem, nostack),
            );
        }
        length
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn forget(&self, number: usize) -> usize {
        let mut number = number as u64;
        // SAFETY: two operations on registers that undo each other; nothing else is touched.
        unsafe {
            asm!(
                "{number} ^= {unknown}",
                "{number} ^= {unknown}",
                number = inout(reg) number,
                unknown = in(reg) self.unknown,
                options(pure, nomem, nostack),
            );
        }
        number as usize
    }

    #[inline(always)]
    fn move_head(&mut self, delta: i32) -> bool {
        // SAFETY: the context is the one the kernel passed to this run; `&mut self` says that no
        // header is borrowed, and every later `header` reads the pointers anew.
        unsafe { bpf_xdp_adjust_head(self.context.as_ptr().cast(), delta) == 0 }
    }

    #[inline(always)]
    fn set_len(&mut self, len: usize) -> bool {
        let delta = len as i64 - self.len() as i64;
        // SAFETY: as in `move_head`. The kernel gives buffers back that are beyond the new end.
        unsafe { bpf_xdp_adjust_tail(self.context.as_ptr().cast(), delta as i32) == 0 }
    }
}
