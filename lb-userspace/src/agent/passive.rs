//! Passive checks: clients' connections, as the data path counts them, take backends down.

use std::time::{Duration, Instant};

use super::{core::Core, state::BackendState};
use crate::{
    config::model::{CheckKind, Service},
    health::{BackendKey, Finding, Handshakes, Health},
};

impl BackendState {
    /// Takes in a check of a backend that clients' connections may have taken down. Says whether it
    /// stays so, whatever the check says.
    pub(super) fn is_held_down(
        &mut self,
        service: &Service,
        passed: Option<bool>,
        health: Health,
    ) -> bool {
        let Some(verdict) = self.witness.verdict() else {
            return false;
        };
        let check = &service.health_check;
        let is_over = service.passive.is_none()
            || (check.kind != CheckKind::None
                && self.witness.hear(passed, check.rise)
                && health == Health::Up);
        if is_over {
            self.witness.acquit();
        } else {
            self.last_check = format!("{verdict}; {}", self.last_check);
        }
        !is_over
    }

    /// Takes in a check of a backend that gave clients no answer. Says whether it went down by it.
    pub(super) fn is_condemned(&mut self, passed: Option<bool>, took: Duration) -> bool {
        let now = Instant::now();
        let began = now.checked_sub(took).unwrap_or(now);
        let Some(verdict) = self.witness.hear_doubted(passed, began, now) else {
            return false;
        };
        if self.health != Health::Up {
            self.witness.acquit();
            return false;
        }
        self.take_down(format!("{verdict}; {}", self.last_check), now);
        true
    }

    /// Takes in that the config is another one.
    pub(super) fn follow_config(&mut self, service: &Service) {
        if service.passive.is_some() {
            return;
        }
        let was_down = self.witness.is_down();
        self.witness.acquit();
        if was_down && service.health_check.kind == CheckKind::None {
            // Nobody else would say so.
            self.health = Health::Up;
            self.since = Instant::now();
            "not checked".clone_into(&mut self.last_check);
        }
    }

    fn take_down(&mut self, verdict: impl std::fmt::Display, now: Instant) {
        self.is_inherited = false;
        self.last_check = verdict.to_string();
        self.health = Health::Down;
        self.since = now;
        self.came_up = None;
        tracing::warn!(
            kind = "backend_down",
            service = &*self.key.service,
            backend = &*self.key.backend,
            "backend {} is down: {verdict}",
            self.key
        );
    }

    /// One that nobody checks gets connections again after a time.
    fn put_on_trial(&mut self, now: Instant) {
        let down = now.saturating_duration_since(self.since).as_secs_f64();
        self.witness.try_again();
        self.last_check = format!("on trial after {down:.1} s down (passive)");
        self.health = Health::Up;
        self.since = now;
        self.came_up = Some(now);
        tracing::info!(
            kind = "backend_up",
            service = &*self.key.service,
            backend = &*self.key.backend,
            "backend {} is up, {}",
            self.key,
            self.last_check
        );
    }
}

impl Core {
    /// Looks at what became of handshakes since the last look, where that counts. Says whether the
    /// tables may have to change, and who has to be checked now.
    pub(super) fn look_at_handshakes(&mut self) -> (bool, Vec<BackendKey>) {
        let services = || self.model.services.iter().zip(&self.services);
        let watched = services().filter(|(service, _)| service.passive.is_some());
        let ids = watched.flat_map(|(service, state)| {
            let backends = service.backends.iter();
            backends.filter_map(|backend| self.backend_id(&state.key, backend))
        });
        let nothing = (false, Vec::new());
        let (Some(last), Some(dataplane)) = (ids.max(), &self.dataplane) else {
            return nothing;
        };
        let counters = match dataplane.tables.all_backend_counters(last + 1) {
            Ok(counters) => counters,
            Err(error) => {
                tracing::debug!("{error}");
                return nothing;
            }
        };
        let now = Instant::now();
        let (mut is_changed, mut doubted) = nothing;
        for (service, state) in self.model.services.iter().zip(&mut self.services) {
            let Some(rule) = &service.passive else {
                continue;
            };
            for (backend, state_of) in service.backends.iter().zip(&mut state.backends) {
                let endpoint = (
                    backend.address.into(),
                    lb_common::abi::network_port(backend.port),
                );
                let counted = self
                    .held
                    .backend(&state.key, endpoint)
                    .and_then(|(id, _)| counters.get(*id as usize));
                let Some(counted) = counted else { continue };
                let counted = Handshakes {
                    accepted: counted.accepted,
                    refused: counted.refused,
                    unanswered: counted.unanswered,
                };
                let is_checked = service.health_check.kind != CheckKind::None;
                let is_agent_down = state_of.agent.is_some_and(|word| word.is_down);
                if !is_checked && !is_agent_down && state_of.witness.has_served_its_time(now, rule)
                {
                    state_of.put_on_trial(now);
                    is_changed = true;
                }
                if state_of.health != Health::Up {
                    state_of.witness.look_away(counted, now);
                    continue;
                }
                let was_on_trial = state_of.witness.is_on_trial();
                match state_of.witness.look(counted, now, rule, is_checked) {
                    Some(Finding::Down(verdict)) => {
                        state_of.take_down(verdict, now);
                        is_changed = true;
                    }
                    Some(Finding::Doubt) => doubted.push(state_of.key.clone()),
                    None if was_on_trial && !state_of.witness.is_on_trial() => {
                        "not checked".clone_into(&mut state_of.last_check);
                    }
                    None => {}
                }
            }
        }
        (is_changed, doubted)
    }
}
