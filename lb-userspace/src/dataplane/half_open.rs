//! How many half-open TCP flows each service has, by which SYN cookies begin.

use aya::maps::{Array, MapData};
use lb_common::{
    abi::{Backend, Cursor, Protocol, Ticks},
    shared::Shared64,
    tables::FlowTable,
};

use super::{FlowTables, Words, plain::Plain};

/// Words of a [`Cursor`].
const CURSOR_WORDS: usize = size_of::<Cursor>() / size_of::<u64>();
/// Which of them is [`Cursor::half_open`].
const HALF_OPEN_WORD: usize = std::mem::offset_of!(Cursor, half_open) / size_of::<u64>();

/// The counts, and what they should be.
pub struct HalfOpenCounts {
    pub(super) flows: FlowTables,
    /// All words of all cursors.
    pub(super) cursors: Words,
    pub(super) backends: Array<MapData, Plain<Backend>>,
}

impl HalfOpenCounts {
    /// Words of so many cursors.
    pub(super) const fn words(cursors: u32) -> u32 {
        cursors * CURSOR_WORDS as u32
    }

    /// Counts the flows in the table and corrects the counts by the difference: the data path does
    /// not see flows that expire, nor whose place a new one takes. What begins or ends meanwhile is
    /// off until the next time.
    pub fn correct(&self) {
        let cells: Vec<&Shared64> = self
            .cursors
            .all()
            .chunks_exact(CURSOR_WORDS)
            .map(|cursor| &cursor[HALF_OPEN_WORD])
            .collect();
        let before: Vec<u64> = cells.iter().map(|cell| cell.load()).collect();
        let Ok(found) = count(&self.flows, FlowTables::now()) else {
            return;
        };
        let mut by_service = vec![0u64; cells.len()];
        for (id, flows) in (0u32..).zip(found) {
            if flows == 0 {
                continue;
            }
            let service = self.backends.get(&id, 0).map(|backend| backend.0.service);
            if let Some(sum) = service
                .ok()
                .and_then(|service| by_service.get_mut(service as usize))
            {
                *sum += flows;
            }
        }
        for ((cell, before), now) in cells.iter().zip(before).zip(by_service) {
            let difference = now.wrapping_sub(before);
            if difference != 0 {
                cell.fetch_add(difference);
            }
        }
    }
}

/// Half-open flows of TCP that are alive, by backend id.
fn count(flows: &FlowTables, now: Ticks) -> std::io::Result<Vec<u64>> {
    let mut found: Vec<u64> = Vec::new();
    flows.for_each(FlowTable::HalfOpen, |bucket| {
        for flow in bucket.flows() {
            if flow.protocol() != Protocol::Tcp as u8 || !flow.is_active(now) {
                continue;
            }
            let backend = flow.backend() as usize;
            if backend >= found.len() {
                found.resize(backend + 1, 0);
            }
            found[backend] += 1;
        }
    })?;
    Ok(found)
}
