//! Going on with another config: everything that can fail comes first, so that a reload happens as
//! a whole or not at all.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Agent, Error,
    command::Commander,
    core::{self, Core},
    firewall, forwarding, interfaces, lane,
    manager::Reloading,
    overrides,
    reload::{self, Difference},
    state::{self, BackendState, ServiceState},
};
use crate::{
    check_lane::STEERING_END,
    config::{self, Loaded, Model, Problem},
    control::{Fault, Refusal, ReloadWish, Reloaded},
    dataplane::{Dataplane, Sizes},
    firewall::{Act, Changed, Wish},
    health::BackendKey,
    metrics::ConfigRead,
    next_hop::{self, Link},
};

/// Changes that are logged at most; whoever asked is told all.
const MOST_LINES: usize = 50;

/// How the agent was started, which a reload keeps to.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The config file.
    pub config_file: PathBuf,
    /// Interfaces instead of those of the file, unless empty.
    pub interfaces: Vec<String>,
    /// The admin socket instead of that of the file.
    pub socket: Option<PathBuf>,
    /// Whether pinned tables are replaced whatever their layout.
    pub replace_tables: bool,
}

impl Invocation {
    /// Reads the config file.
    ///
    /// # Errors
    /// When it cannot be read, and with every problem in it.
    pub fn load(&self) -> Result<Loaded, config::Error> {
        let mut loaded = config::load_with(&self.config_file, &self.interfaces)?;
        if let Some(socket) = &self.socket {
            loaded.model.admin.socket.clone_from(socket);
        }
        Ok(loaded)
    }

    /// The same for a reload.
    pub(super) fn load_again(&self) -> Result<Loaded, Refusal> {
        self.load().map_err(|error| Refusal {
            fault: Fault::Wrong,
            sentence: match &error {
                config::Error::Invalid(problems) => {
                    let file = &problems.file;
                    match problems.list.len() {
                        1 => format!("there is a problem in {file}"),
                        count => format!("there are {count} problems in {file}"),
                    }
                }
                config::Error::Read { .. } | config::Error::TooLarge { .. } => error.to_string(),
            },
            problems: match error {
                config::Error::Invalid(problems) => {
                    problems.to_string().lines().map(str::to_owned).collect()
                }
                config::Error::Read { .. } | config::Error::TooLarge { .. } => Vec::new(),
            },
        })
    }
}

/// Lets one reload follow the other: whoever reads the file later must also be the one whose config
/// stays.
#[derive(Debug, Default)]
pub(super) struct Turn {
    taken: Mutex<()>,
    /// A signal's reload waits for its turn.
    awaits_signal: AtomicBool,
}

impl Turn {
    /// Whether a reload by signal has yet to read the file; if not, one is announced.
    pub(super) fn awaits_signal(&self) -> bool {
        self.awaits_signal.swap(true, Ordering::SeqCst)
    }
}

/// Reloads the config file when it is told to.
#[derive(Clone)]
pub(super) struct Reloader {
    invocation: Invocation,
    commander: Commander,
    core: Arc<Mutex<Core>>,
    turn: Arc<Turn>,
}

impl Reloader {
    pub(super) fn new(
        invocation: Invocation,
        commander: Commander,
        core: Arc<Mutex<Core>>,
        turn: Arc<Turn>,
    ) -> Self {
        Self {
            invocation,
            commander,
            core,
            turn,
        }
    }

    /// The same as [`Self::reload`] after [`Turn::awaits_signal`].
    pub(super) fn reload_by_signal(&self) -> Result<Reloaded, Refusal> {
        let taken = self.turn.taken.lock();
        self.turn.awaits_signal.store(false, Ordering::SeqCst);
        // Nobody is there to be asked.
        let done = self.reload_in_turn(&ReloadWish::default(), "SIGHUP");
        drop(taken);
        done
    }

    /// Reads the file and has the agent go on with it. It takes its time, and is not to be called
    /// where waiting is forbidden.
    pub(super) fn reload(&self, wish: &ReloadWish, who: &str) -> Result<Reloaded, Refusal> {
        let taken = self.turn.taken.lock();
        let done = self.reload_in_turn(wish, who);
        drop(taken);
        done
    }

    /// Changes the firewall; the file is read where its firewall is to be applied.
    pub(super) fn change_firewall(&self, wish: Wish, who: &str) -> Result<Changed, Refusal> {
        let taken = self.turn.taken.lock();
        let applied = if wish.act == Act::Apply {
            Some(self.invocation.load_again()?.model.firewall)
        } else {
            None
        };
        let done = self
            .commander
            .change_firewall(wish, applied, who.to_owned());
        drop(taken);
        done
    }

