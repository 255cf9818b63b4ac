//! Everything the running agent knows, behind one lock: the config, what checks and next hops say,
//! and the data plane. It changes by reports and events, and by reconciling.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::{
    abi::{BackendCounters, EndpointKey, network_port},
    address::Address,
};

use super::{
    allocate::REST,
    announcing::Announcer,
    app_host::AppHost,
    collector::Collected,
    firewall::{Probation, Wall, rules::Rules, services::Scopes, ward::Ward},
    forwarding,
    held::Held,
    kernel,
    lane::{Lane, Passage},
    plan::{self, Desired, Facts, Orders},
    ports,
    reconcile::Changes,
    retired::Retired,
    slow_start,
    state::{self, BackendState, ServiceState, WayNews},
    state_file::Overrides,
};
use crate::{
    cluster::Cluster,
    config::model::{self, Model, Via},
    control::State,
    dataplane::{self, Dataplane, FlowScanner},
    health::{BackendKey, Health},
    metrics::{CheckTimes, ConfigRead, Measures},
    next_hop::NextHop,
};

/// How soon a reconciliation that failed, or found no room, is tried again. Till then all that was
/// given up has rested.
const RETRY: Duration = REST;

/// See the module.
pub(super) struct Core {
    pub(super) model: Model,
    pub(super) config_file: PathBuf,
    pub(super) started: Instant,
    pub(super) services: Vec<ServiceState>,
    /// One more with every reload.
    pub(super) generation: u64,
    /// What was set at run time. The weights in `model` have it already.
    pub(super) overrides: Overrides,
    /// Whether the state file lacks them, because it could not be written.
    pub(super) is_unsaved: bool,
    pub(super) next_hops: HashMap<IpAddr, NextHop>,
    /// The smallest MTU of the interfaces that steering attaches to.
    pub(super) client_mtu: u32,
    pub(super) flows: FlowScanner,
    pub(super) collected: Arc<Collected>,
    /// `None` once the agent has let go of it.
    pub(super) dataplane: Option<Dataplane>,
    /// The same, where this is also a backend's own host.
    pub(super) app_host: Option<AppHost>,
    /// VIPs on `lo`, for a routing daemon.
    pub(super) announcer: Announcer,
    /// Other balancers, while the agent talks to them.
    pub(super) cluster: Option<Cluster>,
    /// The way of checks through services, while there is one.
    pub(super) lane: Option<Arc<Lane>>,
    /// How long checks took.
    pub(super) check_times: CheckTimes,
    /// How the last reading of the config went.
    pub(super) config_read: ConfigRead,
    /// Whether a capturing program is attached.
    pub(super) is_capturing: bool,
    pub(super) held: Held,
    /// After a failed write: when to read anew what the tables hold.
    reread: Option<Instant>,
    /// When the tables can be made what they should be, where they are not yet.
    pub(super) waits_until: Option<Instant>,
    orders: Orders,
    pub(super) index: HashMap<BackendKey, (usize, usize)>,
    foreign_interfaces_told: HashSet<String>,
    shortage_told: Option<&'static str>,
    way_news: BTreeMap<WayNews, Vec<IpAddr>>,
    pub(super) retired: Retired,
    /// What the firewall's tables hold.
    pub(super) wall: Wall,
    /// Whether the program has got other tables than those that are looked after.
    pub(super) is_moved: bool,
    /// What was set of the firewall at run time.
    pub(super) rules: Rules,
    /// Which scopes services' own lists have.
    pub(super) scopes: Scopes,
    /// Whose flows are ended because a service keeps them out.
    pub(super) ward: Ward,
    /// A firewall that waits for its confirmation.
    pub(super) probation: Option<Probation>,
}

