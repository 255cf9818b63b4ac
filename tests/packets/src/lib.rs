//! Frames for tests.
//!
//! [`Packet`] builds them and [`verify`] checks them, both by etherparse, which shares no code
//! with the engine: what the engine gets right is judged by somebody else. [`Traffic`] makes very
//! many of them, whole and broken.

mod build;
mod mutate;
mod text;
mod traffic;
mod verify;

pub use build::{ACK, FIN, Fields, Mac, PSH, Packet, RST, SYN, Transport};
pub use mutate::mutate;
pub use text::{difference, hexdump};
pub use traffic::{Sent, Target, Traffic};
pub use verify::{Fault, Seen, verify};
