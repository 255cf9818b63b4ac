//! From what the tables hold to what they should hold: the writes, in an order in which no packet
//! ever meets a half-made thing.
//!
//! Filter bits are set first and cleared last; a next hop is written before a backend points at
//! it, a backend before a slot names it, all slots of a service before the service shows them. A
//! backend is marked as down, or loses its next hop, only after its slots are gone.
//! What is given up rests (see [`super::allocate`]) before it is used for something else.
//!
//! A backend that the config does not name any more gets no new flows, but keeps its entry until
//! its last flow has ended: it *lingers*. Where all of a service are replaced at once, those that
//! leave get new flows until the first of the others is ready, but not for long.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use lb_common::{
    abi::{
        Backend, EndpointKey, Forwarding, NextHop, ServerIdKey, Service, Settings, backend_flags,
    },
    address::Address,
    filter::{Bit, Role},
};

use super::{
    allocate::Short,
    held::{Held, HeldService, Lacks, Order, order},
    plan::{Desired, DesiredService, Way},
};

/// How often the slots of a service are replaced: the first change is written at once, and those
/// that follow closely together, so that what is given up has time to rest.
pub(super) const REPLACE_EVERY: Duration = Duration::from_millis(50);

/// How long backends that leave stay in rotation at most.
pub(super) const HOLD_OVER: Duration = Duration::from_secs(2);

/// One write to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    FilterWord { index: u32, word: u64 },
    NextHop { index: u32, value: NextHop },
    ResetCounters { backend: u32 },
    Backend { id: u32, value: Backend },
    Slots { offset: u32, ids: Vec<u32> },
    ResetCursor { service: u32 },
    Service { key: EndpointKey, value: Service },
    RemoveService { key: EndpointKey },
    ServerId { key: ServerIdKey, backend: u32 },
    RemoveServerId { key: ServerIdKey },
}

/// What a reconciliation came to.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// In this order.
    pub(super) writes: Vec<Write>,
    /// What is not all written, and when it can be.
    pub(super) lacks: Lacks,
}

impl Held {
    /// The writes that make the tables hold what they should; they count as done.
    pub(super) fn reconcile(&mut self, desired: &Desired, now: Instant) -> Changes {
        let mut changes = Changes::default();
        let writes = &mut changes.writes;
        let wanted = self.wanted_filter(desired);
        for (index, word) in wanted.iter().enumerate() {
            if self.filter[index] | word != self.filter[index] {
                self.filter[index] |= word;
                writes.push(Write::FilterWord {
                    index: index as u32,
                    word: self.filter[index],
                });
            }
        }
        let kept: HashSet<Order> = desired
            .services
            .iter()
            .map(|service| order(&service.key))
            .collect();
        // First, because it makes room.
        let gone: Vec<Order> = self
            .services
            .keys()
            .filter(|key| !kept.contains(*key))
            .copied()
            .collect();
        for key in gone {
            self.remove_service(key, writes, now);
        }
        let addresses: HashSet<Address> = desired
            .services
            .iter()
            .map(|service| service.key.address)
            .collect();
        self.remove_addresses(&addresses, writes);
        for service in &desired.services {
            self.reconcile_service(service, desired, writes, now);
        }
        self.add_addresses(addresses, writes);
        self.reconcile_server_ids(desired, writes);
        self.follow_lingering(desired, writes, now);
        // Anew, because what has just begun to linger keeps its bits.
        for (index, word) in self.wanted_filter(desired).into_iter().enumerate() {
            if self.filter[index] != word {
                self.filter[index] = word;
                writes.push(Write::FilterWord {
                    index: index as u32,
                    word,
                });
            }
        }
        changes.lacks = std::mem::take(&mut self.lacks);
        changes
    }

