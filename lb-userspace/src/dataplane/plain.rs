//! Table values as aya wants them.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A value that is nothing but its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: `Pod` asks that a value may be read as bytes and made from bytes. `IntoBytes` proves that
// `T` has no padding and `FromBytes` that any bytes are a valid `T`; `Plain` has the layout of `T`
// by `repr(transparent)`, and `Immutable` rules out cells that change while they are read.
unsafe impl<T: Copy + FromBytes + IntoBytes + Immutable + 'static> aya::Pod for Plain<T> {}
