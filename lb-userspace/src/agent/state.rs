//! What is known beside the config, and how it begins and reads.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use lb_common::{
    abi::{self, EndpointKey, backend_flags, network_port},
    address::Address,
};

use super::{
    held::Held,
    overrides,
    plan::{self, Facts, Way},
    slow_start,
    state_file::Overrides,
};
use crate::{
    config::model::{self, CheckKind, Via},
    control::State,
    health::{AgentWord, BackendKey, Health, Witness},
    next_hop::NextHop,
};

/// What is known of a backend beside its config.
#[derive(Clone, Debug)]
pub(super) struct BackendState {
    pub(super) key: BackendKey,
    /// What was set at run time.
    pub(super) state: State,
    pub(super) health: Health,
    pub(super) since: Instant,
    pub(super) last_check: String,
    /// When the certificate that it showed last ends.
    pub(super) certificate_ends: Option<SystemTime>,
    /// How many seconds its replication was behind at its last check.
    pub(super) lag: Option<f64>,
    /// What its own agent asked for.
    pub(super) agent: Option<AgentWord>,
    pub(super) is_in_rotation: bool,
    /// Nothing has been heard of it, and the tables that were taken over say what to think.
    pub(super) is_inherited: bool,
    pub(super) was_in_rotation: bool,
    /// It comes back from maintenance, and is as one that was down.
    pub(super) is_returning: bool,
    /// When it came up after it had been down.
    pub(super) came_up: Option<Instant>,
    /// What clients' connections say of it.
    pub(super) witness: Witness,
}

/// What is known of a service beside its config.
#[derive(Debug)]
pub(super) struct ServiceState {
    pub(super) key: EndpointKey,
    /// In the order of the config.
    pub(super) backends: Vec<BackendState>,
    /// Whether it is known, and was told, that no backend is in rotation.
    pub(super) is_empty_told: bool,
    /// Whether it was told that backends that are down are used.
    pub(super) is_panic_told: bool,
}

/// A change of ways that is to be logged.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WayNews {
    Lost(String),
    Found(String),
}

impl BackendState {
    /// Takes in what its own agent says, if it has one, and says whether that is news.
    pub(super) fn hear(&mut self, word: Option<AgentWord>, has_agent: bool) -> bool {
        // Until it is heard, what it said before counts.
        let now = if has_agent { word.or(self.agent) } else { None };
        let before = std::mem::replace(&mut self.agent, now).unwrap_or_default();
        let now = now.unwrap_or_default();
        if before == now {
            return false;
        }
        tracing::info!("the agent of backend {} says: {now}", self.key);
        true
    }

    pub(super) fn facts(&self, slow_start: Duration, now: Instant) -> Facts {
        let step = match self.came_up {
            Some(then) => slow_start::step(now.saturating_duration_since(then), slow_start),
            None => slow_start::STEPS,
        };
        let agent = self.agent.unwrap_or_default();
        Facts {
            state: self.state.stricter(agent.state),
            health: self.health,
            was_in_rotation: self.was_in_rotation,
            step,
            weight_percent: agent.weight_percent,
        }
    }
}