    fn reconcile_service(
        &mut self,
        desired: &DesiredService,
        all: &Desired,
        writes: &mut Vec<Write>,
        now: Instant,
    ) {
        let (mut held, is_new) = match self.services.remove(&order(&desired.key)) {
            Some(held) => (held, false),
            None => {
                let id = match self.service_ids.take(now) {
                    Ok(id) => id,
                    Err(short) => return self.lacks.note("services", short),
                };
                writes.push(Write::ResetCursor { service: id });
                let value = Service {
                    id,
                    ..Service::default()
                };
                (HeldService::new(desired.key, value, Vec::new()), true)
            }
        };
        let mut old = std::mem::take(&mut held.backends);
        let mut ids = Vec::with_capacity(desired.backends.len());
        let mut leaving = Vec::new();
        for backend in &desired.backends {
            let endpoint = (backend.address, backend.port);
            if let Some((id, _)) = held.backends.get(&endpoint) {
                ids.push(Some(*id));
                continue;
            }
            let known = match old.remove(&endpoint) {
                // Its flows would be handled the other way.
                Some((id, value)) if value.forwarding != backend.forwarding => {
                    self.lingering.insert(id, value);
                    None
                }
                known => known,
            };
            let known = known.or_else(|| self.revive(backend));
            let wanted = Backend {
                service: held.value.id,
                ..*backend
            };
            let way = all.ways.get(&endpoint.0).copied().unwrap_or_default();
            let has_slots = known.is_some_and(|(id, _)| held.has_slots(id));
            let made = self.reconcile_backend(known, wanted, way, has_slots, writes, now);
            if has_slots && (way == Way::None || wanted.flags & backend_flags::DOWN != 0) {
                leaving.push((endpoint, wanted, way));
            }
            held.backends.extend(made.map(|made| (endpoint, made)));
            ids.push(
                made.filter(|(_, value)| value.next_hop != 0)
                    .map(|(id, _)| id),
            );
        }
        self.lingering.extend(old.into_values());
        let slots: Vec<u32> = desired
            .slots
            .iter()
            .filter_map(|&index| ids[index])
            .collect();
        let slots = if slots.is_empty() && desired.is_awaited {
            self.hold_over(&mut held, all, now)
        } else {
            held.holds_over = None;
            slots
        };
        let old_value = held.value;
        held.value = Service {
            id: held.value.id,
            slots_offset: held.value.slots_offset,
            slots_len: held.value.slots_len,
            ..desired.value
        };
        let mut waits = false;
        if slots != held.slots() {
            let due = held.replaced.map(|then| then + REPLACE_EVERY);
            let place = match due.filter(|due| *due > now) {
                Some(due) => Err(Short::Until(due)),
                None => self.place(&slots, now),
            };
            match place {
                Ok(offset) => {
                    self.regions
                        .release(old_value.slots_offset, old_value.slots_len, now);
                    held.value.slots_offset = offset;
                    held.value.slots_len = slots.len() as u32;
                    writes.push(Write::Slots {
                        offset,
                        ids: slots.clone(),
                    });
                    held.set_slots(slots);
                    held.replaced = if is_new { None } else { Some(now) };
                }
                Err(short) => {
                    waits = short != Short::Lasting;
                    self.lacks.note("slots", short);
                }
            }
        }
        if is_new || held.value != old_value {
            writes.push(Write::Service {
                key: held.key,
                value: held.value,
            });
        }
        for (endpoint, wanted, way) in leaving {
            if let Some(&known) = held.backends.get(&endpoint) {
                let stays = waits && held.has_slots(known.0);
                let made = self.reconcile_backend(Some(known), wanted, way, stays, writes, now);
                held.backends.extend(made.map(|made| (endpoint, made)));
            }
        }
        self.services.insert(order(&held.key), held);
    }

    /// Slots of the backends that leave, as long as they may stay.
    fn hold_over(&mut self, held: &mut HeldService, all: &Desired, now: Instant) -> Vec<u32> {
        let until = *held.holds_over.get_or_insert(now + HOLD_OVER);
        if now >= until {
            return Vec::new();
        }
        let leads_there = |id: &u32| {
            let leaving = self.lingering.get(id);
            leaving.is_some_and(|value| all.ways.get(&value.address) != Some(&Way::None))
        };
        let slots: Vec<u32> = held.slots().iter().copied().filter(leads_there).collect();
        if !slots.is_empty() {
            self.lacks.note("backends", Short::Until(until));
        }
        slots
    }

    fn place(&mut self, slots: &[u32], now: Instant) -> Result<u32, Short> {
        if slots.is_empty() {
            Ok(0)
        } else {
            self.regions.take(slots.len() as u32, now)
        }
    }

    /// A backend that comes back while it lingers goes on with its flows and counters.
    fn revive(&mut self, wanted: &Backend) -> Option<(u32, Backend)> {
        let same = |value: &Backend| {
            value.address == wanted.address
                && value.port == wanted.port
                && value.protocol == wanted.protocol
                && value.forwarding == wanted.forwarding
                && value.service_address == wanted.service_address
                && value.service_port == wanted.service_port
        };
        let id = self
            .lingering
            .iter()
            .find(|(_, value)| same(value))
            .map(|(id, _)| *id)?;
        self.lingering.remove_entry(&id)
    }

    /// `None` when there is no room for it. One that stays is not taken down yet.
    fn reconcile_backend(
        &mut self,
        known: Option<(u32, Backend)>,
        mut wanted: Backend,
        way: Way,
        stays: bool,
        writes: &mut Vec<Write>,
        now: Instant,
    ) -> Option<(u32, Backend)> {
        let (id, old) = match known {
            Some((id, old)) => (id, old),
            None => {
                let id = match self.backend_ids.take(now) {
                    Ok(id) => id,
                    Err(short) => {
                        self.lacks.note("backends", short);
                        return None;
                    }
                };
                writes.push(Write::ResetCounters { backend: id });
                (id, Backend::default())
            }
        };
        wanted.next_hop = old.next_hop;
        if stays {
            wanted.flags &= old.flags | !backend_flags::DOWN;
        }
        if !stays || way != Way::None {
            self.point(&mut wanted, way, writes, now);
        }
        if wanted != old {
            writes.push(Write::Backend { id, value: wanted });
        }
        Some((id, wanted))
    }

