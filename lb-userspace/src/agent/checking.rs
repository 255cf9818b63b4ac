//! What checks are asked for, and what they say.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use super::{core::Core, state::BackendState};
use crate::{
    config::model::{self, CheckKind, Via},
    control::State,
    health::{Health, Report, Target},
    next_hop::NextHop,
};

impl Core {
    /// The backends to check.
    pub(super) fn check_targets(&self) -> Vec<Target> {
        self.model
            .services
            .iter()
            .zip(&self.services)
            .flat_map(|(service, state)| {
                service
                    .backends
                    .iter()
                    .zip(&state.backends)
                    .filter(|(_, state)| state.state != State::Maint && self.can_check(service))
                    .map(|(backend, state)| {
                        let (address, through) = self.asked_at(service, backend);
                        Target {
                            key: state.key.clone(),
                            address,
                            through,
                            check: service.health_check.clone(),
                            initial: Some(state.health).filter(|known| *known != Health::Checking),
                        }
                    })
            })
            .collect()
    }

    /// Whether what checks a service's backends takes is there.
    pub(super) fn can_check(&self, service: &model::Service) -> bool {
        service.health_check.via == Via::Direct || self.lane.is_some()
    }

    /// Where a backend is asked, and the service if the check goes through it. To a backend on this
    /// host, the way through the service is to connect to that.
    fn asked_at(
        &self,
        service: &model::Service,
        backend: &model::Backend,
    ) -> (SocketAddr, Option<SocketAddr>) {
        let own = SocketAddr::new(backend.address, backend.port);
        let endpoint = SocketAddr::new(service.address, service.port);
        let is_here = self.next_hops.get(&backend.address) == Some(&NextHop::Local);
        match service.health_check.via {
            Via::Direct => (own, None),
            Via::Service if is_here => (endpoint, None),
            Via::Service => (own, Some(endpoint)),
        }
    }

    /// Takes in a check, and says whether the tables may have to change.
    pub(super) fn note_report(&mut self, report: Report) -> bool {
        let Some(&(service, backend)) = self.index.get(&report.key) else {
            return false;
        };
        self.check_times.note(&report);
        let check = &self.model.services[service].health_check;
        let state = &mut self.services[service].backends[backend];
        if state.state == State::Maint {
            // On its way when the checks ended.
            return false;
        }
        state.is_inherited = false;
        state.last_check = report.detail;
        state.certificate_ends = report.certificate_ends.or(state.certificate_ends);
        state.lag = report.lag;
        let is_word_new = state.hear(report.agent, check.agent_port.is_some());
        if state.is_condemned(report.passed, report.took) {
            return true;
        }
        if state.is_held_down(&self.model.services[service], report.passed, report.health) {
            return is_word_new;
        }
        if state.health == report.health {
            return is_word_new;
        }
        let is_first = state.health == Health::Checking;
        let was_away = state.health == Health::Down || state.is_returning;
        let came_up = was_away && report.health == Health::Up;
        state.is_returning = false;
        state.came_up = came_up.then(Instant::now);
        state.health = report.health;
        state.since = Instant::now();
        let is_agent_s = report.agent.is_some_and(|word| word.is_down);
        let checks = |count: u32, what: &str| {
            if is_first || count <= 1 || is_agent_s {
                String::new()
            } else {
                format!(" ({count} of {count} checks {what})")
            }
        };
        let BackendState {
            key, last_check, ..
        } = state;
        match report.health {
            Health::Up if check.kind == CheckKind::None => {
                tracing::debug!("backend {key} is up: {last_check}");
            }
            Health::Up => {
                tracing::info!(
                    kind = "backend_up",
                    service = &*key.service,
                    backend = &*key.backend,
                    "backend {key} is up: {last_check}{}",
                    checks(check.rise, "passed")
                );
            }
            Health::Down => {
                tracing::warn!(
                    kind = "backend_down",
                    service = &*key.service,
                    backend = &*key.backend,
                    "backend {key} is down: {last_check}{}",
                    checks(check.fall, "failed")
                );
            }
            Health::Checking => {}
        }
        true
    }

    /// The address of a backend that has just failed to answer in time.
    pub(super) fn silent_address(&self, report: &Report) -> Option<IpAddr> {
        let &(service, backend) = self.index.get(&report.key)?;
        let service = &self.model.services[service];
        if report.took >= service.health_check.timeout {
            Some(service.backends[backend].address)
        } else {
            None
        }
    }
}
