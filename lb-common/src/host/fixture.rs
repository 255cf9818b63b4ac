//! Fills tables the way the agent does, for tests and benchmarks.

use std::net::SocketAddr;

use super::HostTables;
use crate::{
    abi::{
        Backend, EndpointKey, Forwarding, Interface, NextHop, OnBackendDown, OnNoBackend, Protocol,
        Service, Settings, Ticks, backend_flags, features, network_port,
    },
    filter::{Role, words_for},
    flow::{established_buckets, half_open_buckets},
    headers::Mac,
};

/// Interface that fixtures' packets come in by: the loopback interface, which the kernel's test
/// run names as ingress too.
pub const INGRESS: u32 = 1;
/// MAC of the client, or of the router to it.
pub const MAC_CLIENT: Mac = [2, 0, 0, 0, 0, 0xc1];
/// MAC of the balancer.
pub const MAC_BALANCER: Mac = [2, 0, 0, 0, 0, 0x1b];
/// MAC of the first backend; the others count up in the byte before the last.
pub const MAC_BACKEND: Mac = [2, 0, 0, 0, 0, 0xb0];

/// Builds tables.
#[derive(Debug)]
pub struct Fixture {
    /// The tables so far.
    pub tables: HostTables,
    services: u32,
}

impl Default for Fixture {
    fn default() -> Self {
        Self::with_limits(1024, 256)
    }
}

impl Fixture {
    /// Empty tables for so many established and half-open flows.
    #[must_use]
    pub fn with_limits(flows: u32, half_open_flows: u32) -> Self {
        let settings = Settings {
            hash_seed: 0x5eed_5eed_5eed_5eed,
            established_mask: established_buckets(flows) - 1,
            half_open_mask: half_open_buckets(half_open_flows) - 1,
            filter_mask: words_for(1024) - 1,
            errors_per_tick: u32::MAX,
            features: features::ALL,
            reserved: 0,
        };
        let mut tables = HostTables::new(settings);
        tables.interfaces.insert(
            INGRESS,
            Interface {
                mac: MAC_BALANCER,
                reserved: [0; 2],
                mtu: 1500,
            },
        );
        Self {
            tables,
            services: 0,
        }
    }

    /// Adds a service whose backends are one hop away on the interface of ingress. Returns the
    /// ids of the backends.
    pub fn service(
        &mut self,
        address: SocketAddr,
        protocol: Protocol,
        forwarding: Forwarding,
        backends: &[SocketAddr],
    ) -> Vec<u32> {
        let id = self.services;
        self.services += 1;
        let key = EndpointKey::new(
            address.ip().into(),
            network_port(address.port()),
            protocol as u8,
        );
        let slots_offset = self.tables.slots.len() as u32;
        let mut ids = Vec::new();
        for backend in backends {
            let hop = self.tables.next_hops.len() as u32;
            let mut destination = MAC_BACKEND;
            destination[4] = hop as u8;
            self.tables.next_hops.push(NextHop {
                ifindex: INGRESS,
                mtu: 1500,
                destination,
                source: MAC_BALANCER,
                vlan: 0,
                outer_vlan: 0,
            });
            let id_of_backend = self.tables.backends.len() as u32;
            self.tables.backends.push(Backend {
                address: backend.ip().into(),
                port: network_port(backend.port()),
                protocol: protocol as u8,
                forwarding: forwarding as u8,
                service: id,
                next_hop: hop,
                flags: backend_flags::USED,
                idle_timeout: Ticks::from_seconds(900).0,
                on_backend_down: OnBackendDown::Reschedule as u8,
                weight: 1,
                service_address: key.address,
                service_port: key.port,
                ..Backend::default()
            });
            self.tables.slots.push(id_of_backend);
            ids.push(id_of_backend);
            if Forwarding::sees_replies(forwarding as u8) {
                let endpoint = EndpointKey::new(
                    backend.ip().into(),
                    network_port(backend.port()),
                    protocol as u8,
                );
                self.tables.set_filter(Role::Backend, &endpoint);
            }
        }
        let service = Service {
            id,
            slots_offset,
            slots_len: backends.len() as u32,
            on_no_backend: OnNoBackend::Reset as u8,
            ..Service::default()
        };
        self.tables.services.insert(key, service);
        self.tables
            .services
            .insert(EndpointKey::any_port(key.address), service);
        self.tables.set_filter(Role::Service, &key);
        self.tables
            .set_filter(Role::Service, &EndpointKey::any_port(key.address));
        ids
    }

    /// Sets what new connections get when a service has no backend.
    pub fn on_no_backend(&mut self, policy: OnNoBackend) {
        for service in self.tables.services.values_mut() {
            service.on_no_backend = policy as u8;
        }
    }
}
