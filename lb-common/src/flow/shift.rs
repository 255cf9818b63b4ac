//! Flows whose handshake the balancer did itself, by a SYN cookie.
//!
//! The client got a sequence number of the balancer's making, the backend chose another one. Until
//! the backend has answered, the flow remembers the cookie; from then on how far the backend's
//! numbers are from those that the client sees.

/// What a flow knows of its sequence numbers.
///
/// A plain number rather than an enum, so that it has no part that is sometimes undefined, which the
/// compiler would carry around and the verifier refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift(u64);

impl Shift {
    /// The client and the backend see the same numbers.
    pub const NONE: Self = Self(0);
    const KIND: u32 = 34;
    const AWAITING: u64 = 1 << Self::KIND;
    const BY: u64 = 2 << Self::KIND;

    /// The client has that cookie, and the backend has not answered.
    #[inline(always)]
    #[must_use]
    pub const fn awaiting(cookie: u32) -> Self {
        Self(Self::AWAITING | cookie as u64)
    }

    /// Added to the backend's numbers, it gives those that the client sees, modulo 2^32.
    #[inline(always)]
    #[must_use]
    pub const fn by(difference: u32) -> Self {
        Self(Self::BY | difference as u64)
    }

    /// [`Shift::awaiting`] if `is_some` is 1, [`Shift::NONE`] if it is 0; without a branch, for the
    /// verifier.
    #[inline(always)]
    #[must_use]
    pub const fn awaiting_if(is_some: u8, cookie: u32) -> Self {
        Self((is_some as u64 & 1) << Self::KIND | cookie as u64)
    }

    /// As the bits of a flow's state.
    #[inline(always)]
    pub(super) const fn state(self) -> u8 {
        ((self.0 >> Self::KIND) as u8) << 4
    }

    /// Whether there is anything to know.
    #[inline(always)]
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 & (Self::AWAITING | Self::BY) != 0
    }

    /// Whether the backend has not answered.
    #[inline(always)]
    #[must_use]
    pub const fn is_awaiting(self) -> bool {
        self.0 & Self::AWAITING != 0
    }

    /// The cookie, or the difference.
    #[inline(always)]
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0 as u32
    }
}
