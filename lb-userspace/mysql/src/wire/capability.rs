//! What the two sides of a connection can do, and what of it they agree on.
//!
//! The lower half are MySQL's 32 flags; the upper half are MariaDB's extended ones, which travel in
//! places that MySQL leaves empty, and count only without [`Capabilities::MYSQL`].

use std::ops::{BitAnd, BitOr};

/// A set of capabilities. Unknown ones are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);
    /// MySQL's `LONG_PASSWORD`. A MariaDB that does not set it has extended capabilities.
    pub const MYSQL: Self = Self(1);
    /// Updates count the rows they found, not those they changed.
    pub const FOUND_ROWS: Self = Self(1 << 1);
    /// Columns have flags of two bytes.
    pub const LONG_FLAG: Self = Self(1 << 2);
    /// The login names a database.
    pub const CONNECT_WITH_DATABASE: Self = Self(1 << 3);
    /// `database.table.column` is refused.
    pub const NO_SCHEMA: Self = Self(1 << 4);
    /// Compression by zlib.
    pub const COMPRESS: Self = Self(1 << 5);
    /// The client is an ODBC driver.
    pub const ODBC: Self = Self(1 << 6);
    /// `LOAD DATA LOCAL`.
    pub const LOCAL_FILES: Self = Self(1 << 7);
    /// Spaces before the parenthesis of a call.
    pub const IGNORE_SPACE: Self = Self(1 << 8);
    /// The protocol of MySQL 4.1.
    pub const PROTOCOL_41: Self = Self(1 << 9);
    /// The timeout is that for interactive clients.
    pub const INTERACTIVE: Self = Self(1 << 10);
    /// TLS.
    pub const TLS: Self = Self(1 << 11);
    /// The client's library ignores SIGPIPE.
    pub const IGNORE_SIGPIPE: Self = Self(1 << 12);
    /// OK packets have a status.
    pub const TRANSACTIONS: Self = Self(1 << 13);
    /// Once for the protocol of 4.1.
    pub const RESERVED: Self = Self(1 << 14);
    /// The proof of a login stands behind its length.
    pub const SECURE_CONNECTION: Self = Self(1 << 15);
    /// Several statements in one command.
    pub const MULTI_STATEMENTS: Self = Self(1 << 16);
    /// Several results of one command.
    pub const MULTI_RESULTS: Self = Self(1 << 17);
    /// Several results of a prepared statement.
    pub const PS_MULTI_RESULTS: Self = Self(1 << 18);
    /// The login names its plugin.
    pub const PLUGIN_AUTH: Self = Self(1 << 19);
    /// The login has attributes.
    pub const CONNECT_ATTRIBUTES: Self = Self(1 << 20);
    /// The length of a login's proof is a number of variable length.
    pub const LONG_PROOF: Self = Self(1 << 21);
    /// A client with an expired password is let in to set a new one.
    pub const EXPIRED_PASSWORDS: Self = Self(1 << 22);
    /// OK packets say what of the session has changed.
    pub const SESSION_TRACK: Self = Self(1 << 23);
    /// Rows end with an OK packet, columns with nothing.
    pub const DEPRECATE_EOF: Self = Self(1 << 24);
    /// Results may come without columns. (A MySQL's; MariaDB leaves it free.)
    pub const OPTIONAL_METADATA: Self = Self(1 << 25);
    /// Compression by zstd.
    pub const COMPRESS_ZSTD: Self = Self(1 << 26);
    /// Statements have attributes.
    pub const QUERY_ATTRIBUTES: Self = Self(1 << 27);
    /// Logins of several factors.
    pub const MULTI_FACTOR: Self = Self(1 << 28);
    /// Capabilities beyond 32 bits, should MySQL ever have some.
    pub const EXTENSION: Self = Self(1 << 29);
    /// Only of interest to the client's library.
    pub const VERIFY_SERVER: Self = Self(1 << 30);
    /// Only of interest to the client's library.
    pub const REMEMBER_OPTIONS: Self = Self(1 << 31);
    /// MariaDB: reports of progress.
    pub const PROGRESS: Self = Self(1 << 32);
    /// MariaDB, reserved: several commands in one.
    pub const MULTI_COMMAND: Self = Self(1 << 33);
    /// MariaDB: `COM_STMT_BULK_EXECUTE`.
    pub const BULK: Self = Self(1 << 34);
    /// MariaDB: columns with extended types.
    pub const EXTENDED_METADATA: Self = Self(1 << 35);
    /// MariaDB: columns that the client has already are not sent again. A server thinks of what it has
    /// said itself: not of the columns that another one has described to the same client, before a
    /// table was changed.
    pub const CACHED_METADATA: Self = Self(1 << 36);
    /// MariaDB: a bulk execution answers for each row.
    pub const BULK_UNIT_RESULTS: Self = Self(1 << 37);

    /// MySQL's half.
    const MYSQLS: u64 = 0xffff_ffff;

    /// What this proxy carries from one side to the other. Not among them: compression (each side
    /// may have its own below the packets), logins of several factors, columns that are not sent
    /// again ([`Self::CACHED_METADATA`]), and whatever nobody knows yet.
    pub const CARRIED: Self = Self(
        Self::FIXED.0
            | Self::SHAPING.0
            | Self::MYSQL.0
            | Self::TLS.0
            | Self::CONNECT_WITH_DATABASE.0
            | Self::IGNORE_SIGPIPE.0
            | Self::CONNECT_ATTRIBUTES.0
            | Self::LONG_PROOF.0
            | Self::SESSION_TRACK.0
            | Self::VERIFY_SERVER.0
            | Self::REMEMBER_OPTIONS.0,
    );
    /// Without these there is nobody to talk to.
    pub const FIXED: Self = Self(
        Self::PROTOCOL_41.0
            | Self::TRANSACTIONS.0
            | Self::RESERVED.0
            | Self::SECURE_CONNECTION.0
            | Self::PLUGIN_AUTH.0,
    );
    /// Those that decide how a server understands commands or what its replies look like. A
    /// connection to a server is shared only between sessions that have the same of these.
    pub const SHAPING: Self = Self(
        Self::FOUND_ROWS.0
            | Self::LONG_FLAG.0
            | Self::NO_SCHEMA.0
            | Self::ODBC.0
            | Self::LOCAL_FILES.0
            | Self::IGNORE_SPACE.0
            | Self::INTERACTIVE.0
            | Self::MULTI_STATEMENTS.0
            | Self::MULTI_RESULTS.0
            | Self::PS_MULTI_RESULTS.0
            | Self::EXPIRED_PASSWORDS.0
            | Self::DEPRECATE_EOF.0
            | Self::OPTIONAL_METADATA.0
            | Self::QUERY_ATTRIBUTES.0
            | Self::PROGRESS.0
            | Self::BULK.0
            | Self::EXTENDED_METADATA.0
            | Self::BULK_UNIT_RESULTS.0,
    );

    /// Those of 32 bits, as they stand in packets.
    #[must_use]
    pub const fn from_wire(bits: u32, extended: u32) -> Self {
        let all = bits as u64 | (extended as u64) << 32;
        if bits as u64 & Self::MYSQL.0 != 0 {
            return Self(bits as u64);
        }
        Self(all)
    }

    /// MySQL's half, as it stands in packets.
    #[must_use]
    pub const fn bits(self) -> u32 {
        (self.0 & Self::MYSQLS) as u32
    }

    /// MariaDB's half, as it stands in packets; nothing where [`Self::MYSQL`] says that there is
    /// none.
    #[must_use]
    pub const fn extended_bits(self) -> u32 {
        if self.has(Self::MYSQL) {
            return 0;
        }
        (self.0 >> 32) as u32
    }

    /// Whether all these are there.
    #[must_use]
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// With these.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Without these.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// What a greeting may offer to clients, given what the servers have in common; TLS where there
    /// is a certificate.
    #[must_use]
    pub const fn offer(servers: Self, has_tls: bool) -> Self {
        // Ours whatever the servers have: trackers are cut out, TLS is of each side alone, and the
        // login is read here.
        let own = Self::FIXED
            .with(Self::SESSION_TRACK)
            .with(Self::CONNECT_WITH_DATABASE)
            .with(Self::LONG_PROOF)
            .with(Self::CONNECT_ATTRIBUTES);
        let offered = Self(servers.0 & Self::CARRIED.0).with(own);
        // Clients that see a server with extended capabilities look at the bit of MySQL, which
        // says that there are none.
        if has_tls {
            offered.with(Self::TLS)
        } else {
            offered.without(Self::TLS)
        }
    }

    /// What a server is told for a client that has agreed on these: no more than both have, and
    /// what the proxy itself needs. TLS, the database and the attributes are the caller's to add.
    #[must_use]
    pub const fn towards(self, server: Self) -> Self {
        let shaping = self.0 & server.0 & Self::SHAPING.0;
        let own = Self::FIXED
            .with(Self::SESSION_TRACK)
            .with(Self::LONG_PROOF)
            .with(Self::MYSQL);
        let agreed = Self(own.0 & server.0 | shaping);
        // A server of MariaDB reads the extended ones only from a client without the bit.
        if shaping & !Self::MYSQLS != 0 {
            agreed.without(Self::MYSQL)
        } else {
            agreed
        }
    }

    /// Those which two sessions must have alike to use the same connection to a server.
    #[must_use]
    pub const fn shaping(self) -> Self {
        Self(self.0 & Self::SHAPING.0)
    }
}

