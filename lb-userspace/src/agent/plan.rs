//! What the tables should hold: a pure function of the config, the healths and the next hops.

use std::{collections::HashMap, net::IpAddr};

use lb_common::{
    abi::{self, EndpointKey, Ticks, backend_flags, network_port},
    address::Address,
    slots::smooth_weighted,
};

use crate::{
    config::model::{self, Role},
    health::Health,
};

/// What is known of the way to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// Not known yet; what the tables hold stays.
    #[default]
    Open,
    /// There is none.
    None,
    /// This.
    Known(abi::NextHop),
}

/// What the config does not say of a backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// By its checks.
    pub(super) health: Health,
    /// Whether the tables that were taken over had it in rotation.
    pub(super) was_in_rotation: bool,
}

/// What the tables should hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Desired {
    pub(super) services: Vec<DesiredService>,
    /// Ways to backends, also to such as the config does not name any more.
    pub(super) ways: HashMap<Address, Way>,
}

/// A service as it should be.
#[derive(Clone, Debug)]
pub(super) struct DesiredService {
    pub(super) key: EndpointKey,
    pub(super) on_no_backend: u8,
    /// In the order of the config.
    pub(super) backends: Vec<DesiredBackend>,
    /// Indices into `backends`, in the order of service.
    pub(super) slots: Vec<usize>,
}

/// A backend as it should be; the ids in `value` are still 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct DesiredBackend {
    pub(super) value: abi::Backend,
    pub(super) in_rotation: bool,
}

/// What the tables should hold. `facts` are by service and backend, in the order of the config.
pub(super) fn desired(
    services: &[model::Service],
    facts: &[Vec<Facts>],
    ways: &HashMap<IpAddr, Way>,
) -> Desired {
    Desired {
        services: services
            .iter()
            .zip(facts)
            .map(|(service, facts)| desired_service(service, facts, ways))
            .collect(),
        ways: ways
            .iter()
            .map(|(address, way)| (Address::from(*address), *way))
            .collect(),
    }
}

/// The key of a service.
pub(super) fn service_key(service: &model::Service) -> EndpointKey {
    EndpointKey::new(
        service.address.into(),
        network_port(service.port),
        service.protocol as u8,
    )
}

fn desired_service(
    service: &model::Service,
    facts: &[Facts],
    ways: &HashMap<IpAddr, Way>,
) -> DesiredService {
    let eligible: Vec<bool> = service
        .backends
        .iter()
        .zip(facts)
        .map(|(backend, facts)| {
            let way = ways.get(&backend.address).copied().unwrap_or_default();
            is_eligible(backend, *facts, way)
        })
        .collect();
    let is_role_eligible = |role: Role| {
        service
            .backends
            .iter()
            .zip(&eligible)
            .any(|(backend, fit)| *fit && backend.role == role)
    };
    let role = if is_role_eligible(Role::Active) {
        Role::Active
    } else {
        Role::Backup
    };
    let in_rotation: Vec<bool> = service
        .backends
        .iter()
        .zip(&eligible)
        .map(|(backend, fit)| *fit && backend.role == role)
        .collect();
    let weights: Vec<u16> = service
        .backends
        .iter()
        .zip(&in_rotation)
        .map(|(backend, is_in)| if *is_in { backend.weight } else { 0 })
        .collect();
    DesiredService {
        key: service_key(service),
        on_no_backend: service.on_no_backend as u8,
        backends: service
            .backends
            .iter()
            .zip(facts)
            .zip(in_rotation)
            .map(|((backend, facts), in_rotation)| DesiredBackend {
                value: backend_value(service, backend, facts.health),
                in_rotation,
            })
            .collect(),
        slots: smooth_weighted(&weights),
    }
}

fn is_eligible(backend: &model::Backend, facts: Facts, way: Way) -> bool {
    let is_healthy = match facts.health {
        Health::Up => true,
        Health::Down => false,
        Health::Checking => facts.was_in_rotation,
    };
    let is_reachable = match way {
        Way::Known(_) => true,
        Way::None => false,
        Way::Open => facts.was_in_rotation,
    };
    backend.weight > 0 && is_healthy && is_reachable
}

fn backend_value(
    service: &model::Service,
    backend: &model::Backend,
    health: Health,
) -> abi::Backend {
    let down = if health == Health::Down {
        backend_flags::DOWN
    } else {
        0
    };
    let idle_seconds = u32::try_from(service.idle_timeout.as_secs()).unwrap_or(u32::MAX);
    abi::Backend {
        address: backend.address.into(),
        port: network_port(backend.port),
        protocol: service.protocol as u8,
        forwarding: service.forwarding as u8,
        flags: backend_flags::USED | down,
        idle_timeout: Ticks::from_seconds(idle_seconds).0,
        on_backend_down: service.on_backend_down as u8,
        service_address: service.address.into(),
        service_port: network_port(service.port),
        ..abi::Backend::default()
    }
}
