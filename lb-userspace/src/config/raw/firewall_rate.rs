//! `[firewall.rate]` as it is written.

use crate::config::{
    rules::Whole,
    schema::{derived, optional, table},
};

table! {
    /// How much each source may begin and send. `dry_run` of `[firewall]` holds here too, and no limit
    /// holds for sources that `allow` names, for backends, servers of `[mysql]` and peers of
    /// `[cluster]`.
    struct Rate = "[firewall.rate]"
    keys {
        /// Connections to services that a source may begin in a second. What counts is a packet that
        /// begins a connection, a SYN that is repeated too, or that belongs to none; packets of
        /// established connections are not looked at.
        new_connections: u32 = derived(Whole(1..=1_000_000_u32), "no limit"),
        /// So many at once, after a while without.
        burst: u32 = derived(Whole(1..=1_000_000_u32), "as `new_connections`"),
        /// Packets that a source may send in a second to addresses of services, those of established
        /// connections too, and pings. Each such packet costs a look-up.
        packets: u32 = derived(Whole(1..=4_000_000_u32), "no limit"),
        /// So many at once, after a while without.
        packets_burst: u32 = derived(Whole(1..=4_000_000_u32), "as `packets`"),
        /// Flows that a source may have at a time, half-open ones too. More are refused, and those that
        /// there are go on. One that has ended counts for a second more.
        flows: u32 = derived(Whole(1..=16_000_000_u32), "no limit"),
        /// For so long all packets of a source that exceeds a limit are dropped, those for this host too.
        /// A forged source is denied as well, so `allow` those that you cannot do without.
        /// New flows of datagrams and IPv6 link-local sources are dropped alone, and deny nobody.
        deny_seconds: u32 = derived(Whole(1..=86_400_u32), "not at all"),
        /// Addresses with the same so many bits in front are one source.
        prefix_v4: u8 = optional(Whole(8..=32_u8), 32),
        /// The same of IPv6.
        prefix_v6: u8 = optional(Whole(16..=64_u8), 64),
    }
}