impl Core {
    /// Of a data plane that has just been opened. The model has the weights that were set at run time.
    pub(super) fn new(
        config_file: PathBuf,
        (model, overrides): (Model, Overrides),
        mut dataplane: Dataplane,
        app_host: Option<AppHost>,
    ) -> Result<Self, dataplane::Error> {
        let held = kernel::read(&dataplane.tables)?;
        Self::set_sources(&model, &mut dataplane)?;
        let former = state::former(dataplane.former_backends());
        let services: Vec<ServiceState> = model
            .services
            .iter()
            .map(|service| {
                let mut state = state::inherit(service, &held, &overrides);
                state::inherit_former(service, &mut state, &former);
                state
            })
            .collect();
        let index = index(&services);
        let tables = dataplane.tables.settings().hash_seed;
        let retired = Retired::load(&model.agent.state_file, tables);
        let rules = Rules::load(&model.agent.state_file);
        let lists = held
            .services
            .values()
            .map(|held| (held.key, held.value.lists));
        let scopes = Scopes::new(lists).next(&model.services);
        Ok(Self {
            config_file,
            started: Instant::now(),
            services,
            generation: 1,
            overrides,
            is_unsaved: false,
            next_hops: HashMap::new(),
            client_mtu: u32::MAX,
            flows: dataplane.tables.flows(),
            collected: Arc::default(),
            dataplane: Some(dataplane),
            app_host,
            announcer: Announcer::new(&model.agent.pin_path),
            cluster: None,
            lane: None,
            check_times: CheckTimes::default(),
            config_read: ConfigRead::default(),
            is_capturing: false,
            held,
            reread: None,
            waits_until: None,
            orders: Orders::default(),
            index,
            foreign_interfaces_told: HashSet::new(),
            shortage_told: None,
            way_news: BTreeMap::new(),
            retired,
            wall: Wall::default(),
            is_moved: false,
            rules,
            scopes,
            ward: Ward::default(),
            probation: None,
            model,
        })
    }

    /// Tells the data path the source addresses of full NAT.
    pub(super) fn set_sources(
        model: &Model,
        dataplane: &mut Dataplane,
    ) -> Result<(), dataplane::Error> {
        let sources = forwarding::source_addresses(&model.services);
        if sources.is_empty() {
            return Ok(());
        }
        ports::check_sources(&sources);
        let addresses: Vec<Address> = sources.iter().map(|ip| Address::from(*ip)).collect();
        if dataplane.tables.set_sources(&addresses)? {
            tracing::warn!(
                "the source addresses stand in another order than before: connections by full NAT \
                 that used them are lost"
            );
        }
        ports::reserve(&dataplane.tables.ports().0, sources.len() as u32);
        Ok(())
    }

    /// The addresses to know the way to.
    pub(super) fn addresses(&self) -> HashSet<IpAddr> {
        let served = self
            .model
            .services
            .iter()
            .flat_map(|service| &service.backends);
        let held = kernel::addresses(&self.held).map(IpAddr::from);
        served.map(|backend| backend.address).chain(held).collect()
    }

    /// Whether something is known of every backend's health and way.
    pub(super) fn is_complete(&self) -> bool {
        let is_checked = |state: &BackendState| {
            state.is_inherited || state.health != Health::Checking || state.state == State::Maint
        };
        let mut services = self.model.services.iter().zip(&self.services);
        let is_checked = services.all(|(service, state)| {
            !self.can_check(service) || state.backends.iter().all(is_checked)
        });
        is_checked && self.are_ways_known()
    }

    /// Whether it is known of every backend how to reach it, or that it cannot be reached.
    pub(super) fn are_ways_known(&self) -> bool {
        let mut served = self
            .model
            .services
            .iter()
            .flat_map(|service| &service.backends);
        served.all(|backend| self.next_hops.contains_key(&backend.address))
    }

