//! Changes of the firewall while it works: single prefixes, and a whole config on probation.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use lb_common::{
    abi::features,
    firewall::{Action, Prefix, offender::Offender},
};

use super::{
    cut,
    plan::{self, Wanted},
    rules::{self, MOST, Rule},
};
use crate::{
    agent::{Agent, core::Core},
    config::model::{self, firewall::Firewall},
    control::{Fault, Refusal},
    dataplane::FlowTables,
    firewall::{Act, Changed, Wish},
};

/// What was applied and is not confirmed yet.
#[derive(Debug)]
pub(in crate::agent) struct Probation {
    /// When it is taken back.
    pub(super) ends: Instant,
    /// What was there before.
    before: Firewall,
}

fn wrong(sentence: impl Into<String>) -> Refusal {
    Refusal::new(Fault::Wrong, sentence)
}

impl Agent {
    /// Changes the firewall as somebody wishes. `applied` is the config's, where it is to be applied.
    pub(in crate::agent) fn change_firewall(
        &mut self,
        wish: &Wish,
        applied: Option<Firewall>,
        who: &str,
    ) -> Result<Changed, Refusal> {
        let done = self.lock().change_firewall(wish, applied, who);
        self.follow_moved();
        done
    }
}

impl Core {
    fn change_firewall(
        &mut self,
        wish: &Wish,
        applied: Option<Firewall>,
        who: &str,
    ) -> Result<Changed, Refusal> {
        let prefix = wish.parsed_prefix().map_err(wrong)?;
        let mut rules = self.rules.clone();
        let mut firewall = self.model.firewall.clone();
        let mut probation = None;
        let ends = || {
            let span = wish
                .seconds
                .map(|seconds| Duration::from_secs(seconds.into()));
            span.and_then(|span| Instant::now().checked_add(span))
        };
        let mut lines = Vec::new();
        let key = prefix.map(|prefix| (prefix.address, prefix.length));
        let service = wish.service.as_ref();
        let is_known = |name: &String| {
            let mut services = self.model.services.iter();
            services.any(|one| one.name == *name) || self.rules.services().contains(name.as_str())
        };
        if let Some(name) = service.filter(|name| !is_known(name)) {
            let names: Vec<&str> = self.model.services.iter().map(|one| &*one.name).collect();
            return Err(Refusal::new(
                Fault::NotFound,
                format!("there is no service {name}; there are {}", names.join(", ")),
            ));
        }
        let place = key.map(|key| (service.cloned(), key));
        // Limits are the host's.
        let lifts =
            matches!(wish.act, Act::Allow | Act::Clear | Act::ClearAll) && service.is_none();
        let within = prefix.map(plan::of_config);
        let lifted = if lifts {
            self.offenders(within).len()
        } else {
            0
        };
        match (wish.act, place) {
            (Act::Deny | Act::Allow, Some(place)) => {
                let (action, word) = if wish.act == Act::Deny {
                    (Action::Deny, "denied")
                } else {
                    (Action::Allow, "allowed")
                };
                let rule = Rule {
                    action,
                    ends: ends(),
                };
                let words = rules::in_words(&place);
                rules.set(place, rule);
                if rules.len() > MOST {
                    return Err(wrong(format!(
                        "{MOST} prefixes are set at run time already; more belong into a file \
                         (deny_files)"
                    )));
                }
                let span = wish
                    .seconds
                    .map_or(String::new(), |seconds| format!(" for {seconds} s"));
                lines.push(format!("{words} is {word}{span}"));
            }
            (Act::Clear, Some(place)) => {
                let words = rules::in_words(&place);
                let is_set = rules.remove(&place);
                if !is_set && lifted == 0 {
                    return Err(Refusal::new(
                        Fault::NotFound,
                        format!("{words} was not set at run time"),
                    ));
                }
                if is_set {
                    lines.push(format!("{words} is what the config says again"));
                }
            }
            (Act::ClearAll, _) => {
                let cleared = rules.clear(service.map(String::as_str));
                lines.push(format!("{cleared} prefixes are what the config says again"));
            }
            (Act::Apply, _) => {
                let (Some(new), Some(seconds)) = (applied, wish.seconds) else {
                    return Err(wrong(
                        "how many seconds to wait for the confirmation is missing",
                    ));
                };
                let before = std::mem::replace(&mut firewall, new);
                // What was there before the first of several is what counts.
                let before = self
                    .probation
                    .as_ref()
                    .map_or(before, |one| one.before.clone());
                let ends = Instant::now() + Duration::from_secs(seconds.into());
                probation = Some(Probation { ends, before });
                lines.push(format!(
                    "applied; it is taken back in {seconds} s unless `lb firewall confirm` comes"
                ));
            }
            (Act::Confirm, _) => {
                // The one who confirms may sit behind a connection that was there before.
                let out = locked_out(None, &self.model, &self.rules.actions());
                if let Some(out) = out.filter(|_| self.probation.is_some() && !wish.force) {
                    return Err(wrong(format!("{out}; --force confirms it all the same")));
                }
                if self.probation.take().is_none() {
                    return Err(wrong("there is nothing to confirm"));
                }
                tracing::info!(kind = "firewall", "the firewall is confirmed, by {who}");
                lines.push("confirmed".to_owned());
                return Ok(Changed {
                    lines,
                    warnings: Vec::new(),
                });
            }
            (Act::Deny | Act::Allow | Act::Clear, None) => return Err(wrong("there is no prefix")),
        }
        let mut model = model::Model {
            firewall,
            ..self.model.clone()
        };
        rules.put_into(&mut model);
        let before = plan::wanted(&self.model, &self.rules.actions());
        let after = plan::wanted(&model, &rules.actions());
        let cut = cut_off(&before, &after, wish.caller);
        // What is taken back by itself may cut off: that is what it is for.
        if let Some(cut) = cut
            .as_ref()
            .filter(|_| !wish.force && wish.act != Act::Apply)
        {
            return Err(wrong(format!("{cut} (--force does it all the same)")));
        }
        let out = locked_out(Some(&self.model), &model, &rules.actions());
        let mut warnings: Vec<String> = cut.into_iter().chain(out).collect();
        if let (Some(prefix), Act::Deny, None) = (prefix, wish.act, service) {
            warnings.extend(protected(&after, prefix));
        }
        if wish.act == Act::Apply || rules != self.rules {
            self.need_firewall(&model, wish.act == Act::Apply || rules.has_of_host())?;
        }
        let old = std::mem::replace(&mut self.model, model);
        let old_rules = std::mem::replace(&mut self.rules, rules);
        if let Err(error) = self.apply_firewall() {
            self.model = old;
            self.rules = old_rules;
            return Err(Refusal::new(Fault::Failed, error.to_string()));
        }
        if wish.act == Act::Apply {
            self.probation = probation;
        }
        if lifted != 0 {
            self.lift(within)?;
            lines.push(format!(
                "{lifted} sources that exceeded a limit are denied no more"
            ));
        }
        for line in &lines {
            tracing::info!(kind = "firewall", "firewall: {line}, by {who}");
        }
        if self.rules != old_rules {
            warnings.extend(self.save_rules());
        }
        Ok(Changed { lines, warnings })
    }

