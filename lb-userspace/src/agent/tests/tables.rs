//! The stand-in for the kernel's tables, and what is wanted of them.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use lb_common::{
    abi::{
        self, Backend, EndpointKey, Forwarding, NextHop, OnBackendDown, OnNoBackend, Protocol,
        Scheduler, ServerIdKey, Service, Settings, backend_flags,
    },
    filter::{Bit, Role as FilterRole},
};

use crate::{
    agent::{
        held::Held,
        kernel::{Sink, apply},
        plan::{Desired, Facts, Orders, Way, desired, service_key},
        reconcile::Write,
    },
    config::model::{self, Announce, CheckKind, HealthCheck, Role, Via},
    control::State,
    dataplane::{Capacity, Error},
    health::Health,
};

pub(super) const FILTER_WORDS: u32 = 64;
pub(super) const SETTINGS: Settings = Settings {
    hash_seed: 7,
    established_mask: 0,
    half_open_mask: 0,
    filter_mask: FILTER_WORDS - 1,
    errors_per_tick: abi::ERRORS_PER_TICK,
    features: abi::features::ALL,
    reserved: 0,
};
pub(super) const CAPACITY: Capacity = Capacity {
    services: 64,
    slots: 4096,
    backends: 256,
    next_hops: 256,
};

#[derive(Default)]
pub(super) struct FakeTables {
    pub(super) filter: HashMap<u32, u64>,
    pub(super) services: HashMap<EndpointKey, Service>,
    pub(super) slots: HashMap<u32, u32>,
    pub(super) backends: HashMap<u32, Backend>,
    pub(super) next_hops: HashMap<u32, NextHop>,
    pub(super) resets: Vec<u32>,
    pub(super) server_ids: HashMap<ServerIdKey, u32>,
}

impl Sink for FakeTables {
    fn write(&mut self, write: &Write) -> Result<(), Error> {
        match write {
            Write::FilterWord { index, word } => {
                self.filter.insert(*index, *word);
            }
            Write::NextHop { index, value } => {
                let users = self
                    .backends
                    .values()
                    .filter(|backend| backend.next_hop == *index);
                assert_eq!(users.count(), 0, "next hop {index} changes under its users");
                self.next_hops.insert(*index, *value);
            }
            Write::ResetCounters { backend } => self.resets.push(*backend),
            Write::Backend { id, value } => {
                self.backends.insert(*id, *value);
            }
            Write::Slots { offset, ids } => {
                for service in self.services.values() {
                    let apart = offset + ids.len() as u32 <= service.slots_offset
                        || service.slots_offset + service.slots_len <= *offset;
                    assert!(apart, "slots in use are overwritten");
                }
                self.slots.extend((*offset..).zip(ids.iter().copied()));
            }
            Write::ResetCursor { .. } => {}
            Write::Service { key, value } => {
                self.services.insert(*key, *value);
            }
            Write::RemoveService { key } => {
                self.services.remove(key);
            }
            Write::ServerId { key, backend } => {
                assert!(
                    self.backends.contains_key(backend),
                    "named before it is there"
                );
                self.server_ids.insert(*key, *backend);
            }
            Write::RemoveServerId { key } => {
                self.server_ids.remove(key);
            }
        }
        self.check();
        Ok(())
    }
}

impl FakeTables {
    /// What a packet may rely on at any instant.
    pub(super) fn check(&self) {
        assert!(self.services.len() <= CAPACITY.services as usize);
        for (key, service) in &self.services {
            self.assert_filtered(FilterRole::Service, key);
            for index in service.slots_offset..service.slots_offset + service.slots_len {
                let backend = &self.backends[&self.slots[&index]];
                assert_ne!(backend.flags & backend_flags::USED, 0);
                assert_eq!(backend.flags & backend_flags::DOWN, 0, "down, with slots");
                assert_ne!(backend.next_hop, 0, "slots lead nowhere");
                assert_eq!(backend.service_address, key.address);
            }
        }
        for backend in self.backends.values() {
            assert!(backend.next_hop == 0 || self.next_hops.contains_key(&backend.next_hop));
            if backend.flags & backend_flags::USED != 0 {
                let key = EndpointKey::new(backend.address, backend.port, backend.protocol);
                self.assert_filtered(FilterRole::Backend, &key);
            }
        }
    }