    /// Takes in a next hop. Says whether the backend is on this host now and was not before, or the
    /// other way round, which checks through services have to know.
    pub(super) fn note_next_hop(&mut self, address: IpAddr, next_hop: NextHop) -> bool {
        if let NextHop::Resolved(hop) = &next_hop
            && !self.model.agent.interfaces.contains(&hop.interface)
            && self.foreign_interfaces_told.insert(hop.interface.clone())
        {
            tracing::warn!(
                "backends are reached via {0}, where steering does not attach: with forwarding \
                 \"nat\", replies that come in there are not steered, nor are with any forwarding \
                 replies to checks with via = \"service\", which fail then, and some drivers drop frames \
                 that are redirected to an interface without an XDP program, which lb does not see \
                 and does not count; name {0} in agent.interfaces",
                hop.interface
            );
        }
        if next_hop == NextHop::Local && self.next_hops.get(&address) != Some(&next_hop) {
            self.tell_deaf(address);
        }
        let is_first = !self.next_hops.contains_key(&address);
        if !is_first || matches!(next_hop, NextHop::Unresolved { .. }) {
            self.way_news
                .entry(state::way_news(&next_hop))
                .or_default()
                .push(address);
        }
        let is_here = next_hop == NextHop::Local;
        let before = self.next_hops.insert(address, next_hop);
        is_here != (before == Some(NextHop::Local))
    }

    /// Tells of backends at an address of this host that would hear nothing there.
    fn tell_deaf(&self, address: IpAddr) {
        for service in &self.model.services {
            let here = service.backends.iter().filter(|one| one.address == address);
            for backend in here.filter(|one| plan::is_deaf(service, one)) {
                tracing::warn!(
                    "backend {}/{} is out of rotation: it is {}",
                    service.name,
                    backend.name,
                    plan::deafness(service)
                );
            }
        }
    }

    /// When the share of a backend that came up grows next.
    fn next_step(&self, now: Instant) -> Option<Duration> {
        let services = self.model.services.iter().zip(&self.services);
        services
            .flat_map(|(service, state)| {
                let wait = |backend: &BackendState| {
                    let since = now.saturating_duration_since(backend.came_up?);
                    slow_start::next(since, service.slow_start)
                };
                state.backends.iter().filter_map(wait)
            })
            .min()
    }

    /// Tells of new ways, one line for all that share one.
    fn tell_ways(&mut self) {
        for (news, addresses) in std::mem::take(&mut self.way_news) {
            let whose = match addresses.as_slice() {
                [address] => address.to_string(),
                addresses => format!("{} backend addresses", addresses.len()),
            };
            match news {
                WayNews::Lost(reason) => {
                    tracing::warn!(
                        kind = "way_lost",
                        "out of rotation, because there is no way to {whose}: {reason}"
                    );
                }
                WayNews::Found(way) => {
                    tracing::info!(kind = "way_found", "the way to {whose} is now {way}");
                }
            }
        }
    }

    /// Whether the config fits into the tables.
    pub(super) fn check_room(&mut self) -> Result<(), dataplane::Error> {
        let desired = self.desired();
        self.held.check_room(&desired)
    }

    /// Makes the tables hold what they should for the first time. Returns when to reconcile again,
    /// if that is needed.
    pub(super) fn fill(&mut self) -> Result<Option<Duration>, dataplane::Error> {
        self.try_reconcile()
    }

    /// Makes the tables hold what they should. Returns when to do it again, if that is needed.
    pub(super) fn reconcile(&mut self) -> Option<Duration> {
        self.try_reconcile().unwrap_or_else(|error| {
            tracing::error!("{error}; reading the tables anew and trying again");
            Some(RETRY)
        })
    }

    pub(super) fn desired(&mut self) -> Desired {
        let now = Instant::now();
        let facts: Vec<Vec<Facts>> = self
            .model
            .services
            .iter()
            .zip(&self.services)
            .map(|(service, state)| {
                let facts = |backend: &BackendState| backend.facts(service.slow_start, now);
                state.backends.iter().map(facts).collect()
            })
            .collect();
        let ways = self
            .next_hops
            .iter()
            .map(|(address, next_hop)| (*address, state::way(next_hop)))
            .collect::<HashMap<_, _>>();
        let mut desired = plan::desired(
            &self.model.services,
            &facts,
            &ways,
            self.client_mtu,
            &mut self.orders,
        );
        for service in &mut desired.services {
            service.value.lists = self.scopes.of(&service.key);
        }
        desired
    }

