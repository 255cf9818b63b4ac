//! What `lb capture` asks, and the file that it gets: pcapng, which Wireshark's tools read.

mod query;
mod writer;

pub use self::{
    query::{Query, verdicts},
    writer::{CapturedPacket, Totals, Writer},
};

/// Bytes of a frame that are held at most.
pub const LONGEST: u32 = lb_common::capture::SNAP as u32;
