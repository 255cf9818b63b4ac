//! The way of checks through services: which port asks which backend.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lb_common::abi::{Check, Forwarding, features};

use super::{Agent, core::Core};
use crate::{
    check_lane::{self, Pair, SOCKETS_END, STEERING_END},
    config::model::{Model, Service, Via},
    dataplane::{self, CheckTable},
    health::{self, BackendKey, Busy, Monitor},
    next_hop::Link,
};

/// How long a port is kept for the last packet of its connection, a reset, which waits its turn.
const REST: Duration = Duration::from_millis(100);

/// Whether checks of a config go through services.
pub(super) fn is_wanted(model: &Model) -> bool {
    wanted(model).next().is_some()
}

/// Whether some of these are services of IPv6.
pub(super) fn wants_v6(model: &Model) -> bool {
    wanted(model).any(|service| service.address.is_ipv6())
}

fn wanted(model: &Model) -> impl Iterator<Item = &Service> {
    let services = model.services.iter();
    services.filter(|service| service.health_check.via == Via::Service)
}

/// See the module.
pub(super) struct Lane {
    table: Mutex<CheckTable>,
    /// Where checks' packets come in.
    ifindex: u32,
    state: Mutex<State>,
    is_doubted: AtomicBool,
}

/// What matters of the services of a config.
#[derive(Default)]
pub(super) struct Services {
    vips: HashSet<IpAddr>,
    /// Names of those whose backends have the address themselves.
    direct: HashSet<String>,
}

impl Services {
    fn of(model: &Model) -> Self {
        let is_direct = |service: &&Service| match service.forwarding {
            Forwarding::Nat | Forwarding::FullNat => false,
            Forwarding::DsrL2 | Forwarding::DsrIpip | Forwarding::DsrGue => true,
        };
        Self {
            vips: model.services.iter().map(|one| one.address).collect(),
            direct: wanted(model)
                .filter(is_direct)
                .map(|service| service.name.clone())
                .collect(),
        }
    }
}

/// What is known of a backend that is checked.
pub(super) enum Passage {
    /// The data path knows it by this id, and the way to it.
    To(u32),
    /// There is no way, for that reason.
    None(String),
}

#[derive(Default)]
struct State {
    backends: HashMap<BackendKey, Passage>,
    services: Services,
    ports: HashSet<u16>,
    /// Ports whose check is over, with when.
    resting: VecDeque<(Instant, u16)>,
}

impl Lane {
    /// Of the interface that steering is attached to.
    pub(super) fn open(table: CheckTable, ifindex: u32) -> Result<Self, dataplane::Error> {
        let lane = Self {
            table: Mutex::new(table.clone()),
            ifindex,
            state: Mutex::default(),
            is_doubted: AtomicBool::new(false),
        };
        // In another network namespace, interfaces may have the numbers that those had.
        table.clear_all()?;
        lane.follow(table)?;
        Ok(lane)
    }

    /// Writes to other tables from now on, of a program that took the former one's place.
    pub(super) fn follow(&self, table: CheckTable) -> Result<(), dataplane::Error> {
        let entrance = Check {
            interface: self.ifindex,
            ..Check::default()
        };
        table.set(0, entrance)?;
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }

    /// Where checks' packets come in.
    pub(super) const fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The services that backends are checked through, and others.
    fn set_services(&self, model: &Model) {
        self.lock().services = Services::of(model);
    }

    /// Whether a check found no way by it.
    pub(super) fn is_doubted(&self) -> bool {
        self.is_doubted.load(Ordering::Relaxed)
    }

