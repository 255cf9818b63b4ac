//! Source ports of full NAT.
//!
//! For each source address and protocol there is a bitmap of the ports in use and an array of whose
//! they are. A port is taken by setting its bit, in one atomic step, and is then marked with the
//! place of its flow (see [`crate::flow::Place::hash`]), by which a reply finds that flow. Whoever
//! forgets the flow clears the mark and then the bit; flows that merely expire are forgotten by the
//! agent, so a port is given anew only when its flow is gone.
//!
//! 64 ports are looked at in one step, so that taking one costs the same until nearly all are taken.

use crate::{
    abi::{Backend, Protocol},
    flow::{Path, Place, TAKEN},
    tables::Tables,
};

/// Ports of an address.
const PORTS: u32 = 1 << 16;
/// Words of the bitmap of an address and protocol.
pub const WORDS: u32 = PORTS / 64;
/// Words that are looked at before giving up.
const ATTEMPTS: u32 = 24;

/// Elements of the map of owners for that many source addresses.
#[must_use]
pub const fn owners(sources: u32) -> u32 {
    sources * 2 * PORTS
}

/// Elements of the map of bitmaps for that many source addresses.
#[must_use]
pub const fn words(sources: u32) -> u32 {
    sources * 2 * WORDS
}

/// Number of a source address and protocol.
#[inline(always)]
const fn lane(source: u32, protocol: u8) -> u32 {
    source * 2 + (protocol == Protocol::Udp as u8) as u32
}

/// Where the owner of a port stands; the port is in host order.
#[inline(always)]
#[must_use]
pub const fn owner_index(source: u32, protocol: u8, port: u16) -> u32 {
    lane(source, protocol) * PORTS + port as u32
}

/// Where the word of a port stands; the port is in host order, and its bit is `port % 64`.
#[inline(always)]
#[must_use]
pub const fn word_index(source: u32, protocol: u8, port: u16) -> u32 {
    lane(source, protocol) * WORDS + port as u32 / 64
}

/// The mark of a flow at a place: never 0. The bit is set in the tags of all flows anyway, so the
/// mark is as good a hash as the place's own.
#[inline(always)]
#[must_use]
pub const fn mark(place: Place) -> u64 {
    place.hash() | (TAKEN as u64) << 32
}

/// Takes a source port for a flow to a backend; `None` when hardly any is left.
#[inline(always)]
pub fn take<T: Tables>(tables: &T, backend: &Backend, protocol: u8, place: Place) -> Option<Path> {
    let sources = u32::from(backend.sources);
    if sources == 0 {
        return None;
    }
    let start = (place.hash() >> 24) as u32;
    for attempt in 0..ATTEMPTS {
        // Every address in turn, and far apart in each.
        let number = start.wrapping_add(attempt.wrapping_mul(0x9e37_79b1));
        let source = u32::from(backend.first_source) + start.wrapping_add(attempt) % sources;
        let word = (number >> 8) % WORDS;
        let cell = tables.port_word(lane(source, protocol) * WORDS + word)?;
        let free = !cell.load();
        if free == 0 {
            continue;
        }
        // From another bit on for each flow, or a port that was given back would be taken first, while
        // the backend still remembers its former connection.
        let turn = number % 64;
        let turned = free.rotate_right(turn);
        let lowest = (turned & turned.wrapping_neg()).rotate_left(turn);
        if tables.fetch_or(cell, lowest) & lowest != 0 {
            continue;
        }
        let port = (word * 64 + trailing_zeros(lowest)) as u16;
        tables
            .port_owner(owner_index(source, protocol, port))?
            .store(mark(place));
        return Some(Path::with_source(source as u8, port.to_be()));
    }
    None
}

/// Number of the only bit in a word. BPF has no such instruction, and the compiler's substitute is
/// a table.
#[inline(always)]
const fn trailing_zeros(bit: u64) -> u32 {
    let mut count = 0;
    count += ((bit & 0xffff_ffff == 0) as u32) << 5;
    count += ((bit & 0x0000_ffff_0000_ffff == 0) as u32) << 4;
    count += ((bit & 0x00ff_00ff_00ff_00ff == 0) as u32) << 3;
    count += ((bit & 0x0f0f_0f0f_0f0f_0f0f == 0) as u32) << 2;
    count += ((bit & 0x3333_3333_3333_3333 == 0) as u32) << 1;
    count + (bit & 0x5555_5555_5555_5555 == 0) as u32
}

/// Gives back the source port of a flow that is gone, unless that was done already.
#[inline(always)]
pub fn give_back<T: Tables>(tables: &T, path: Path, protocol: u8, place: Place) {
    if path.has_source() {
        let source = u32::from(path.address());
        release(tables, source, protocol, path.port(), mark(place));
    }
}

/// Gives back a source port that still has that mark; the port is in network order.
#[inline(always)]
pub fn release<T: Tables>(tables: &T, source: u32, protocol: u8, port: u16, mark: u64) {
    let port = u16::from_be(port);
    let (Some(owner), Some(word)) = (
        tables.port_owner(owner_index(source, protocol, port)),
        tables.port_word(word_index(source, protocol, port)),
    ) else {
        return;
    };
    if tables.compare_exchange_word(owner, mark, 0) {
        tables.fetch_and(word, !(1 << (port % 64)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{abi::Settings, address::Address, host::HostTables};

    #[test]
    fn bits_are_counted() {
        for bit in 0..64 {
            assert_eq!(trailing_zeros(1 << bit), bit);
        }
    }

    #[test]
    fn ports_that_were_given_back_are_not_taken_first() {
        let mut tables = HostTables::new(Settings::default());
        tables.add_source(Address::from_v4([10, 0, 0, 2]), |port| port >= 1024);
        let backend = Backend {
            sources: 1,
            ..Backend::default()
        };
        let mut ports = HashSet::new();
        for client in 0..2000u64 {
            let place = Place::from_hash(client.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let path = take(&tables, &backend, 6, place).unwrap();
            assert!(u16::from_be(path.port()) >= 1024);
            ports.insert(path.port());
            give_back(&tables, path, 6, place);
        }
        // Of 64,512, one after the other: few come twice.
        assert!(ports.len() > 1900, "{}", ports.len());
    }

    #[test]
    fn every_port_has_a_place_of_its_own() {
        assert_eq!(owner_index(1, 6, 0), 2 * PORTS);
        assert_eq!(owner_index(1, 17, 65535), owners(2) - 1);
        assert_eq!(word_index(1, 17, 65535), words(2) - 1);
        assert_eq!(word_index(0, 6, 64), 1);
    }
}
