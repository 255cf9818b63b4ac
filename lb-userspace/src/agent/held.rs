//! What the tables hold: the reconciler's memory of them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Instant,
};

use lb_common::{
    abi::{Backend, EndpointKey, NextHop, Service, Settings},
    address::Address,
};

use super::{
    allocate::{Ids, NextHops, Regions},
    reconcile::Write,
};
use crate::dataplane::Capacity;

/// Where a backend listens.
pub(super) type Endpoint = (Address, u16);

/// What the tables hold, and what of them is free.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) settings: Settings,
    pub(super) services: BTreeMap<Order, HeldService>,
    /// Addresses that have an entry of their own because they have services.
    pub(super) addresses: HashSet<Address>,
    /// Backends without a service, by id.
    pub(super) lingering: HashMap<u32, Backend>,
    pub(super) filter: Vec<u64>,
    pub(super) service_ids: Ids,
    pub(super) backend_ids: Ids,
    pub(super) regions: Regions,
    pub(super) next_hops: NextHops,
    /// What found no room in the present reconciliation.
    pub(super) shortage: Option<&'static str>,
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
    pub(super) slots: Vec<u32>,
    pub(super) backends: HashMap<Endpoint, (u32, Backend)>,
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
            lingering,
            filter,
            shortage: None,
        }
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
            .is_some_and(|(id, _)| service.slots.contains(id))
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
        let ended: Vec<_> = self
            .lingering
            .extract_if(|id, _| !is_referred(*id))
            .collect();
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
