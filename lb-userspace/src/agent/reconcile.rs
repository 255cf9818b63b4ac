//! From what the tables hold to what they should hold: the writes, in an order in which no packet
//! ever meets a half-made thing.
//!
//! Filter bits are set first and cleared last; a next hop is written before a backend points at
//! it, a backend before a slot names it, all slots of a service before the service shows them.
//! What is given up rests (see [`super::allocate`]) before it is used for something else.
//!
//! A backend that the config does not name any more gets no new flows, but keeps its entry until
//! its last flow has ended: it *lingers*.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use lb_common::{
    abi::{Backend, EndpointKey, Forwarding, NextHop, Service, Settings, backend_flags},
    address::Address,
    filter::{Bit, Role},
};

use super::{
    held::{Held, HeldService, Order, order},
    plan::{Desired, DesiredService, Way},
};

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
}

/// What a reconciliation came to.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// In this order.
    pub(super) writes: Vec<Write>,
    /// Something found no room: it may, once what rests is free again.
    pub(super) shortage: Option<&'static str>,
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
        for service in &desired.services {
            self.reconcile_service(service, desired, writes, now);
        }
        let gone: Vec<Order> = self
            .services
            .keys()
            .filter(|key| !kept.contains(*key))
            .copied()
            .collect();
        for key in gone {
            self.remove_service(key, writes, now);
        }
        self.reconcile_addresses(desired, writes);
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
        changes.shortage = self.shortage.take();
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
                let Some(id) = self.service_ids.take(now) else {
                    self.shortage = Some("services");
                    return;
                };
                writes.push(Write::ResetCursor { service: id });
                let value = Service {
                    id,
                    ..Service::default()
                };
                let (slots, backends) = (Vec::new(), HashMap::new());
                (
                    HeldService {
                        key: desired.key,
                        value,
                        slots,
                        backends,
                    },
                    true,
                )
            }
        };
        let mut old = std::mem::take(&mut held.backends);
        let mut ids = Vec::with_capacity(desired.backends.len());
        for backend in &desired.backends {
            let endpoint = (backend.value.address, backend.value.port);
            if let Some((id, _)) = held.backends.get(&endpoint) {
                ids.push(Some(*id));
                continue;
            }
            let known = match old.remove(&endpoint) {
                // Its flows would be handled the other way.
                Some((id, value)) if value.forwarding != backend.value.forwarding => {
                    self.lingering.insert(id, value);
                    None
                }
                known => known,
            };
            let known = known.or_else(|| self.revive(&backend.value));
            let wanted = Backend {
                service: held.value.id,
                ..backend.value
            };
            let way = all.ways.get(&endpoint.0).copied().unwrap_or_default();
            let made = self.reconcile_backend(known, wanted, way, writes, now);
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
        let old_value = held.value;
        held.value.on_no_backend = desired.on_no_backend;
        if slots != held.slots {
            match self.place(&slots, now) {
                Some(offset) => {
                    self.regions
                        .release(old_value.slots_offset, old_value.slots_len, now);
                    held.value.slots_offset = offset;
                    held.value.slots_len = slots.len() as u32;
                    writes.push(Write::Slots {
                        offset,
                        ids: slots.clone(),
                    });
                    held.slots = slots;
                }
                None => self.shortage = Some("slots"),
            }
        }
        if is_new || held.value != old_value {
            writes.push(Write::Service {
                key: held.key,
                value: held.value,
            });
        }
        self.services.insert(order(&held.key), held);
    }

    fn place(&mut self, slots: &[u32], now: Instant) -> Option<u32> {
        if slots.is_empty() {
            Some(0)
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

    /// `None` when there is no room for it.
    fn reconcile_backend(
        &mut self,
        known: Option<(u32, Backend)>,
        wanted: Backend,
        way: Way,
        writes: &mut Vec<Write>,
        now: Instant,
    ) -> Option<(u32, Backend)> {
        let (id, old) = match known {
            Some((id, old)) => (id, old),
            None => {
                let Some(id) = self.backend_ids.take(now) else {
                    self.shortage = Some("backends");
                    return None;
                };
                writes.push(Write::ResetCounters { backend: id });
                (id, Backend::default())
            }
        };
        let mut wanted = Backend {
            next_hop: old.next_hop,
            ..wanted
        };
        self.point(&mut wanted, way, writes, now);
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
                let Some((index, is_new)) = self.next_hops.take(hop, now) else {
                    self.shortage = Some("next hops");
                    return;
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

    fn reconcile_addresses(&mut self, desired: &Desired, writes: &mut Vec<Write>) {
        let wanted: HashSet<Address> = desired
            .services
            .iter()
            .map(|service| service.key.address)
            .collect();
        for &address in wanted.difference(&self.addresses) {
            let key = EndpointKey::any_port(address);
            writes.push(Write::Service {
                key,
                value: Service::default(),
            });
        }
        for &address in self.addresses.difference(&wanted) {
            writes.push(Write::RemoveService {
                key: EndpointKey::any_port(address),
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
        for backend in served
            .map(|backend| &backend.value)
            .chain(self.lingering.values())
        {
            if backend.flags & backend_flags::USED != 0
                && backend.forwarding == Forwarding::Nat as u8
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
