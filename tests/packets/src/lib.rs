//! Frames for tests.
//!
//! [`Packet`] builds them and [`verify`] checks them, both by etherparse, which shares no code
//! with the engine: what the engine gets right is judged by somebody else. [`Traffic`] makes very
//! many of them, whole and broken.

mod build;
mod fragment;
mod mutate;
mod talk;
mod text;
mod traffic;
mod verify;
mod wrap;

pub use build::{ACK, FIN, Fields, Mac, PSH, Packet, RST, SYN, Transport};
pub use fragment::{Piece, cut, fragment, payload_length};
pub use mutate::mutate;
pub use text::{difference, hexdump};
pub use traffic::{Sent, Target, Traffic};
pub use verify::{Fault, Seen, verify};
pub use wrap::{GUE_PORT, decapsulate, encapsulate, error_about, least_quote, quoted};

/// Where the IP header of a frame begins, behind its tags.
#[must_use]
pub fn network_offset(frame: &[u8]) -> usize {
    let mut offset = 14;
    while offset < 22
        && matches!(
            frame.get(offset - 2..offset),
            Some([0x81, 0] | [0x88, 0xa8])
        )
    {
        offset += 4;
    }
    offset
}