    fn try_reconcile(&mut self) -> Result<Option<Duration>, dataplane::Error> {
        self.tell_ways();
        let desired = self.desired();
        let Some(dataplane) = &mut self.dataplane else {
            return Ok(None);
        };
        let now = Instant::now();
        if let Some(due) = self.reread {
            if now < due {
                return Ok(Some(due - now));
            }
            self.held = kernel::read(&dataplane.tables)?;
            self.reread = None;
        }
        let Changes { writes, lacks } = self.held.reconcile(&desired, now);
        if let Err(error) = kernel::apply(&mut dataplane.tables, &writes) {
            self.reread = Some(now + RETRY);
            return Err(error);
        }
        for (service, state) in self.model.services.iter().zip(&mut self.services) {
            for (backend, state_of) in service.backends.iter().zip(&mut state.backends) {
                let endpoint = (backend.address.into(), network_port(backend.port));
                state_of.is_in_rotation = self.held.is_in_rotation(&state.key, endpoint);
            }
        }
        self.steer_checks();
        self.announce(false);
        self.tell_cluster();
        self.tell_empty_services(&desired);
        if let Some(what) = lacks.lasting
            && self.shortage_told != Some(what)
        {
            tracing::error!(
                "the pinned tables have no room for more {what}; a start with \
                 `lb run --replace-tables` makes them larger"
            );
        }
        self.shortage_told = lacks.lasting;
        self.waits_until = lacks.until;
        let rested = lacks.until.map(|then| then.saturating_duration_since(now));
        let rested = rested.into_iter().chain(self.next_step(now)).min();
        Ok(match lacks.lasting {
            Some(_) => Some(rested.map_or(RETRY, |rested| rested.min(RETRY))),
            None => rested,
        })
    }

    /// Tells checks the ids of their backends.
    pub(super) fn steer_checks(&self) {
        let Some(lane) = &self.lane else { return };
        let services = self.model.services.iter().zip(&self.services);
        let through = services.filter(|(service, _)| service.health_check.via == Via::Service);
        let ids = through.flat_map(|(service, state)| {
            let backends = service.backends.iter().zip(&state.backends);
            backends.filter_map(|(backend, known)| {
                let endpoint = (backend.address.into(), network_port(backend.port));
                let (id, value) = self.held.backend(&state.key, endpoint)?;
                let way = match self.next_hops.get(&backend.address)? {
                    NextHop::Unresolved { reason } => Passage::None(reason.clone()),
                    NextHop::Resolved(_) | NextHop::Local if value.next_hop == 0 => return None,
                    NextHop::Resolved(_) | NextHop::Local => Passage::To(*id),
                };
                Some((known.key.clone(), way))
            })
        });
        lane.set_backends(ids.collect());
    }

    fn tell_empty_services(&mut self, desired: &Desired) {
        let has_lane = self.lane.is_some();
        let services = self.model.services.iter().zip(&mut self.services);
        for ((service, state), desired) in services.zip(&desired.services) {
            if service.health_check.via == Via::Service && !has_lane {
                // Nobody could be asked yet.
                continue;
            }
            // Those that leave may still serve.
            let is_empty = desired.slots.is_empty() && self.held.is_empty(&desired.key);
            // It may have no backend yet that would know it.
            let name = service.name.as_str();
            if is_empty && !state.is_empty_told {
                tracing::warn!(
                    kind = "service_down",
                    service = name,
                    "service {name} has no backend in rotation"
                );
            } else if !is_empty && state.is_empty_told {
                tracing::info!(
                    kind = "service_up",
                    service = name,
                    "service {name} has backends in rotation again"
                );
            }
            state.is_empty_told = is_empty;
            match desired.panic {
                Some((up, usable)) if !state.is_panic_told => tracing::warn!(
                    "service {name}: {up} of {usable} backends are up, fewer than min_up_percent asks for; \
                     those that are down are used as well"
                ),
                None if state.is_panic_told => {
                    tracing::info!("service {name} has enough backends up again");
                }
                Some(_) | None => {}
            }
            state.is_panic_told = desired.panic.is_some();
        }
    }