    fn reload_in_turn(&self, wish: &ReloadWish, who: &str) -> Result<Reloaded, Refusal> {
        let _told = Reloading::begin();
        let done = match self.invocation.load_again() {
            Ok(loaded) => self.commander.reload(loaded, wish.clone(), who.to_owned()),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &done {
            tell_refusal(refusal, who);
        }
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        match &done {
            Ok(_) => core.config_read = ConfigRead::default(),
            Err(_) => core.config_read.refused(),
        }
        done
    }
}

/// What is ready to take the place of what is there.
struct Next {
    model: Model,
    services: Vec<ServiceState>,
}

impl Agent {
    /// Goes on with another config. The tables follow at the next reconciliation.
    pub(super) async fn reload(
        &mut self,
        loaded: Loaded,
        wish: &ReloadWish,
    ) -> Result<Reloaded, Refusal> {
        let Loaded {
            model: file,
            warnings,
        } = loaded;
        let cut = {
            let core = self.lock();
            if core.probation.is_some() {
                return Err(Refusal::new(
                    Fault::Wrong,
                    "a firewall waits for its confirmation: `lb firewall confirm`, or wait until it \
                     is taken back",
                ));
            }
            if let Some(out) = core.locked_out_by(&file) {
                return Err(Refusal::new(
                    Fault::Wrong,
                    format!(
                        "{out}; `lb firewall apply --confirm 60` tries it and goes back by itself"
                    ),
                ));
            }
            let cut = core.cut_callers_by(&file, &wish.callers);
            let cut = cut.map(|cut| format!("the new [firewall] {cut}"));
            if let Some(cut) = cut.as_ref().filter(|_| !wish.force) {
                return Err(Refusal::new(
                    Fault::Wrong,
                    format!("{cut} (--force does it all the same)"),
                ));
            }
            cut.into_iter()
                .chain(core.cut_by(&file))
                .collect::<Vec<_>>()
        };
        let (file, model) = self.discovered.next(file);
        let links = next_hop::links()
            .await
            .map_err(|error| failed(&Error::Netlink(error)))?;
        let wants_lane = lane::is_wanted(&model);
        let made = self.prepare_lane(&model).await;
        made.map_err(|error| failed(&error))?;
        let links = if wants_lane {
            next_hop::links()
                .await
                .map_err(|error| failed(&Error::Netlink(error)))?
        } else {
            links
        };
        let mysql = match (&self.mysql, &model.mysql) {
            (Some(running), Some(config)) => {
                let prepared = running.prepare(config);
                Some((
                    Arc::clone(running),
                    prepared.map_err(|error| failed(&error))?,
                ))
            }
            (None, _) | (_, None) => None,
        };
        let changed = self.change_over(model, &links);
        self.follow_moved();
        if changed.is_err() || !wants_lane {
            self.drop_pair().await;
        }
        let changes = changed?;
        if let Some((running, prepared)) = mysql {
            running.change(prepared);
        }
        self.discovered.set_file(file);
        self.discoverer
            .set_targets(self.discovered.targets(), self.discovered.found());
        let generation = self.lock().generation;
        self.follow_ways();
        self.check_anew();
        Ok(Reloaded {
            config_generation: generation,
            changes,
            warnings: lines(warnings).into_iter().chain(cut).collect(),
        })
    }

