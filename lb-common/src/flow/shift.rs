//! Flows whose handshake the balancer did itself, by a SYN cookie.
//!
//! The client got a sequence number of the balancer's making, the backend chose another one. Until
//! the backend has answered, the flow remembers the cookie; from then on how far the backend's
//! numbers are from those that the client sees.

/// What a flow knows of its sequence numbers.
///
/// Plain numbers rather than an enum, so that it has no part that is sometimes undefined, which the
/// compiler would carry around and the verifier refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    kind: u8,
    value: u32,
}

impl Shift {
    /// The client and the backend see the same numbers.
    pub const NONE: Self = Self { kind: 0, value: 0 };
    const AWAITING: u8 = 1;
    const BY: u8 = 2;

    /// The client has that cookie, and the backend has not answered.
    #[inline(always)]
    #[must_use]
    pub const fn awaiting(cookie: u32) -> Self {
        Self {
            kind: Self::AWAITING,
            value: cookie,
        }
    }

    /// Added to the backend's numbers, it gives those that the client sees, modulo 2^32.
    #[inline(always)]
    #[must_use]
    pub const fn by(difference: u32) -> Self {
        Self {
            kind: Self::BY,
            value: difference,
        }
    }

    /// Whether there is anything to know.
    #[inline(always)]
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.kind != 0
    }

    /// Whether the backend has not answered.
    #[inline(always)]
    #[must_use]
    pub const fn is_awaiting(self) -> bool {
        self.kind == Self::AWAITING
    }

    /// The cookie, or the difference.
    #[inline(always)]
    #[must_use]
    pub const fn value(self) -> u32 {
        self.value
    }
}
