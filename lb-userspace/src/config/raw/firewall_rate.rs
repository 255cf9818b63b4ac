//! `[firewall.rate]` as it is written.

use crate::config::{
    rules::Whole,
    schema::{derived, optional, table},
};

table! {
    /// How much each source may begin. `dry_run` of `[firewall]` holds here too.
    struct Rate = "[firewall.rate]"
    keys {
        /// Connections to services that a source may begin in a second. What counts is a packet that
        /// begins a connection, a SYN that is repeated too, or that belongs to none; packets of
        /// established connections are not looked at.
        new_connections: u32 = derived(Whole(1..=1_000_000_u32), "no limit"),
        /// So many at once, after a while without.
        burst: u32 = derived(Whole(1..=1_000_000_u32), "as `new_connections`"),
        /// Addresses with the same so many bits in front are one source.
        prefix_v4: u8 = optional(Whole(8..=32_u8), 32),
        /// The same of IPv6.
        prefix_v6: u8 = optional(Whole(16..=64_u8), 64),
    }
}
