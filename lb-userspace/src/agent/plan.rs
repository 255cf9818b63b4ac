//! What the tables should hold: a pure function of the config, the healths and the next hops.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lb_common::{
    abi::{self, EndpointKey, Scheduler, Ticks, backend_flags, network_port},
    address::Address,
    slots,
};

use super::{
    forwarding,
    rotation::{self, Candidate, Rotation},
    slow_start,
};
use crate::{
    config::model::{self, Role},
    control::State,
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

impl Way {
    /// Whether it leads nowhere but to this host.
    pub(super) const fn is_local(self) -> bool {
        matches!(self, Self::Known(abi::NextHop { ifindex: 0, .. }))
    }
}

/// Whether a backend would hear nothing on this host, where packets arrive as they came.
pub(super) const fn is_deaf(service: &model::Service, backend: &model::Backend) -> bool {
    backend.port != service.port
}

/// Why a backend that is deaf here is out of rotation.
pub(super) fn deafness(service: &model::Service) -> String {
    format!(
        "on this host, where packets arrive with the service's address and port; let it listen on \
         {}",
        SocketAddr::new(service.address, service.port)
    )
}

/// What the config does not say of a backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// What was set at run time, or what its own agent asks for.
    pub(super) state: State,
    /// By its checks.
    pub(super) health: Health,
    /// Whether the tables that were taken over had it in rotation.
    pub(super) was_in_rotation: bool,
    /// How far its share has grown, see [`slow_start`].
    pub(super) step: u16,
    /// The part of its weight that its own agent asks for.
    pub(super) weight_percent: u8,
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
    /// What its entry says, but for ids and slots.
    pub(super) value: abi::Service,
    /// What QUIC connection ids say, by backend.
    pub(super) server_ids: Vec<Option<[u64; 2]>>,
    /// In the order of the config; ids in them are still 0.
    pub(super) backends: Vec<abi::Backend>,
    /// Indices into `backends`, in the order of service.
    pub(super) slots: Vec<usize>,
    /// Slots at most, whichever backends are up.
    pub(super) most_slots: usize,
    /// How many backends are up, of how many that could be used, where those that are down are
    /// used as well because that is too few.
    pub(super) panic: Option<(usize, usize)>,
    /// Whether more is about to be known of a backend that could be used.
    pub(super) is_awaited: bool,
}

/// The latest order of each service: making one from thousands of weights takes a while.
#[derive(Debug, Default)]
pub(super) struct Orders(HashMap<EndpointKey, (Vec<u16>, Vec<usize>)>);

impl Orders {
    fn of(
        &mut self,
        key: EndpointKey,
        weights: Vec<u16>,
        make: impl FnOnce(&[u16]) -> Vec<usize>,
    ) -> Vec<usize> {
        let (known, order) = self.0.entry(key).or_default();
        if *known != weights {
            *order = make(&weights);
            *known = weights;
        }
        order.clone()
    }
}

