//! The next backend of a service, by its scheduler.

use crate::{
    abi::{Scheduler, Service, features, service_flags},
    engine::packet::Packet,
    frame::Frame,
    hash,
    tables::Tables,
    trace::Decision,
};

/// Seed of the hashes that schedule. It is the same on every balancer, so that they agree on the
/// backend of a client without talking to each other.
pub const SCHEDULE_SEED: u64 = 0x6c62_5f73_6c6f_7473;

/// Backends that least connections compares. A service with more of them compares those that
/// follow its cursor, other ones for every flow.
pub const LEAST_CONNECTIONS_SCAN: u32 = 64;

/// Id of the backend that is next in turn.
#[inline(always)]
pub(super) fn next<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    service: &Service,
    packet: &Packet,
) -> Option<u32> {
    const SOURCE_HASH: u8 = Scheduler::SourceHash as u8;
    const MAGLEV: u8 = Scheduler::Maglev as u8;
    let slots = u64::from(service.slots_len);
    if slots == 0 {
        return None;
    }
    let is_stateless =
        tables.has(features::ONE_PACKET) && service.flags & service_flags::ONE_PACKET != 0;
    let is_hashed = tables.has(features::HASH) && matches!(service.scheduler, SOURCE_HASH | MAGLEV);
    let turn = if is_stateless || is_hashed {
        let port = if service.scheduler == SOURCE_HASH {
            0
        } else {
            packet.ports.source.get()
        };
        let slot = slot_of(
            packet.ip.source,
            port,
            packet.ip.protocol,
            service.slots_len,
        );
        tables.note(Decision::HashedSlot, slot);
        slot
    } else if tables.has(features::LEAST_CONNECTIONS)
        && service.scheduler == Scheduler::LeastConnections as u8
    {
        return least_loaded(frame, tables, service);
    } else {
        let turn = (tables.next_cursor(service.id) % slots) as u32;
        tables.note(Decision::Turn, turn);
        turn
    };
    tables.slot(service.slots_offset.wrapping_add(turn))
}

/// The slot of a client, the port in network order (0 for its address alone), among so many.
#[inline(always)]
#[must_use]
pub fn slot_of(client: crate::address::Address, port: u16, protocol: u8, slots: u32) -> u32 {
    (hash::endpoint(SCHEDULE_SEED, client, port, protocol) % u64::from(slots)) as u32
}

/// The backend with the fewest live flows for its weight; of equals the one whose turn it is.
#[inline(always)]
fn least_loaded<F: Frame, T: Tables>(frame: &F, tables: &T, service: &Service) -> Option<u32> {
    // Made forgotten in every turn, or the verifier would know each way through the loop apart.
    let forget = |number: u64| frame.forget(number as usize) as u64;
    let slots = u64::from(service.slots_len);
    let mut turn = tables.next_cursor(service.id) % slots;
    let mut left = slots;
    let (mut best, mut best_load, mut best_weight) = (0, u64::from(u32::MAX), 1);
    for _ in 0..LEAST_CONNECTIONS_SCAN {
        if left == 0 {
            break;
        }
        let id = tables.slot(service.slots_offset.wrapping_add(turn as u32))?;
        let weight = u64::from(tables.backend(id)?.weight);
        // Below 0 for a moment, when a flow's end was counted twice.
        let load = tables.load(id)?.load() as i64;
        let load = forget(if load < 0 { 1 } else { load as u64 + 1 });
        if load * best_weight < best_load * weight {
            best = forget(u64::from(id));
            best_load = forget(load);
            best_weight = forget(weight);
        }
        left = forget(left - 1);
        turn = forget(if turn + 1 >= slots { 0 } else { turn + 1 });
    }
    tables.note(Decision::FewestFlows, (best_load - 1) as u32);
    (best != 0).then_some(best as u32)
}
