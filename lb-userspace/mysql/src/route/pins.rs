//! What binds a session to the primary.

use super::reason::Reason;

/// A set of things that bind a session to the primary until they end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins(u16);

impl Pins {
    /// Nothing binds it.
    pub const NONE: Self = Self(0);
    /// A temporary table.
    pub const TEMPORARY_TABLE: Self = Self(1);
    /// LOCK TABLES, FLUSH TABLES WITH READ LOCK and the like.
    pub const TABLE_LOCK: Self = Self(1 << 1);
    /// GET_LOCK.
    pub const USER_LOCK: Self = Self(1 << 2);
    /// HANDLER … OPEN.
    pub const HANDLER: Self = Self(1 << 3);
    /// XA START.
    pub const XA: Self = Self(1 << 4);
    /// A cursor.
    pub const CURSOR: Self = Self(1 << 5);
    /// A user variable whose value only the primary knows.
    pub const USER_VARIABLE: Self = Self(1 << 6);
    /// A system variable whose value only the primary knows.
    pub const SESSION_VARIABLE: Self = Self(1 << 7);
    /// Something that nobody told of.
    pub const UNKNOWN_STATE: Self = Self(1 << 8);

    /// In the order in which they are given as a reason.
    const REASONS: [(Self, Reason); 9] = [
        (Self::TEMPORARY_TABLE, Reason::PinnedTemporaryTable),
        (Self::TABLE_LOCK, Reason::PinnedTableLock),
        (Self::USER_LOCK, Reason::PinnedUserLock),
        (Self::HANDLER, Reason::PinnedHandler),
        (Self::XA, Reason::PinnedXa),
        (Self::CURSOR, Reason::PinnedCursor),
        (Self::USER_VARIABLE, Reason::PinnedUserVariable),
        (Self::SESSION_VARIABLE, Reason::PinnedSessionVariable),
        (Self::UNKNOWN_STATE, Reason::PinnedUnknownState),
    ];

    /// Whether nothing binds it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of these do.
    #[must_use]
    pub const fn has(self, pins: Self) -> bool {
        self.0 & pins.0 == pins.0
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, pins: Self) -> Self {
        Self(self.0 | pins.0)
    }

    /// These without those.
    #[must_use]
    pub const fn without(self, pins: Self) -> Self {
        Self(self.0 & !pins.0)
    }

    /// The reason for a statement to go to the primary, if there is one.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        let mut reasons = Self::REASONS.iter();
        reasons
            .find(|(pin, _)| self.has(*pin))
            .map(|&(_, reason)| reason)
    }
}