/// What the tables say of a service's backends until there is something newer.
pub(super) fn inherit(
    service: &model::Service,
    held: &Held,
    overrides: &Overrides,
) -> ServiceState {
    let key = plan::service_key(service);
    let name: Arc<str> = service.name.as_str().into();
    let now = Instant::now();
    // Nobody else took one down, and nobody else would bring it back.
    let is_only_passive = service.passive.is_some() && service.health_check.kind == CheckKind::None;
    let backends = service
        .backends
        .iter()
        .map(|backend| {
            let endpoint = (backend.address.into(), network_port(backend.port));
            let entry = held.backend(&key, endpoint);
            let was_in_rotation = held.is_in_rotation(&key, endpoint);
            let was_down = entry.is_some_and(|(_, value)| value.flags & backend_flags::DOWN != 0);
            let health = match (was_in_rotation, was_down) {
                (_, true) => Health::Down,
                (true, false) => Health::Up,
                (false, false) => Health::Checking,
            };
            BackendState {
                key: BackendKey {
                    service: Arc::clone(&name),
                    backend: backend.name.as_str().into(),
                },
                state: overrides::state(overrides, &service.name, &backend.name),
                health,
                since: now,
                last_check: String::new(),
                certificate_ends: None,
                lag: None,
                agent: None,
                is_in_rotation: was_in_rotation,
                is_inherited: health != Health::Checking,
                was_in_rotation,
                is_returning: false,
                came_up: None,
                witness: if health == Health::Down && is_only_passive {
                    Witness::of_one_down(now)
                } else {
                    Witness::default()
                },
            }
        })
        .collect();
    ServiceState {
        key,
        backends,
        is_empty_told: false,
        is_panic_told: false,
    }
}

/// Service and backend, as tables name them.
type FormerKey = (EndpointKey, (Address, u16));

/// What is known of backends from tables that are replaced.
pub(super) fn former<'a>(
    backends: impl Iterator<Item = &'a abi::Backend>,
) -> HashMap<FormerKey, abi::Backend> {
    let key = |value: &abi::Backend| {
        let service = EndpointKey::new(value.service_address, value.service_port, value.protocol);
        (service, (value.address, value.port))
    };
    backends.map(|value| (key(value), *value)).collect()
}

/// What tables that are replaced say of backends whose first check has to wait for the new ones: those
/// that served go on until then.
pub(super) fn inherit_former(
    service: &model::Service,
    state: &mut ServiceState,
    former: &HashMap<FormerKey, abi::Backend>,
) {
    if service.health_check.via != Via::Service {
        return;
    }
    for (backend, state_of) in service.backends.iter().zip(&mut state.backends) {
        let endpoint = (backend.address.into(), network_port(backend.port));
        let Some(value) = former.get(&(state.key, endpoint)) else {
            continue;
        };
        state_of.health = match (value.flags & backend_flags::DOWN, value.next_hop) {
            (0, 0) => continue,
            (0, _) => Health::Up,
            (_, _) => Health::Down,
        };
        state_of.is_inherited = true;
        state_of.was_in_rotation = state_of.health == Health::Up;
    }
}

/// What a next hop means for the tables.
pub(super) fn way(next_hop: &NextHop) -> Way {
    match next_hop {
        NextHop::Unresolved { .. } => Way::None,
        NextHop::Local => Way::Known(abi::NextHop {
            ifindex: 0,
            mtu: u32::from(u16::MAX),
            ..abi::NextHop::default()
        }),
        NextHop::Resolved(hop) => Way::Known(abi::NextHop {
            ifindex: hop.ifindex,
            mtu: hop.mtu,
            destination: hop.destination,
            source: hop.source,
            vlan: hop.vlan,
            outer_vlan: hop.outer_vlan,
        }),
    }
}

/// What to say of a next hop.
pub(super) fn way_news(next_hop: &NextHop) -> WayNews {
    match next_hop {
        NextHop::Unresolved { reason } => WayNews::Lost(reason.clone()),
        NextHop::Resolved(_) | NextHop::Local => WayNews::Found(describe(next_hop)),
    }
}

/// A next hop in words.
pub(super) fn describe(next_hop: &NextHop) -> String {
    match next_hop {
        NextHop::Unresolved { reason } => format!("unresolved: {reason}"),
        NextHop::Local => "this host".to_owned(),
        NextHop::Resolved(hop) => {
            let [a, b, c, d, e, f] = hop.destination;
            let vlan = match (hop.vlan, hop.outer_vlan) {
                (0, _) => String::new(),
                (vlan, 0) => format!(", VLAN {vlan}"),
                (vlan, outer) => format!(", VLAN {vlan} in {outer}"),
            };
            format!(
                "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} on {}{vlan}",
                hop.interface
            )
        }
    }
}
