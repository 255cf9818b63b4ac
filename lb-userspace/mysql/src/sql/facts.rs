//! What a statement has to do with the session or with a server's own state.

use std::ops::{BitOr, BitOrAssign};

/// A set of facts about a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts(u64);

macro_rules! facts {
    ($($name:ident $explanation:literal)*) => {
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "named as the constants")]
        #[derive(Clone, Copy)]
        enum Number { $($name),* }

        impl Facts {
            $(#[doc = $explanation] pub const $name: Self = Self(1 << Number::$name as u64);)*

            /// The names of those in the set.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                const ALL: &[(Facts, &str)] = &[$((Facts::$name, stringify!($name))),*];
                ALL.iter().filter(move |(fact, _)| self.has(*fact)).map(|&(_, name)| name)
            }
        }
    };
}

facts! {
    ODD "Has something on which servers do not agree, or that never ends; or the character set or the mode forbids to trust the lexer."
    WRITE_WORD "Has a word of a writing statement that is not quoted."
    LOCKING "Locks what it reads."
    INTO "Has INTO."
    USER_VARIABLE "Reads or names a user variable."
    ASSIGNS "Assigns to a user variable by `:=` or INTO."
    SYSTEM_VARIABLE "Names a system variable by `@@`, other than those that say which server it is."
    LAST_INSERT_ID "Asks for the last generated id, by any name, or for a sequence's last value."
    ROW_COUNT "Asks how many rows the last statement changed."
    FOUND_ROWS "Asks how many rows the last query found."
    WARNINGS "Asks how many warnings or errors there were."
    HAS_FROM "Has FROM."
    CALC_FOUND_ROWS "Has SQL_CALC_FOUND_ROWS."
    TAKES_LOCK "Takes a user lock: GET_LOCK."
    ASKS_LOCK "Asks for user locks or releases them."
    RELEASES_ALL "Is a RELEASE_ALL_LOCKS() and nothing else."
    SEQUENCE "Takes the next value of a sequence, or sets it."
    SERVER_STATE "Reads what each server has of its own: performance_schema, sys, mysql, some of information_schema, files, VERSION()."
    WAITS "Waits for replication."
    CALLS "Calls a function that is not built in; see [`super::Statement::calls`]."
    TOO_MANY_CALLS "Calls more of them than are noted."
    PARAMETER "Has a `?`."
    CONNECTION_ID "Asks for the connection's number."
    TEMPORARY "Makes or drops a temporary table."
    MAY_DROP_TEMPORARY "Drops tables, which may be temporary."
    RENAMES "Renames tables."
    READ_ONLY "READ ONLY, of a transaction."
    READ_WRITE "READ WRITE, of a transaction."
    SNAPSHOT "WITH CONSISTENT SNAPSHOT."
    CHAIN "AND CHAIN: another transaction begins at once."
    RELEASE "RELEASE: the connection ends with the transaction."
    READ_LOCK "FLUSH … WITH READ LOCK or FOR EXPORT."
    IMPLICIT_COMMIT "Ends a transaction that is open."
    BEGINS "XA START, HANDLER … OPEN."
    ENDS "XA COMMIT, XA ROLLBACK, HANDLER … CLOSE."
    LITERAL "PREPARE or EXECUTE IMMEDIATE from a string that stands there."
    HIGH_BYTES "Has bytes that are not ASCII, in a character set where they may look like quotes."
}

impl Facts {
    /// None.
    pub const NONE: Self = Self(0);

    /// Whether all of these are among them.
    #[must_use]
    pub const fn has(self, facts: Self) -> bool {
        self.0 & facts.0 == facts.0
    }

    /// Whether one of these is among them.
    #[must_use]
    pub const fn has_any(self, facts: Self) -> bool {
        self.0 & facts.0 != 0
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, facts: Self) -> Self {
        Self(self.0 | facts.0)
    }

    /// These but those.
    #[must_use]
    pub(super) const fn without(self, facts: Self) -> Self {
        Self(self.0 & !facts.0)
    }

    /// These, if the condition holds.
    #[must_use]
    pub(super) fn only_if(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
}

impl BitOr for Facts {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Facts {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
