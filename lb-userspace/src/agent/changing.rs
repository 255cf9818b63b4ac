//! Changes of backends at run time.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::{
    Agent,
    command::Command,
    core::Core,
    memory,
    overrides::{self, Present},
    reloading,
    state::BackendState,
    state_file,
};
use crate::{
    control::{Act, Changed, Changes, Fault, Pattern, Refusal, State},
    health::{Health, Witness},
};

/// Names of backends in a message at most.
const MOST_NAMES: usize = 10;
/// Changes that are logged one by one; of more there is one line.
const MOST_LINES: usize = 50;
/// How long an answer waits at most until the tables are what they should be. What is given up in
/// them rests for a moment before it is used again.
const SETTLE: Duration = Duration::from_millis(500);

impl Agent {
    /// Does what it is told, and answers. Returns when to reconcile again, if that is needed.
    pub(super) async fn obey(&mut self, command: Command) -> Option<Duration> {
        match command {
            Command::Act {
                pattern,
                act,
                who,
                reply,
            } => {
                let done = self.lock().act(&pattern, act, &who);
                let wait = self.settle().await;
                self.check_anew();
                // Whoever asked may be gone.
                let _ = reply.send(done);
                wait
            }
            Command::Firewall {
                wish,
                applied,
                who,
                reply,
            } => {
                let done = self.change_firewall(&wish, applied, &who);
                let wait = self.settle().await;
                let _ = reply.send(done);
                wait
            }
            Command::Reload {
                loaded,
                wish,
                who,
                reply,
            } => {
                let done = self.reload(*loaded, &wish).await;
                let wait = self.settle().await;
                if let Ok(reloaded) = &done {
                    reloading::tell(reloaded, &who);
                }
                let _ = reply.send(done);
                memory::trim();
                wait
            }
        }
    }

    /// Checks what is to be checked now.
    pub(super) fn check_anew(&mut self) {
        let targets = self.lock().check_targets();
        self.monitor.set_targets(targets);
    }

    /// Reconciles until the tables are what they should be, but not for long.
    async fn settle(&mut self) -> Option<Duration> {
        let end = Instant::now() + SETTLE;
        loop {
            let (wait, until) = {
                let mut core = self.lock();
                (core.reconcile(), core.waits_until)
            };
            match until {
                Some(until) if until < end => sleep_until(until.into()).await,
                _ => return wait,
            }
        }
    }
}

impl Core {
    /// Changes backends, and keeps that over a restart. The tables follow at the next
    /// reconciliation.
    fn act(&mut self, pattern: &Pattern, act: Act, who: &str) -> Result<Changes, Refusal> {
        if let Act::Set(change) = act {
            change
                .check()
                .map_err(|sentence| Refusal::new(Fault::Wrong, sentence))?;
        }
        let present = self.model.services.iter().flat_map(|service| {
            service.backends.iter().map(|backend| Present {
                service: &service.name,
                backend: &backend.name,
                weight: backend.weight,
            })
        });
        let Some((changed, after)) = overrides::act(present, &self.overrides, pattern, act) else {
            return Err(Refusal::new(Fault::NotFound, self.no_backend(pattern)));
        };
        let before = self.weights();
        self.set_weights(changed.iter().map(|one| (one, one.weight)));
        let desired = self.desired();
        if let Err(error) = self.held.check_room(&desired) {
            for (service, weights) in self.model.services.iter_mut().zip(before) {
                for (backend, weight) in service.backends.iter_mut().zip(weights) {
                    backend.weight = weight;
                }
            }
            return Err(Refusal::new(Fault::Failed, error.to_string()));
        }
        let count = changed.iter().filter(|one| one.is_new).count();
        if count > MOST_LINES {
            tracing::info!(
                kind = "backend_set",
                "backends {pattern}: {count} were changed, by {who}"
            );
        }
        for one in changed.iter().filter(|one| one.is_new) {
            self.set_state(one);
            if count > MOST_LINES {
                continue;
            }
            tracing::info!(
                kind = "backend_set",
                service = &*one.service,
                backend = &*one.backend,
                "backend {}/{}: weight {}, {}, by {who}",
                one.service,
                one.backend,
                one.weight,
                one.state.word()
            );
        }
        let is_new = after != self.overrides;
        self.overrides = after;
        let warning = if is_new { self.save_state() } else { None };
        Ok(Changes {
            backends: changed,
            warning,
        })
    }

    /// Writes what was set at run time to the state file; a sentence if that fails, which is logged
    /// once until it works again.
    pub(super) fn save_state(&mut self) -> Option<String> {
        let file = &self.model.agent.state_file;
        let Err(error) = state_file::save(file, &self.overrides) else {
            if std::mem::take(&mut self.is_unsaved) {
                tracing::info!("the state file {} is written again", file.display());
            }
            return None;
        };
        let warning = format!(
            "cannot write the state file {}: {error}; until that works a restart would not know of \
             this",
            file.display()
        );
        if !std::mem::replace(&mut self.is_unsaved, true) {
            tracing::warn!("{warning}");
        }
        Some(warning)
    }

    /// Tries again what could not be written.
    pub(super) fn save_again(&mut self) {
        if self.is_unsaved {
            self.save_state();
        }
    }

    fn weights(&self) -> Vec<Vec<u16>> {
        let services = self.model.services.iter();
        services
            .map(|service| service.backends.iter().map(|one| one.weight).collect())
            .collect()
    }

    fn set_weights<'a>(&mut self, weights: impl Iterator<Item = (&'a Changed, u16)>) {
        for (one, weight) in weights {
            if let Some((service, backend)) = self.find(one) {
                self.model.services[service].backends[backend].weight = weight;
            }
        }
    }

    fn set_state(&mut self, changed: &Changed) {
        if let Some((service, backend)) = self.find(changed) {
            self.services[service].backends[backend].set_state(changed.state);
        }
    }

    fn find(&self, changed: &Changed) -> Option<(usize, usize)> {
        let key = crate::health::BackendKey {
            service: changed.service.as_str().into(),
            backend: changed.backend.as_str().into(),
        };
        self.index.get(&key).copied()
    }

    fn no_backend(&self, pattern: &Pattern) -> String {
        let names = self.model.services.iter().flat_map(|service| {
            let backends = service.backends.iter();
            backends.map(|backend| format!("{}/{}", service.name, backend.name))
        });
        let mut names: Vec<String> = names.take(MOST_NAMES + 1).collect();
        let rest = if names.len() > MOST_NAMES {
            names.truncate(MOST_NAMES);
            ", …"
        } else {
            ""
        };
        if names.is_empty() {
            return format!("there is no backend {pattern}: the config has none at all");
        }
        format!(
            "there is no backend {pattern} (there are: {}{rest})",
            names.join(", ")
        )
    }
}

impl BackendState {
    /// Sets its administrative state. One in maintenance is not checked, and what was known of its
    /// health is forgotten.
    fn set_state(&mut self, state: State) {
        let was_maint = self.state == State::Maint;
        if was_maint == (state == State::Maint) {
            self.state = state;
            return;
        }
        self.state = state;
        self.health = Health::Checking;
        self.since = Instant::now();
        self.is_inherited = false;
        self.witness = Witness::default();
        self.was_in_rotation = false;
        self.is_returning = was_maint;
        self.last_check = if was_maint {
            String::new()
        } else {
            "not checked: in maintenance".to_owned()
        };
    }
}