    /// Lets backends go that the config does not name any more and whose flows have ended. Says
    /// whether some were.
    pub(super) fn expire_lingering(&mut self) -> bool {
        let Some(dataplane) = &mut self.dataplane else {
            return false;
        };
        // After a failed write it is not known what the tables hold.
        if self.reread.is_some() || self.held.lingering().next().is_none() {
            return false;
        }
        let counts = self.flows.scan();
        let (ended, writes) = self
            .held
            .expire_lingering(|id| counts.is_referred(id), Instant::now());
        if let Err(error) = kernel::apply(&mut dataplane.tables, &writes) {
            tracing::error!("{error}");
            self.reread = Some(Instant::now() + RETRY);
            return true;
        }
        for (id, value) in &ended {
            let key = EndpointKey::new(value.service_address, value.service_port, value.protocol);
            match dataplane.tables.backend_counters(*id) {
                Ok(counters) => self.retired.add(key, &counters),
                Err(error) => tracing::warn!("{error}"),
            }
        }
        if !ended.is_empty() {
            self.retired.save(&self.model.agent.state_file);
        }
        !ended.is_empty()
    }

    /// What the metrics have beside the status.
    pub(super) fn measures(&mut self) -> Measures {
        self.check_times.retain(|key| self.index.contains_key(key));
        Measures {
            check_times: self.check_times.clone(),
            config: self.config_read,
        }
    }

    /// The table id of a backend.
    pub(super) fn backend_id(&self, key: &EndpointKey, backend: &model::Backend) -> Option<u32> {
        let endpoint = (backend.address.into(), network_port(backend.port));
        self.held.backend(key, endpoint).map(|(id, _)| *id)
    }

    /// An entry of the table of next hops.
    pub(super) fn next_hop(&self, index: u32) -> Option<lb_common::abi::NextHop> {
        let dataplane = self.dataplane.as_ref()?;
        dataplane.tables.next_hop(index).ok()
    }

    /// The services that the tables hold, by id.
    pub(super) fn service_keys(&self) -> impl Iterator<Item = (u32, EndpointKey)> {
        let held = self.held.services.values();
        held.map(|held| (held.value.id, held.key))
    }

    /// The table id of a service of the config.
    pub(super) fn service_id(&self, key: &EndpointKey) -> Option<u32> {
        let mut held = self.held.services.values();
        held.find(|held| held.key == *key).map(|held| held.value.id)
    }

    /// Backends that the config does not name any more, but flows may, by id.
    pub(super) fn lingering(&self) -> impl Iterator<Item = (u32, &lb_common::abi::Backend)> {
        self.held.lingering()
    }

    /// What was steered to backends of a service that are not in the config any more.
    pub(super) fn former_counters(&self, key: &EndpointKey) -> BackendCounters {
        let Some(dataplane) = &self.dataplane else {
            return BackendCounters::default();
        };
        self.held
            .lingering()
            .filter(|(_, value)| {
                (value.service_address, value.service_port, value.protocol)
                    == (key.address, key.port, key.protocol)
            })
            .filter_map(|(id, _)| dataplane.tables.backend_counters(id).ok())
            .fold(self.retired.of(key), |sum, counters| {
                dataplane::add(&sum, &counters)
            })
    }
}

/// Where each backend stands.
pub(super) fn index(services: &[ServiceState]) -> HashMap<BackendKey, (usize, usize)> {
    services
        .iter()
        .enumerate()
        .flat_map(|(service, state)| {
            let keys = state.backends.iter().map(|backend| backend.key.clone());
            keys.enumerate()
                .map(move |(backend, key)| (key, (service, backend)))
        })
        .collect()
}