impl BitAnd for Capabilities {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn extended_capabilities_count_without_the_bit_of_mysql() {
        let mysql = Capabilities::from_wire(1, 4);
        assert_eq!((mysql.bits(), mysql.extended_bits()), (1, 0));
        let mariadb = Capabilities::from_wire(2, 4);
        assert!(mariadb.has(Capabilities::BULK));
        assert_eq!((mariadb.bits(), mariadb.extended_bits()), (2, 4));
    }

    proptest! {
        #[test]
        fn nothing_is_promised_that_somebody_lacks(
            server: u64, client: u64, other: u64, has_tls: bool
        ) {
            let (server, client) = (Capabilities(server), Capabilities(client));
            let offered = Capabilities::offer(server, has_tls);
            prop_assert!(server.shaping().has(offered.shaping()));
            prop_assert_eq!(offered.has(Capabilities::TLS), has_tls);
            prop_assert!(!offered.has(Capabilities::COMPRESS));
            prop_assert!(!offered.has(Capabilities::CACHED_METADATA));
            let agreed = (offered & client).towards(server);
            prop_assert!(server.has(agreed));
            prop_assert!(client.has(agreed.shaping()));
            prop_assert!(offered.has(agreed.shaping()));
            // What the client was promised it gets.
            prop_assert_eq!(agreed.shaping(), offered.shaping() & client);
            prop_assert!(agreed.0 >> 32 == 0 || !agreed.has(Capabilities::MYSQL));
            // A server that came later may have less.
            let other = Capabilities(other);
            prop_assert!(other.has((offered & client).towards(other)));
        }
    }
}