    /// All or nothing. Says what changed. Whatever comes of it, [`Agent::follow_moved`] is to be called.
    pub(super) fn change_over(
        &mut self,
        model: Model,
        links: &[Link],
    ) -> Result<Vec<String>, Refusal> {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let core = &mut *core;
        let Difference {
            needs_restart,
            changes,
        } = reload::difference(&core.configured(), &model);
        if !needs_restart.is_empty() {
            return Err(takes_restart(needs_restart));
        }
        // One that is gone for now is no reason to refuse anything.
        let present = &core.model.agent.interfaces;
        let mut new = model.agent.interfaces.clone();
        new.retain(|name| !present.contains(name));
        if lane::is_wanted(&model) && !lane::is_wanted(&core.model) {
            new.push(STEERING_END.to_owned());
        }
        interfaces::find(&new, links)
            .map_err(|error| Refusal::new(Fault::Wrong, error.to_string()))?;
        let (next, overrides, forgotten) = core.prepare(model)?;
        core.change_program(&next.model)?;
        let rules = core.rules.actions();
        let dataplane = core
            .dataplane
            .as_mut()
            .ok_or_else(|| Refusal::new(Fault::Failed, "the agent is stopping"))?;
        let scopes = core.scopes.next(&next.model.services);
        let wanted =
            firewall::plan::wanted(&next.model, &rules).with_services(&next.model, &scopes);
        let wall = core.wall.prepare(dataplane.tables.firewall(), wanted);
        let wall = wall.map_err(|error| failed(&error))?;
        attach_new(dataplane, &next.model, links)?;
        // From here on nothing is refused any more.
        let is_new_wall = core
            .wall
            .commit(dataplane.tables.firewall(), wall)
            .unwrap_or_else(|error| {
                tracing::error!("{error}");
                true
            });
        Core::set_sources(&next.model, dataplane)
            .unwrap_or_else(|error| tracing::error!("{error}"));
        let steered = interfaces::steered(&next.model);
        match dataplane.detach_others(&steered) {
            Ok(names) => {
                for name in names {
                    tracing::info!("detached from {name}, which the config does not name any more");
                }
            }
            Err(error) => tracing::error!("{error}"),
        }
        self.links = links.to_vec();
        self.described = interfaces::descriptions(&steered, links);
        if let Err(error) = dataplane.tables.set_interfaces(&self.described) {
            tracing::error!("{error}");
        }
        core.client_mtu = interfaces::smallest_mtu(&self.described, links);
        let is_elsewhere = core.model.agent.state_file != next.model.agent.state_file;
        core.model = next.model;
        core.scopes = scopes;
        core.keep_out();
        core.index = core::index(&next.services);
        core.services = next.services;
        core.generation += 1;
        core.open_lane(links, &self.monitor)
            .unwrap_or_else(|error| tracing::error!("{error}"));
        core.apply_rate();
        if is_new_wall {
            core.tell_firewall();
        }
        for line in forgotten {
            tracing::info!("{line}");
        }
        if core.overrides != overrides || is_elsewhere {
            core.overrides = overrides;
            core.save_state();
        }
        if is_elsewhere {
            core.retired.save(&core.model.agent.state_file);
        }
        Ok(changes)
    }

    /// Follows flows in the tables of the program that is new.
    fn follow_tables(&mut self) {
        // The thread before has to end first: both would take the same flows out.
        self.collector = None;
        match self.collect() {
            Ok(collector) => self.collector = Some(collector),
            Err(error) => tracing::error!("{error}; expired flows stay in the tables"),
        }
        self.lock().move_cluster();
    }
}

impl Agent {
    /// Has everybody follow who looks after tables that are not the program's any more.
    pub(super) fn follow_moved(&mut self) {
        let is_moved = std::mem::take(&mut self.lock().is_moved);
        if is_moved {
            self.follow_tables();
        }
    }
}

impl Core {
    /// The config as the file says it.
    fn configured(&self) -> Model {
        let mut model = self.model.clone();
        for service in &mut model.services {
            service.firewall.set.clear();
            for backend in &mut service.backends {
                let name = (service.name.clone(), backend.name.clone());
                let set = self.overrides.get(&name);
                backend.weight = overrides::configured_weight(set, backend.weight);
            }
        }
        model
    }

    /// What is known, put in the places of a new config, if the tables have room for that.
    fn prepare(
        &mut self,
        mut model: Model,
    ) -> Result<(Next, super::state_file::Overrides, Vec<String>), Refusal> {
        let mut overrides = self.overrides.clone();
        let forgotten = overrides::apply(&mut model, &mut overrides);
        self.rules.put_into(&mut model);
        let mut known: HashMap<&BackendKey, (usize, usize)> =
            self.index.iter().map(|(key, at)| (key, *at)).collect();
        let services: Vec<ServiceState> = model
            .services
            .iter()
            .map(|service| {
                let mut next = state::inherit(service, &self.held, &overrides);
                for (backend, state) in service.backends.iter().zip(&mut next.backends) {
                    let Some((old_service, old_backend)) = known.remove(&state.key) else {
                        continue;
                    };
                    let is_same = self.services[old_service].key == next.key && {
                        let old = &self.model.services[old_service].backends[old_backend];
                        (old.address, old.port) == (backend.address, backend.port)
                    };
                    if is_same {
                        *state = BackendState {
                            state: state.state,
                            ..self.services[old_service].backends[old_backend].clone()
                        };
                        let old = &self.model.services[old_service].health_check;
                        if old.kind != service.health_check.kind {
                            state.certificate_ends = None;
                        }
                        state.follow_config(service);
                    }
                }
                if let Some(old) = self.services.iter().find(|old| old.key == next.key) {
                    next.is_empty_told = old.is_empty_told;
                    next.is_panic_told = old.is_panic_told;
                }
                next
            })
            .collect();
        let mut next = Next { model, services };
        self.swap(&mut next);
        let desired = self.desired();
        self.swap(&mut next);
        self.held
            .check_room(&desired)
            .map_err(|error| failed(&error))?;
        Ok((next, overrides, forgotten))
    }

