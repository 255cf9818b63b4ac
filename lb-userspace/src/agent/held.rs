//! What the tables hold: the reconciler's memory of them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Instant,
};

use lb_common::{
    abi::{Backend, EndpointKey, NextHop, ServerIdKey, Service, Settings},
    address::Address,
};

use super::{
    allocate::{Ids, NextHops, Regions, Short},
    plan::{Desired, Way},
    reconcile::Write,
};
use crate::dataplane::{self, Capacity};

/// Where a backend listens.
pub(super) type Endpoint = (Address, u16);

/// What the tables hold, and what of them is free.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) settings: Settings,
    capacity: Capacity,
    pub(super) services: BTreeMap<Order, HeldService>,
    /// Addresses that have an entry of their own because they have services.
    pub(super) addresses: HashSet<Address>,
    /// Backends by QUIC server id.
    pub(super) server_ids: HashMap<ServerIdKey, u32>,
    /// Backends without a service, by id.
    pub(super) lingering: HashMap<u32, Backend>,
    pub(super) filter: Vec<u64>,
    pub(super) service_ids: Ids,
    pub(super) backend_ids: Ids,
    pub(super) regions: Regions,
    pub(super) next_hops: NextHops,
    pub(super) lacks: Lacks,
}

/// What found no room in the present reconciliation.
#[derive(Debug, Default)]
pub(super) struct Lacks {
    /// Something of which everything is in use.
    pub(super) lasting: Option<&'static str>,
    /// When something is free again, or due, that had to wait.
    pub(super) until: Option<Instant>,
}

impl Lacks {
    pub(super) fn note(&mut self, what: &'static str, short: Short) {
        match short {
            Short::Lasting => self.lasting = Some(what),
            Short::Until(then) => {
                self.until = Some(self.until.map_or(then, |until| until.min(then)));
            }
        }
    }
}

/// An `EndpointKey` with an order.
pub(super) type Order = ([u8; 16], u16, u8);

/// Its order.
pub(super) fn order(key: &EndpointKey) -> Order {
    (key.address.octets(), key.port, key.protocol)
}

/// A service in the tables.
#[derive(Clone, Debug)]
pub(super) struct HeldService {
    pub(super) key: EndpointKey,
    pub(super) value: Service,
    slots: Vec<u32>,
    /// The ids in `slots`.
    rotation: HashSet<u32>,
    /// When the slots were last replaced.
    pub(super) replaced: Option<Instant>,
    /// Until when backends that leave stay in rotation, where none of those to come is ready.
    pub(super) holds_over: Option<Instant>,
    pub(super) backends: HashMap<Endpoint, (u32, Backend)>,
}

impl HeldService {
    pub(super) fn new(key: EndpointKey, value: Service, slots: Vec<u32>) -> Self {
        Self {
            key,
            value,
            rotation: slots.iter().copied().collect(),
            slots,
            replaced: None,
            holds_over: None,
            backends: HashMap::new(),
        }
    }

    /// Backend ids in the order of service.
    pub(super) fn slots(&self) -> &[u32] {
        &self.slots
    }

    pub(super) fn set_slots(&mut self, slots: Vec<u32>) {
        self.rotation = slots.iter().copied().collect();
        self.slots = slots;
    }

    /// Whether a backend has slots.
    pub(super) fn has_slots(&self, id: u32) -> bool {
        self.rotation.contains(&id)
    }
}

impl Held {
    /// What tables hold that were taken over, or new and empty ones.
    pub(super) fn new(
        settings: Settings,
        capacity: Capacity,
        filter: Vec<u64>,
        services: Vec<HeldService>,
        addresses: HashSet<Address>,
        lingering: HashMap<u32, Backend>,
        next_hops: &HashMap<u32, NextHop>,
    ) -> Self {
        let backends = || {
            let served = services
                .iter()
                .flat_map(|service| service.backends.values());
            served
                .map(|(id, value)| (*id, *value))
                .chain(lingering.iter().map(|(id, v)| (*id, *v)))
        };
        Self {
            settings,
            capacity,
            service_ids: Ids::new(
                0,
                capacity.services,
                services.iter().map(|service| service.value.id),
            ),
            backend_ids: Ids::new(1, capacity.backends, backends().map(|(id, _)| id)),
            regions: Regions::new(
                capacity.slots,
                services
                    .iter()
                    .map(|held| (held.value.slots_offset, held.value.slots_len)),
            ),
            next_hops: NextHops::new(
                capacity.next_hops,
                backends()
                    .filter(|(_, value)| value.next_hop != 0)
                    .filter_map(|(_, value)| {
                        next_hops
                            .get(&value.next_hop)
                            .map(|hop| (value.next_hop, *hop))
                    }),
            ),
            services: services
                .into_iter()
                .map(|held| (order(&held.key), held))
                .collect(),
            addresses,
            server_ids: HashMap::new(),
            lingering,
            filter,
            lacks: Lacks::default(),
        }
    }