    /// Points a backend at its next hop.
    fn point(&mut self, backend: &mut Backend, way: Way, writes: &mut Vec<Write>, now: Instant) {
        let old = backend.next_hop;
        match way {
            Way::Open => return,
            Way::None => backend.next_hop = 0,
            Way::Known(hop) => {
                if self.next_hops.get(old) == Some(&hop) {
                    return;
                }
                let (index, is_new) = match self.next_hops.take(hop, now) {
                    Ok(taken) => taken,
                    Err(short) => return self.lacks.note("next hops", short),
                };
                if is_new {
                    writes.push(Write::NextHop { index, value: hop });
                }
                backend.next_hop = index;
            }
        }
        self.next_hops.release(old, now);
    }

    fn remove_service(&mut self, key: Order, writes: &mut Vec<Write>, now: Instant) {
        let Some(held) = self.services.remove(&key) else {
            return;
        };
        writes.push(Write::RemoveService { key: held.key });
        self.regions
            .release(held.value.slots_offset, held.value.slots_len, now);
        self.service_ids.release(held.value.id, now);
        self.lingering.extend(held.backends.into_values());
    }

    fn remove_addresses(&mut self, wanted: &HashSet<Address>, writes: &mut Vec<Write>) {
        for address in self.addresses.extract_if(|known| !wanted.contains(known)) {
            writes.push(Write::RemoveService {
                key: EndpointKey::any_port(address),
            });
        }
    }

    /// Names backends to QUIC connection ids.
    fn reconcile_server_ids(&mut self, desired: &Desired, writes: &mut Vec<Write>) {
        let mut wanted = HashMap::new();
        for service in &desired.services {
            let Some(held) = self.services.get(&order(&service.key)) else {
                continue;
            };
            for (backend, id) in service.backends.iter().zip(&service.server_ids) {
                let made = held.backends.get(&(backend.address, backend.port));
                if let (Some(id), Some((backend, _))) = (id, made) {
                    let key = ServerIdKey {
                        id: *id,
                        service: held.value.id,
                        reserved: 0,
                    };
                    wanted.insert(key, *backend);
                }
            }
        }
        for key in self.server_ids.keys() {
            if !wanted.contains_key(key) {
                writes.push(Write::RemoveServerId { key: *key });
            }
        }
        for (key, backend) in &wanted {
            if self.server_ids.get(key) != Some(backend) {
                writes.push(Write::ServerId {
                    key: *key,
                    backend: *backend,
                });
            }
        }
        self.server_ids = wanted;
    }

    fn add_addresses(&mut self, wanted: HashSet<Address>, writes: &mut Vec<Write>) {
        for &address in wanted.difference(&self.addresses) {
            let key = EndpointKey::any_port(address);
            writes.push(Write::Service {
                key,
                value: Service::default(),
            });
        }
        self.addresses = wanted;
    }

    /// Keeps the ways to lingering backends good.
    fn follow_lingering(&mut self, desired: &Desired, writes: &mut Vec<Write>, now: Instant) {
        let mut lingering = std::mem::take(&mut self.lingering);
        for (id, value) in &mut lingering {
            let way = desired
                .ways
                .get(&value.address)
                .copied()
                .unwrap_or_default();
            if way == Way::None && self.lingers_in_rotation(*id, value) {
                continue;
            }
            let old = *value;
            self.point(value, way, writes, now);
            if *value != old {
                writes.push(Write::Backend {
                    id: *id,
                    value: *value,
                });
            }
        }
        self.lingering = lingering;
    }

    /// The filter for what is desired and what lingers.
    fn wanted_filter(&self, desired: &Desired) -> Vec<u64> {
        let mut words = vec![0; self.filter.len()];
        let mut set = |role, address: Address, port: u16, protocol: u8| {
            let Settings {
                hash_seed,
                filter_mask,
                ..
            } = self.settings;
            let bit = Bit::of(hash_seed, filter_mask, role, address, port, protocol);
            if let Some(word) = words.get_mut(bit.word as usize) {
                *word |= bit.mask;
            }
        };
        for service in &desired.services {
            let key = service.key;
            set(Role::Service, key.address, key.port, key.protocol);
            set(Role::Service, key.address, 0, 0);
        }
        let served = desired
            .services
            .iter()
            .flat_map(|service| &service.backends);
        for backend in served.chain(self.lingering.values()) {
            if backend.flags & backend_flags::USED != 0
                && Forwarding::sees_replies(backend.forwarding)
            {
                set(
                    Role::Backend,
                    backend.address,
                    backend.port,
                    backend.protocol,
                );
            }
        }
        // Their clients' packets must still find the flows.
        for backend in self.lingering.values() {
            let (address, port) = (backend.service_address, backend.service_port);
            set(Role::Service, address, port, backend.protocol);
        }
        words
    }
}
