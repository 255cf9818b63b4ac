//! The flow tables: two-choice, eight-way set-associative tables in plain arrays.
//!
//! Why not the kernel's LRU hash: an insert there costs 200 ns and a spin lock, it evicts in
//! batches and not in order, and each direction of a flow needs an entry of its own. Here a flow
//! is one cache line that both directions find, because its place follows from the client's
//! endpoint alone, which is the source of one direction and the destination of the other; an
//! insert writes one line; and the agent reads the whole table through a memory map.
//!
//! A flow may stand in its bucket or, in the established table, in a second one given by its hash,
//! which is only looked at if the first has ever been crowded. First buckets are all in the front
//! quarter of that table, so that the usual load, far below the limit, keeps to a quarter of the
//! memory: with random flows most of a look-up is the page walk (65,536 of them in a table for
//! 262,144 cost a third less so). A table filled to its limit pays for it with a second look for six
//! of ten flows, and once it was full new flows look there too until the tables are made anew. A
//! flow whose bucket is down to its last two places goes to its second bucket if there is more room,
//! so that hardly a bucket is ever full: with eight ways and twice as many places as `limits.flows`
//! no live flow is displaced before the limit (`tests/flow_table.rs` measures it); beyond it the one
//! that would expire first goes. The half-open table has no second choice: it is meant to churn
//! under a SYN flood, at constant cost, without touching the other table.
//!
//! Writers claim a place by an atomic compare-and-exchange of its tag, and the word that holds the
//! flow's ports, without which nothing matches, is written last, by an atomic exchange. A reader
//! that races with the reuse of a place may handle one packet by the old flow's data; the kernel's
//! LRU hash gives no stronger promise.

mod entry;
mod link;
mod path;
mod shift;
#[cfg(not(target_arch = "bpf"))]
mod sweep;
mod table;

pub use entry::{FlowEntry, FlowKey, NewFlow, Side, Sides};
pub use link::{ClientLink, INTERFACE_LIMIT};
pub use path::{Path, SOURCE_CAPACITY};
pub use shift::Shift;
#[cfg(not(target_arch = "bpf"))]
pub use sweep::{Claim, FlowView, Swept};
pub(crate) use table::TAKEN;
pub use table::{
    Bucket, Found, Inserted, Place, Spot, find, insert, locate, locate_at_home, touch,
};

/// Ways of a bucket.
pub const BUCKET_WAYS: usize = 8;

/// Seconds an unanswered SYN or a lone datagram keeps its backend.
pub const HALF_OPEN_SECONDS: u32 = 60;
/// The same with full NAT, where a half-open flow holds a source port: forged ones must not hold all
/// of them for long.
pub const HALF_OPEN_FULL_NAT_SECONDS: u32 = 10;

/// Seconds a closed flow keeps its place for late packets.
pub const CLOSED_SECONDS: u32 = 10;

/// Buckets of the established table for that many flows.
#[must_use]
pub const fn established_buckets(flows: u32) -> u32 {
    (flows as u64 * 2)
        .div_ceil(BUCKET_WAYS as u64)
        .next_power_of_two() as u32
}

/// Buckets of the half-open table for that many flows.
#[must_use]
pub const fn half_open_buckets(flows: u32) -> u32 {
    flows.div_ceil(BUCKET_WAYS as u32).next_power_of_two()
}
