//! The host's lock-down: ports of this host that anybody may begin to talk to, a bit for each.
//!
//! The bits stand behind the bitmaps of prefixes; UDP's follow TCP's. Sources that may reach every
//! port stand in the trie, in a scope of their own.

use super::{Bit, HALF, HEADER};
use crate::abi::Protocol;

/// The scope of sources that may reach everything of a host that is locked down, and that no limit
/// holds for.
pub const TRUSTED: u32 = super::SCOPES - 1;

/// First word of the ports.
const FIRST: u32 = HEADER + 2 * HALF;
/// Words of one protocol.
const WORDS: u32 = (1 << 16) / 64;
/// The words of both.
pub const PORT_WORDS: core::ops::Range<u32> = FIRST..FIRST + 2 * WORDS;

/// The bit of a port in host order.
#[inline(always)]
#[must_use]
pub const fn bit_of_port(is_udp: bool, port: u16) -> Bit {
    let first = if is_udp { FIRST + WORDS } else { FIRST };
    Bit {
        word: first + (port >> 6) as u32,
        mask: 1 << (port & 63),
    }
}

/// The same, for whoever fills the table.
#[must_use]
pub fn bit_of(protocol: Protocol, port: u16) -> Bit {
    bit_of_port(protocol == Protocol::Udp, port)
}