    fn swap(&mut self, next: &mut Next) {
        std::mem::swap(&mut self.model, &mut next.model);
        std::mem::swap(&mut self.services, &mut next.services);
    }

    /// Has the program do what the config needs and it does not do yet. Says whether it is another
    /// one, with other tables.
    fn change_program(&mut self, model: &Model) -> Result<(), Refusal> {
        let wanted = super::starting::sizes(model);
        let stopping = || Refusal::new(Fault::Failed, "the agent is stopping");
        let dataplane = self.dataplane.as_mut().ok_or_else(stopping)?;
        let sources = forwarding::source_addresses(&model.services).len();
        if wanted.features & !dataplane.tables.settings().features == 0 {
            return dataplane
                .tables
                .check_sources(sources)
                .map_err(|error| failed(&error));
        }
        self.change_program_to(wanted)
    }

    /// Puts a program of these features into the present one's place.
    pub(super) fn change_program_to(&mut self, wanted: Sizes) -> Result<(), Refusal> {
        if self.is_capturing {
            return Err(Refusal::new(
                Fault::Failed,
                "the config needs another program, and a capture uses the present one; end it first",
            ));
        }
        let stopping = || Refusal::new(Fault::Failed, "the agent is stopping");
        let dataplane = self.dataplane.as_mut().ok_or_else(stopping)?;
        dataplane.change(wanted).map_err(|error| failed(&error))?;
        let settings = *dataplane.tables.settings();
        self.flows = dataplane.tables.flows();
        self.held.settings = settings;
        self.is_moved = true;
        self.wall.forget();
        tracing::info!("the program is another one, because the config uses more of it now");
        Ok(())
    }
}

/// Says why nothing was reloaded.
pub(super) fn tell_refusal(refusal: &Refusal, who: &str) {
    tracing::error!(
        kind = "reload_failed",
        "not reloaded, by {who}: {}",
        refusal.sentence
    );
    for problem in &refusal.problems {
        tracing::error!("{problem}");
    }
}

/// As they are shown.
pub(super) fn lines(warnings: Vec<Problem>) -> Vec<String> {
    let lines = warnings.into_iter().map(|warning| match &warning.file {
        Some(file) => format!("line {} of {file}: {}", warning.line, warning.message),
        None => format!("line {}: {}", warning.line, warning.message),
    });
    lines.collect()
}

/// Why a running agent does not take a config over.
pub(super) fn takes_restart(problems: Vec<String>) -> Refusal {
    Refusal {
        fault: Fault::Wrong,
        sentence: "not everything in the config can change while the agent runs".to_owned(),
        problems,
    }
}

/// Says what a reload changed.
pub(super) fn tell(reloaded: &Reloaded, who: &str) {
    match reloaded.changes.as_slice() {
        [] => tracing::info!(kind = "reloaded", "reloaded, by {who}: nothing has changed"),
        [change] => tracing::info!(kind = "reloaded", "reloaded, by {who}: {change}"),
        changes => {
            tracing::info!(
                kind = "reloaded",
                "reloaded, by {who}: {} changes",
                changes.len()
            );
            for change in changes.iter().take(MOST_LINES) {
                tracing::info!("{change}");
            }
            if changes.len() > MOST_LINES {
                tracing::info!("and {} more", changes.len() - MOST_LINES);
            }
        }
    }
}

/// Attaches where nothing is attached yet; if that fails somewhere, nowhere.
fn attach_new(dataplane: &mut Dataplane, model: &Model, links: &[Link]) -> Result<(), Refusal> {
    let mut attached = Vec::new();
    let steered = interfaces::steered(model);
    for name in &steered {
        if dataplane.attached().contains_key(name) {
            continue;
        }
        let Some(link) = links.iter().find(|link| link.name == *name) else {
            continue;
        };
        if let Err(error) = interfaces::attach(dataplane, &model.agent, link) {
            for name in attached {
                if let Err(error) = dataplane.forget(name) {
                    tracing::error!("{error}");
                }
            }
            return Err(failed(&error));
        }
        attached.push(name);
    }
    Ok(())
}

fn failed(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Fault::Failed, error.to_string())
}