    /// Whether the tables are large enough for what is desired, now and with every backend up.
    pub(super) fn check_room(&self, desired: &Desired) -> Result<(), dataplane::Error> {
        let services = &desired.services;
        let addresses: HashSet<Address> =
            services.iter().map(|service| service.key.address).collect();
        let backends = || services.iter().flat_map(|service| &service.backends);
        let endpoints: HashSet<(&EndpointKey, Endpoint)> = services
            .iter()
            .flat_map(|service| {
                let backends = service.backends.iter();
                backends.map(|backend| (&service.key, (backend.address, backend.port)))
            })
            .collect();
        let ways: HashSet<NextHop> = backends()
            .filter_map(|backend| match desired.ways.get(&backend.address) {
                Some(Way::Known(hop)) => Some(*hop),
                Some(Way::Open | Way::None) | None => None,
            })
            .collect();
        let slots = services.iter().map(|service| service.most_slots).sum();
        let Capacity {
            services: service_entries,
            slots: slot_count,
            backends: backend_ids,
            next_hops,
        } = self.capacity;
        for (what, capacity, needed) in [
            (
                "services and their addresses",
                service_entries,
                services.len() + addresses.len(),
            ),
            ("backends", backend_ids - 1, endpoints.len()),
            ("slots (the sum of all weights)", slot_count, slots),
            ("next hops", next_hops - 1, ways.len()),
        ] {
            if needed > capacity as usize {
                return Err(dataplane::Error::Full {
                    what,
                    capacity,
                    needed,
                });
            }
        }
        Ok(())
    }

    /// The id of a backend, and its entry.
    pub(super) fn backend(&self, key: &EndpointKey, endpoint: Endpoint) -> Option<&(u32, Backend)> {
        self.services.get(&order(key))?.backends.get(&endpoint)
    }

    /// Whether a backend has slots.
    pub(super) fn is_in_rotation(&self, key: &EndpointKey, endpoint: Endpoint) -> bool {
        let Some(service) = self.services.get(&order(key)) else {
            return false;
        };
        service
            .backends
            .get(&endpoint)
            .is_some_and(|(id, _)| service.has_slots(*id))
    }

    /// Whether no backend of a service has slots.
    pub(super) fn is_empty(&self, key: &EndpointKey) -> bool {
        let service = self.services.get(&order(key));
        service.is_none_or(|service| service.slots().is_empty())
    }

    /// Whether a lingering backend still has slots of its service, because new ones had to wait.
    pub(super) fn lingers_in_rotation(&self, id: u32, value: &Backend) -> bool {
        let key = EndpointKey::new(value.service_address, value.service_port, value.protocol);
        self.services
            .get(&order(&key))
            .is_some_and(|service| service.has_slots(id))
    }

    /// Backends that wait for their flows to end.
    pub(super) fn lingering(&self) -> impl Iterator<Item = (u32, &Backend)> {
        self.lingering.iter().map(|(id, value)| (*id, value))
    }

    /// Lets backends go whose flows have all ended, and says which with the writes for that. The
    /// filter follows at the next reconciliation.
    pub(super) fn expire_lingering(
        &mut self,
        is_referred: impl Fn(u32) -> bool,
        now: Instant,
    ) -> (Vec<(u32, Backend)>, Vec<Write>) {
        let mut lingering = std::mem::take(&mut self.lingering);
        let ended: Vec<_> = lingering
            .extract_if(|id, value| !is_referred(*id) && !self.lingers_in_rotation(*id, value))
            .collect();
        self.lingering = lingering;
        for (id, value) in &ended {
            self.next_hops.release(value.next_hop, now);
            self.backend_ids.release(*id, now);
        }
        let zero = |(id, _): &(u32, Backend)| Write::Backend {
            id: *id,
            value: Backend::default(),
        };
        let writes = ended.iter().map(zero).collect();
        (ended, writes)
    }
}
