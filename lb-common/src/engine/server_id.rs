//! The server id in a QUIC connection id (QUIC-LB, draft-ietf-quic-load-balancers, in clear text),
//! by which a client that changes its address stays with its backend.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    abi::{ServerIdKey, Service},
    engine::packet::Packet,
    frame::Frame,
    headers::Udp,
    tables::Tables,
};

/// What a connection id begins with.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ConnectionId {
    /// Three bits that say by which configuration it was made, five bits of length.
    first: u8,
    /// The server id, and some of what follows it. A QUIC packet is longer than this.
    rest: [[u8; 8]; 2],
}

/// What a packet with a long header begins with (RFC 8999, section 5.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LongHeader {
    first: u8,
    version: [u8; 4],
    length: u8,
}

const IS_LONG: u8 = 0x80;
/// Type bits of a long header in QUIC 1 (RFC 9000, section 17.2).
const TYPE: u8 = 0x30;
const HANDSHAKE: u8 = 0x20;
/// The configuration id of a connection id that is not to be routed by.
const UNROUTABLE: u8 = 7;

/// Id of the backend that the packet's connection id names.
#[inline(always)]
pub(super) fn find<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    service: &Service,
) -> Option<u32> {
    if packet.is_tcp() || packet.is_later_fragment {
        return None;
    }
    let start = packet.ip.payload + size_of::<Udp>();
    // Packets with a short header are longer than that, too.
    let header = *frame.header::<LongHeader>(start)?;
    let length = usize::from(service.server_id_length);
    let at = if header.first & IS_LONG == 0 {
        start + 1
    } else {
        // In its first packets a client makes the connection id up.
        if header.first & TYPE != HANDSHAKE || usize::from(header.length) < length + 1 {
            return None;
        }
        start + size_of::<LongHeader>()
    };
    let id = *frame.header::<ConnectionId>(at)?;
    if id.first >> 5 == UNROUTABLE {
        return None;
    }
    let [low, high] = id.rest.map(u64::from_le_bytes);
    let key = ServerIdKey {
        service: service.id,
        id: [
            (low & lowest_bytes(length)).to_le(),
            (high & lowest_bytes(length.saturating_sub(8))).to_le(),
        ],
        reserved: 0,
    };
    tables.server_id(&key)
}

/// A word of which only the lowest bytes are set.
#[inline(always)]
const fn lowest_bytes(bytes: usize) -> u64 {
    if bytes >= 8 {
        u64::MAX
    } else {
        (1 << (bytes * 8)) - 1
    }
}