    /// Has the program look at sources.
    fn need_firewall(&mut self, model: &model::Model, of_host: bool) -> Result<(), Refusal> {
        let mut sizes = crate::agent::starting::sizes(model);
        if of_host {
            sizes.features |= features::FIREWALL;
        }
        let present = self.dataplane.as_ref();
        let present = present.map_or(0, |one| one.tables.settings().features);
        if sizes.features & !present == 0 {
            return Ok(());
        }
        self.change_program_to(sizes)
    }

    /// Sources that are denied for a while.
    pub(super) fn offenders(&mut self, within: Option<Prefix>) -> Vec<(Prefix, Offender)> {
        let Some(dataplane) = &mut self.dataplane else {
            return Vec::new();
        };
        let found = dataplane
            .tables
            .firewall()
            .offenders()
            .of(within, FlowTables::now());
        found.unwrap_or_else(|error| {
            tracing::error!("{error}");
            Vec::new()
        })
    }

    /// Denies them no more.
    fn lift(&mut self, within: Option<Prefix>) -> Result<(), Refusal> {
        let Some(dataplane) = &mut self.dataplane else {
            return Ok(());
        };
        let lifted = dataplane.tables.firewall().offenders().lift(within);
        lifted.map_err(|error| Refusal::new(Fault::Failed, error.to_string()))
    }