    /// What is known of the backends that are checked; not of those whose way is still open.
    pub(super) fn set_backends(&self, backends: HashMap<BackendKey, Passage>) {
        self.lock().backends = backends;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, port: u16, check: Check) -> Result<(), dataplane::Error> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.set(port, check)
    }

    /// Frees ports that have rested.
    fn wake(&self, state: &mut State) {
        while let Some((since, port)) = state.resting.front().copied()
            && since.elapsed() >= REST
        {
            state.resting.pop_front();
            self.free(state, port);
        }
    }

    fn free(&self, state: &mut State, port: u16) {
        // One that stays would only have packets of nobody go astray.
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match table.clear(port, self.ifindex) {
            Ok(()) => {
                state.ports.remove(&port);
            }
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

impl Agent {
    /// Makes the pair of interfaces that checks through services take, if there are any, and removes
    /// what a dead agent left.
    pub(super) async fn make_pair(&mut self) -> Result<(), check_lane::Error> {
        let (pin_path, is_wanted, has_v6) = {
            let core = self.lock();
            let model = &core.model;
            let pin_path = model.agent.pin_path.clone();
            (pin_path, is_wanted(model), wants_v6(model))
        };
        if is_wanted {
            self.pair = Some(Pair::create(&pin_path, has_v6).await?);
        } else if let Err(error) = check_lane::remove(&pin_path).await {
            // It is nobody's that is needed here.
            tracing::debug!("{error}");
        }
        Ok(())
    }

    /// The same before a reload. What is there stays: a config that is refused changes nothing.
    pub(super) async fn prepare_lane(&mut self, model: &Model) -> Result<(), check_lane::Error> {
        if !is_wanted(model) {
            return Ok(());
        }
        if let Some(pair) = &self.pair
            && pair.damage().await?.is_some()
        {
            self.pair = None;
            self.lose_lane();
        }
        match &mut self.pair {
            Some(pair) if wants_v6(model) => pair.need_v6().await,
            Some(_) => Ok(()),
            None => {
                let pair = Pair::create(&model.agent.pin_path, wants_v6(model)).await?;
                self.pair = Some(pair);
                Ok(())
            }
        }
    }

    /// Removes the pair of interfaces, unless the config that holds needs it.
    pub(super) async fn drop_pair(&mut self) {
        if is_wanted(&self.lock().model) {
            return;
        }
        if let Some(pair) = self.pair.take()
            && let Err(error) = pair.remove().await
        {
            tracing::error!("{error}");
        }
    }
}

impl Core {
    /// Gives checks through services their way, or takes it from them, as the config wants it. Their
    /// backends are known from the next reconciliation on.
    pub(super) fn open_lane(
        &mut self,
        links: &[Link],
        monitor: &Monitor,
    ) -> Result<(), dataplane::Error> {
        let end = links.iter().find(|link| link.name == STEERING_END);
        let (Some(dataplane), Some(end), true) = (&self.dataplane, end, is_wanted(&self.model))
        else {
            self.lane = None;
            monitor.set_lane(None);
            return self.close_lane();
        };
        let table = dataplane.tables.checks();
        match &self.lane {
            Some(lane) if lane.ifindex() == end.ifindex => {
                lane.follow(table)?;
                lane.set_services(&self.model);
            }
            _ => {
                let lane = Arc::new(Lane::open(table, end.ifindex)?);
                lane.set_services(&self.model);
                self.lane = Some(Arc::clone(&lane));
                monitor.set_lane(Some(lane));
            }
        }
        self.steer_checks();
        Ok(())
    }
}

impl Core {
    /// Tells the data path that there are no checks.
    pub(super) fn close_lane(&self) -> Result<(), dataplane::Error> {
        let Some(dataplane) = &self.dataplane else {
            return Ok(());
        };
        if dataplane.tables.settings().features & features::CHECKS == 0 {
            return Ok(());
        }
        dataplane.tables.checks().set(0, Check::default())
    }
}

impl health::Lane for Lane {
    fn interface(&self) -> &'static str {
        SOCKETS_END
    }

    fn begin(&self, backend: &BackendKey, from: SocketAddr) -> Result<(), Busy> {
        let mut state = self.lock();
        self.wake(&mut state);
        let id = match state.backends.get(backend) {
            Some(Passage::To(id)) => *id,
            Some(Passage::None(reason)) => return Err(Busy::NoWay(reason.clone())),
            None => return Err(Busy::NotYet),
        };
        if !state.ports.insert(from.port()) {
            return Err(Busy::Port);
        }
        let check = Check {
            source: from.ip().into(),
            backend: id,
            interface: self.ifindex,
        };
        self.write(from.port(), check).map_err(|error| {
            state.ports.remove(&from.port());
            Busy::Because(error.to_string())
        })
    }

    fn has_vip(&self, backend: &BackendKey) -> bool {
        self.lock().services.direct.contains(&*backend.service)
    }

    fn is_vip(&self, address: IpAddr) -> bool {
        self.lock().services.vips.contains(&address)
    }

    fn doubt(&self) {
        self.is_doubted.store(true, Ordering::Relaxed);
    }

    fn end(&self, port: u16) {
        self.lock().resting.push_back((Instant::now(), port));
    }
}
