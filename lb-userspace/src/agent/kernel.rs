//! The two directions between the reconciler and the tables: reading what an earlier agent left,
//! and writing.

use std::collections::{HashMap, HashSet};

use lb_common::{
    abi::{Backend, NextHop, backend_flags},
    address::Address,
};

use super::{
    held::{Endpoint, Held, HeldService},
    reconcile::Write,
};
use crate::dataplane::{Error, Tables};

/// Reads what the tables hold.
pub(super) fn read(tables: &Tables) -> Result<Held, Error> {
    let capacity = tables.capacity();
    let settings = *tables.settings();
    let mut services = Vec::new();
    let mut addresses = HashSet::new();
    for (key, value) in tables.services()? {
        if key.protocol == 0 {
            addresses.insert(key.address);
        } else {
            let slots = tables.slots(value.slots_offset, value.slots_len)?;
            services.push(HeldService::new(key, value, slots));
        }
    }
    let mut lingering = HashMap::new();
    let mut next_hops: HashMap<u32, NextHop> = HashMap::new();
    for id in 1..capacity.backends {
        let value = tables.backend(id)?;
        if value.flags & backend_flags::USED == 0 {
            continue;
        }
        if value.next_hop != 0 && !next_hops.contains_key(&value.next_hop) {
            next_hops.insert(value.next_hop, tables.next_hop(value.next_hop)?);
        }
        if let Some(id_and_value) = adopt(&mut services, id, value) {
            lingering.extend([id_and_value]);
        }
    }
    let filter = (0..=settings.filter_mask)
        .map(|word| tables.filter_word(word))
        .collect::<Result<_, _>>()?;
    let mut held = Held::new(
        settings, capacity, filter, services, addresses, lingering, &next_hops,
    );
    held.server_ids = tables.server_ids()?;
    Ok(held)
}

/// Gives a backend to its service; returns the one without a service. Of two at one endpoint the
/// one with slots is the present one.
fn adopt(services: &mut [HeldService], id: u32, value: Backend) -> Option<(u32, Backend)> {
    let endpoint: Endpoint = (value.address, value.port);
    let key = (value.service_address, value.service_port, value.protocol);
    let service = services
        .iter_mut()
        .find(|held| (held.key.address, held.key.port, held.key.protocol) == key);
    let Some(service) = service else {
        return Some((id, value));
    };
    match service.backends.get(&endpoint) {
        Some((other, _)) if service.has_slots(*other) => Some((id, value)),
        _ => service.backends.insert(endpoint, (id, value)),
    }
}

/// Something that takes writes: the tables, or a stand-in for tests.
pub(super) trait Sink {
    /// Carries out one write.
    fn write(&mut self, write: &Write) -> Result<(), Error>;
}

impl Sink for Tables {
    fn write(&mut self, write: &Write) -> Result<(), Error> {
        match write {
            Write::FilterWord { index, word } => self.set_filter_word(*index, *word),
            Write::NextHop { index, value } => self.set_next_hop(*index, value),
            Write::ResetCounters { backend } => self.reset_backend_counters(*backend),
            Write::Backend { id, value } => self.set_backend(*id, value),
            Write::Slots { offset, ids } => self.set_slots(*offset, ids),
            Write::ResetCursor { service } => self.reset_cursor(*service),
            Write::Service { key, value } => self.set_service(*key, *value),
            Write::RemoveService { key } => self.remove_service(*key),
            Write::ServerId { key, backend } => self.set_server_id(*key, *backend),
            Write::RemoveServerId { key } => self.remove_server_id(*key),
        }
    }
}

/// Carries out writes, up to the first that fails.
pub(super) fn apply(sink: &mut impl Sink, writes: &[Write]) -> Result<(), Error> {
    writes.iter().try_for_each(|write| sink.write(write))
}

/// All addresses that have an entry in the tables of backends: flows go there, whatever the config
/// says now.
pub(super) fn addresses(held: &Held) -> impl Iterator<Item = Address> {
    let served = held.services.values();
    served
        .flat_map(|service| service.backends.values())
        .map(|(_, value)| value.address)
        .chain(held.lingering().map(|(_, value)| value.address))
}
