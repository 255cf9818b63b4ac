//! The status that servers put into OK and EOF packets.

/// Flags of a server's status. Unknown ones are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// A transaction is open.
    pub const IN_TRANSACTION: Self = Self(1);
    /// Each statement is a transaction of its own.
    pub const AUTOCOMMIT: Self = Self(1 << 1);
    /// Another result follows.
    pub const MORE_RESULTS: Self = Self(1 << 3);
    /// The statement found no good index.
    pub const NO_GOOD_INDEX_USED: Self = Self(1 << 4);
    /// The statement used no index.
    pub const NO_INDEX_USED: Self = Self(1 << 5);
    /// The rows are behind a cursor, to be fetched.
    pub const CURSOR_EXISTS: Self = Self(1 << 6);
    /// The cursor has no more rows.
    pub const LAST_ROW_SENT: Self = Self(1 << 7);
    /// A database was dropped.
    pub const DATABASE_DROPPED: Self = Self(1 << 8);
    /// A backslash is a character like others in strings.
    pub const NO_BACKSLASH_ESCAPES: Self = Self(1 << 9);
    /// The columns of a prepared statement have changed.
    pub const METADATA_CHANGED: Self = Self(1 << 10);
    /// The statement was slow.
    pub const QUERY_WAS_SLOW: Self = Self(1 << 11);
    /// The row has values of `OUT` parameters.
    pub const OUT_PARAMETERS: Self = Self(1 << 12);
    /// The open transaction only reads.
    pub const IN_READ_ONLY_TRANSACTION: Self = Self(1 << 13);
    /// The packet says what of the session has changed.
    pub const SESSION_STATE_CHANGED: Self = Self(1 << 14);
    /// MariaDB: double quotes delimit names.
    pub const ANSI_QUOTES: Self = Self(1 << 15);

    /// Whether all these flags are set.
    #[must_use]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// With these flags.
    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// Without these flags.
    #[must_use]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }
}