    /// Writes down what was set at run time; a sentence if that fails.
    fn save_rules(&self) -> Option<String> {
        let file = &self.model.agent.state_file;
        let error = self.rules.save(file).err()?;
        let warning = format!(
            "cannot write beside the state file {}: {error}; a restart would not know of this",
            file.display()
        );
        tracing::warn!("{warning}");
        Some(warning)
    }

    /// Ends what has its end: rules, and what nobody confirmed. Says whether something did.
    pub(in crate::agent) fn expire_firewall(&mut self) -> bool {
        let now = Instant::now();
        let over = self.rules.expire(now);
        for place in &over {
            let words = rules::in_words(place);
            tracing::info!(
                kind = "firewall",
                "firewall: {words} is what the config says again, its time is over"
            );
        }
        let is_unconfirmed = self.probation.as_ref().is_some_and(|one| one.ends <= now);
        if let Some(probation) = self.probation.take_if(|_| is_unconfirmed) {
            self.model.firewall = probation.before;
            tracing::warn!(
                kind = "firewall",
                "nobody confirmed the firewall that was applied: the one before holds again"
            );
        }
        if over.is_empty() && !is_unconfirmed {
            return false;
        }
        self.rules.put_into(&mut self.model);
        if let Err(error) = self.apply_firewall() {
            tracing::error!("{error}");
        }
        if !over.is_empty() {
            self.save_rules();
        }
        true
    }

    /// Whom a reload would lock out of this host, so that it is refused.
    pub(in crate::agent) fn locked_out_by(&self, model: &model::Model) -> Option<String> {
        locked_out(Some(&self.model), model, &self.rules.actions())
    }

    /// What a reload would cut off, as a warning.
    pub(in crate::agent) fn cut_by(&self, model: &model::Model) -> Option<String> {
        let (before, after) = self.change_to(model)?;
        cut_off(&before, &after, None)
    }

    /// Whom of these a reload would cut off, so that it is refused.
    pub(in crate::agent) fn cut_callers_by(
        &self,
        model: &model::Model,
        callers: &[IpAddr],
    ) -> Option<String> {
        let (before, after) = self.change_to(model)?;
        if after.is_dry_run {
            return None;
        }
        let nothing = plan::Entries::new();
        let before = if before.is_dry_run {
            &nothing
        } else {
            &before.entries
        };
        cut::cut_callers(before, &after.entries, callers)
    }

    /// What a config changes of the host's lists, if anything.
    fn change_to(&self, model: &model::Model) -> Option<(Wanted, Wanted)> {
        let rules = self.rules.actions();
        let before = plan::wanted(&self.model, &rules);
        let after = plan::wanted(model, &rules);
        (before != after).then_some((before, after))
    }
}

fn cut_off(before: &Wanted, after: &Wanted, caller: Option<IpAddr>) -> Option<String> {
    if after.is_dry_run {
        return None;
    }
    let nothing = plan::Entries::new();
    let before = if before.is_dry_run {
        &nothing
    } else {
        &before.entries
    };
    cut::cut_off(before, &after.entries, &cut::peers(), caller)
}

/// Whom a config locks out of this host that another one does not.
pub(in crate::agent) fn locked_out(
    before: Option<&model::Model>,
    after: &model::Model,
    rules: &plan::Rules,
) -> Option<String> {
    if !after.firewall.locked || after.firewall.dry_run {
        return None;
    }
    let before = before.filter(|model| !model.firewall.dry_run);
    let before = before.map(|model| plan::wanted(model, rules));
    let before = before.as_ref().and_then(|wanted| wanted.lock.as_ref());
    // What is for a service on this host is steered, which goes on.
    let services: Vec<u16> = after.services.iter().map(|service| service.port).collect();
    let mut peers = cut::peers();
    peers.retain(|peer| !services.contains(&peer.port()));
    let after = plan::wanted(after, rules).lock?;
    cut::locked_out(before, &after, &peers)
}

/// That a prefix which is denied is one of those that never are.
fn protected(after: &Wanted, prefix: model::Prefix) -> Option<String> {
    let own: Prefix = plan::of_config(prefix);
    let is_allowed = after.entries.get(&own) == Some(&Action::Allow);
    is_allowed.then(|| {
        format!("{prefix} stays allowed: it is a backend, a server of [mysql], a peer of [cluster] or a neighbour's")
    })
}