/// What the tables should hold. `facts` are by service and backend, in the order of the config;
/// `client_mtu` is the largest packet that fits towards any client.
pub(super) fn desired(
    services: &[model::Service],
    facts: &[Vec<Facts>],
    ways: &HashMap<IpAddr, Way>,
    client_mtu: u32,
    orders: &mut Orders,
) -> Desired {
    let sources = forwarding::source_addresses(services);
    Desired {
        services: services
            .iter()
            .zip(facts)
            .map(|(service, facts)| {
                desired_service(service, facts, (ways, client_mtu), orders, &sources)
            })
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
    (ways, client_mtu): (&HashMap<IpAddr, Way>, u32),
    orders: &mut Orders,
    sources: &[IpAddr],
) -> DesiredService {
    let candidates: Vec<Candidate> = service
        .backends
        .iter()
        .zip(facts)
        .map(|(backend, facts)| {
            let way = ways.get(&backend.address).copied().unwrap_or_default();
            let is_deaf = way.is_local() && is_deaf(service, backend);
            Candidate {
                role: backend.role,
                is_usable: !is_deaf && is_usable(backend, *facts, way),
                is_up: is_up(*facts),
            }
        })
        .collect();
    let Rotation { in_rotation, panic } = rotation::of(&candidates, service.min_up_percent);
    let weights: Vec<u16> = service
        .backends
        .iter()
        .zip(&in_rotation)
        .map(|(backend, is_in)| if *is_in { backend.weight } else { 0 })
        .collect();
    let steps: Vec<u16> = facts.iter().map(|facts| facts.step).collect();
    let parts: Vec<u16> = facts
        .iter()
        .map(|facts| tenths(facts.weight_percent))
        .collect();
    let weights = slow_start::ramped(&slow_start::ramped(&weights, &parts), &steps);
    let key = service_key(service);
    let has_local = service.backends.iter().any(|backend| {
        let way = ways.get(&backend.address).copied().unwrap_or_default();
        way.is_local() && !is_deaf(service, backend)
    });
    DesiredService {
        key,
        value: abi::Service {
            // A backend on this host answers clients itself, with numbers that nobody could shift.
            syn_cookies: if has_local { 0 } else { service.syn_cookies },
            ..forwarding::service_value(service)
        },
        server_ids: service
            .backends
            .iter()
            .map(|backend| forwarding::server_id(service, backend))
            .collect(),
        backends: service
            .backends
            .iter()
            .zip(facts)
            .zip(in_rotation.iter().zip(&weights))
            .map(|((backend, facts), (is_in, weight))| {
                let way = ways.get(&backend.address).copied().unwrap_or_default();
                let is_down =
                    !is_in && (facts.health == Health::Down || facts.state == State::Maint);
                let mut value = backend_value(service, backend, is_down);
                value.weight = (*weight).max(1);
                forwarding::complete(&mut value, service, backend, (way, client_mtu), sources);
                value
            })
            .collect(),
        slots: orders.of(key, weights, |weights| forwarding::slots(service, weights)),
        most_slots: most_slots(service),
        panic,
        is_awaited: service
            .backends
            .iter()
            .zip(facts)
            .any(|(backend, facts)| is_awaited(backend, *facts, ways.get(&backend.address))),
    }
}

fn most_slots(service: &model::Service) -> usize {
    if service.scheduler != Scheduler::RoundRobin {
        return forwarding::most_slots(service);
    }
    let scale = forwarding::most_scale(service);
    let most = [Role::Active, Role::Backup]
        .map(|role| {
            let of_role = service
                .backends
                .iter()
                .filter(|backend| backend.role == role);
            slots::length(&of_role.map(|backend| backend.weight).collect::<Vec<_>>())
        })
        .into_iter()
        .max();
    most.unwrap_or_default() * scale
}

/// A part of a weight in steps, as a share that grows has them.
fn tenths(percent: u8) -> u16 {
    (u16::from(percent) * slow_start::STEPS).div_ceil(100)
}

fn is_up(facts: Facts) -> bool {
    match facts.health {
        Health::Up => true,
        Health::Down => false,
        Health::Checking => facts.was_in_rotation,
    }
}

/// Whether it may get new connections as soon as its way and its first check are known.
fn is_awaited(backend: &model::Backend, facts: Facts, way: Option<&Way>) -> bool {
    let is_way_open = matches!(way, None | Some(Way::Open));
    let is_health_open = facts.health == Health::Checking;
    let is_out = matches!(way, Some(Way::None)) || facts.health == Health::Down;
    backend.weight > 0
        && facts.weight_percent > 0
        && facts.state == State::Ready
        && !is_out
        && (is_way_open || is_health_open)
}

/// Whether it could get new connections if it were up.
fn is_usable(backend: &model::Backend, facts: Facts, way: Way) -> bool {
    let is_reachable = match way {
        Way::Known(_) => true,
        Way::None => false,
        Way::Open => facts.was_in_rotation,
    };
    backend.weight > 0 && facts.weight_percent > 0 && facts.state == State::Ready && is_reachable
}

fn backend_value(
    service: &model::Service,
    backend: &model::Backend,
    is_down: bool,
) -> abi::Backend {
    let down = if is_down { backend_flags::DOWN } else { 0 };
    abi::Backend {
        address: backend.address.into(),
        port: network_port(backend.port),
        protocol: service.protocol as u8,
        forwarding: service.forwarding as u8,
        flags: backend_flags::USED | down,
        idle_timeout: ticks(service.idle_timeout).0,
        on_backend_down: service.on_backend_down as u8,
        service_address: service.address.into(),
        service_port: network_port(service.port),
        ..abi::Backend::default()
    }
}

/// A span, rounded up.
pub(super) fn ticks(span: Duration) -> Ticks {
    let ticks = span.as_nanos().div_ceil(1 << Ticks::SHIFT);
    Ticks(u32::try_from(ticks).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_never_cut_short() {
        assert_eq!(ticks(Duration::from_secs(900)), Ticks::from_seconds(900));
        for millis in [1, 268, 269, 1000, 1900, 2000, 86_400_000] {
            let span = Duration::from_millis(millis);
            let exact = span.as_secs_f64() / 0.268_435_456;
            let rounded = f64::from(ticks(span).0);
            assert!(rounded >= exact && rounded < exact + 1.0, "{span:?}");
        }
    }

    #[test]
    fn an_order_is_made_once_and_follows_its_weights() {
        let mut orders = Orders::default();
        let [one, other] = [80, 81].map(|port| EndpointKey::new(Address::default(), port, 6));
        for _ in 0..2 {
            assert_eq!(
                orders.of(one, vec![2, 1], slots::smooth_weighted),
                [0, 1, 0]
            );
            assert_eq!(orders.of(other, vec![1, 1], slots::smooth_weighted), [0, 1]);
        }
        let made = orders.of(one, vec![2, 1], |_| unreachable!("it is known"));
        assert_eq!(made, [0, 1, 0]);
        assert_eq!(orders.of(one, vec![0, 1], slots::smooth_weighted), [1]);
        assert_eq!(orders.of(one, vec![], slots::smooth_weighted), [0; 0]);
    }
}
