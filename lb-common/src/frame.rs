//! The seam to the packet.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Anything that may be laid over packet bytes: every bit pattern is valid and alignment is 1.
pub trait Header: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned {}

impl<T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned> Header for T {}

/// A frame, from its Ethernet header on.
pub trait Frame {
    /// The header at `offset`, or `None` when the frame ends before it does.
    ///
    /// Borrow anew after [`Frame::move_head`] and [`Frame::set_len`].
    fn header<H: Header>(&mut self, offset: usize) -> Option<&mut H>;

    /// Bytes in the frame.
    fn len(&self) -> usize;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Index of the interface it came in by.
    fn ingress(&self) -> u32;

    /// Gives back `number`.
    ///
    /// The verifier walks through everything behind a branch once for each thing it knows about a
    /// number from the branches before. In the kernel this makes it forget, so that the ways
    /// meet again.
    fn forget(&self, number: usize) -> usize {
        number
    }

    /// Moves the start of the frame: a negative `delta` grows it at the front by bytes of any
    /// value, a positive one takes bytes away. False when there is no room; nothing moved then.
    fn move_head(&mut self, delta: i32) -> bool;

    /// Cuts the frame to `len` bytes, or, if it is shorter, grows it by bytes of any value. False
    /// when that is refused.
    fn set_len(&mut self, len: usize) -> bool;
}