    pub(super) fn assert_filtered(&self, role: FilterRole, key: &EndpointKey) {
        let EndpointKey {
            address,
            port,
            protocol,
            ..
        } = *key;
        let Settings {
            hash_seed,
            filter_mask,
            ..
        } = SETTINGS;
        let bit = Bit::of(hash_seed, filter_mask, role, address, port, protocol);
        let word = self.filter.get(&bit.word).copied().unwrap_or(0);
        assert_ne!(word & bit.mask, 0, "{role:?} {key:?} has no filter bit");
    }

    /// Names of backends by their last octet, in the order of service.
    pub(super) fn order(&self, service: &model::Service) -> Vec<u8> {
        let value = self.services[&service_key(service)];
        (value.slots_offset..value.slots_offset + value.slots_len)
            .map(|index| self.backends[&self.slots[&index]].address.octets()[15])
            .collect()
    }
}

pub(super) fn held() -> Held {
    held_of(CAPACITY)
}

pub(super) fn held_of(capacity: Capacity) -> Held {
    Held::new(
        SETTINGS,
        capacity,
        vec![0; FILTER_WORDS as usize],
        Vec::new(),
        HashSet::new(),
        HashMap::new(),
        &HashMap::new(),
    )
}

pub(super) fn backend(octet: u8, weight: u16, role: Role) -> model::Backend {
    model::Backend {
        name: format!("b{octet}"),
        address: [10, 0, 0, octet].into(),
        port: 8080,
        weight,
        role,
        server_id: None,
    }
}

pub(in crate::agent) fn service(octet: u8, backends: Vec<model::Backend>) -> model::Service {
    model::Service {
        name: format!("s{octet}"),
        address: [203, 0, 113, octet].into(),
        port: 80,
        protocol: Protocol::Tcp,
        scheduler: Scheduler::RoundRobin,
        forwarding: Forwarding::Nat,
        affinity: Duration::ZERO,
        source_addresses: Vec::new(),
        tunnel_source: None,
        maglev_table_size: 251,
        one_packet: false,
        syn_cookies: 0,
        announce: Announce::No,
        quic_server_id: false,
        mss_clamp: model::Mss::Off,
        slow_start: Duration::ZERO,
        min_up_percent: 0,
        discovery: None,
        firewall: model::firewall::Access::default(),
        idle_timeout: Duration::from_secs(900),
        on_backend_down: OnBackendDown::Reschedule,
        on_no_backend: OnNoBackend::Reset,
        health_check: HealthCheck {
            kind: CheckKind::None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            port: None,
            via: Via::Direct,
            agent_port: None,
        },
        passive: None,
        backends,
    }
}

pub(in crate::agent) fn actives(octets: &[u8]) -> Vec<model::Backend> {
    octets
        .iter()
        .map(|octet| backend(*octet, 1, Role::Active))
        .collect()
}

pub(super) fn way(octet: u8) -> Way {
    Way::Known(NextHop {
        ifindex: 1,
        mtu: 1500,
        destination: [octet; 6],
        ..NextHop::default()
    })
}

/// The config, all healthy and reachable but for what is said.
pub(super) fn want(
    services: &[model::Service],
    healths: &[(u8, Health)],
    other_ways: &[(u8, Way)],
) -> Desired {
    let octet = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(_) => 0,
    };
    let facts: Vec<Vec<Facts>> = services
        .iter()
        .map(|service| {
            let health = |backend: &model::Backend| {
                let known = healths.iter().find(|(of, _)| *of == octet(backend.address));
                known.map_or(Health::Up, |(_, health)| *health)
            };
            let facts = |backend| Facts {
                state: State::Ready,
                health: health(backend),
                was_in_rotation: false,
                step: crate::agent::slow_start::STEPS,
                weight_percent: 100,
            };
            service.backends.iter().map(facts).collect()
        })
        .collect();
    let ways = services
        .iter()
        .flat_map(|service| &service.backends)
        .map(|backend| {
            let other = other_ways
                .iter()
                .find(|(of, _)| *of == octet(backend.address));
            let way = other.map_or_else(|| way(octet(backend.address)), |(_, way)| *way);
            (backend.address, way)
        })
        .collect();
    desired(services, &facts, &ways, u32::MAX, &mut Orders::default())
}

pub(super) fn reconcile(held: &mut Held, tables: &mut FakeTables, wanted: &Desired, now: Instant) {
    let mut now = now;
    // What comes too soon after the last change is made up for, each service at its own time.
    for _ in 0..=3 * wanted.services.len() {
        let changes = held.reconcile(wanted, now);
        assert_eq!(changes.lacks.lasting, None);
        apply(tables, &changes.writes).unwrap();
        match changes.lacks.until {
            Some(due) => now = due,
            None => return,
        }
    }
    panic!("something has to wait over and over");
}
