//! Keeps the firewall's tables what the config and the operator want.
//!
//! A single prefix changes in the generation that holds; more make a new generation, which takes the
//! place of the old one in one step.

mod changing;
mod cut;
mod listing;
mod lock;
pub(super) mod plan;
pub(super) mod rules;
pub(super) mod services;
pub(super) mod ward;

use std::{net::IpAddr, thread, time::Duration};

use lb_common::{
    abi::Ticks,
    firewall::{
        Action, MOST_PREFIXES,
        rate::{Rate, Sources},
    },
};

pub(super) use self::changing::{Probation, locked_out};
use self::{
    plan::{Step, Wanted, control},
    ward::Rules,
};
use super::{core::Core, plan::service_key};
use crate::{
    config::{Model, model::firewall::Bucket},
    dataplane::{Error, FirewallTable, Limits},
};

/// How long packets that began with the old generation may still look at it.
const GRACE: Duration = Duration::from_millis(2);

/// What the tables hold.
#[derive(Debug, Default)]
pub(super) struct Wall {
    /// `None` while that is not known.
    held: Option<Wanted>,
}

/// What is ready to hold.
#[derive(Debug)]
pub(super) struct Prepared {
    wanted: Wanted,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Nothing changes but how it is applied.
    Same,
    /// In the generation that holds.
    Live(Step),
    /// A generation that is filled.
    Generation(u8),
}

impl Wall {
    /// Forgets what the tables hold: they are others now.
    pub(super) fn forget(&mut self) {
        self.held = None;
    }

    /// What holds.
    pub(super) fn held(&self) -> Option<&Wanted> {
        self.held.as_ref()
    }

    /// Does everything that can fail, and nothing that anybody would notice.
    pub(super) fn prepare(
        &mut self,
        table: &mut FirewallTable,
        wanted: Wanted,
    ) -> Result<Prepared, Error> {
        let needed = wanted.prefixes();
        if needed > MOST_PREFIXES as usize {
            return Err(Error::Full {
                what: "prefixes of the firewall",
                capacity: MOST_PREFIXES,
                needed,
            });
        }
        if !table.is_there() {
            return Ok(Prepared {
                wanted,
                way: Way::Same,
            });
        }
        let way = match &self.held {
            Some(held) if held.services != wanted.services || !held.trusts_the_same(&wanted) => {
                Way::Generation(fill(table, &wanted)?)
            }
            Some(held) => match plan::steps(&held.entries, &wanted.entries).as_slice() {
                [] => Way::Same,
                [step] => Way::Live(*step),
                _ => Way::Generation(fill(table, &wanted)?),
            },
            None => {
                // An agent that died may have left some.
                table.remove_others(table.control().generation())?;
                Way::Generation(fill(table, &wanted)?)
            }
        };
        Ok(Prepared { wanted, way })
    }

    /// Has it hold. Says whether something is different.
    pub(super) fn commit(
        &mut self,
        table: &mut FirewallTable,
        prepared: Prepared,
    ) -> Result<bool, Error> {
        let Prepared { wanted, way } = prepared;
        if !table.is_there() {
            return Ok(false);
        }
        let before = table.control();
        let mut is_different = true;
        if let Some(lock) = &wanted.lock {
            table.set_ports(lock.all_ports());
        }
        match way {
            Way::Same => {
                let new = control(&wanted, before.generation());
                is_different = new != before;
                table.set_control(new);
            }
            Way::Live(step) => {
                // If it fails it is not known what holds.
                self.held = None;
                let new = control(&wanted, before.generation());
                match step {
                    Step::Set(prefix, action) => {
                        table.set(prefix, action, before.generation())?;
                        table.set_control(new);
                    }
                    Step::Remove(prefix) => {
                        table.set_control(new);
                        table.remove(prefix, before.generation())?;
                    }
                }
            }
            Way::Generation(generation) => {
                table.set_control(control(&wanted, generation));
                thread::sleep(GRACE);
                let old = self.held.take();
                self.held = Some(wanted.clone());
                match old {
                    Some(old) => {
                        for prefix in old.entries.keys() {
                            table.remove(*prefix, before.generation())?;
                        }
                        for prefix in old.trusted() {
                            table.distrust(prefix, before.generation())?;
                        }
                        for (scope, access) in &old.services {
                            for prefix in access.keys() {
                                table.remove_of_service(*prefix, *scope, before.generation())?;
                            }
                        }
                    }
                    None => table.remove_others(generation)?,
                }
            }
        }
        self.held = Some(wanted);
        Ok(is_different)
    }
}

/// Fills the generation that does not hold; what is half done is taken back.
fn fill(table: &mut FirewallTable, wanted: &Wanted) -> Result<u8, Error> {
    let present = table.control().generation();
    let next = present.wrapping_add(1);
    table.clear_bits(next);
    let mut entries = wanted.entries.iter();
    let filled = entries
        .try_for_each(|(prefix, action)| table.set(*prefix, *action, next))
        .and_then(|()| {
            wanted
                .trusted()
                .try_for_each(|prefix| table.trust(prefix, next))
        })
        .and_then(|()| {
            let mut services = wanted.services.iter();
            services.try_for_each(|(scope, access)| {
                let mut access = access.iter();
                access.try_for_each(|(prefix, entry)| {
                    table.set_of_service(*prefix, *entry, *scope, next)
                })
            })
        });
    if let Err(error) = filled {
        // The first error is the one to tell.
        let _ = table.remove_others(present);
        return Err(error);
    }
    Ok(next)
}

/// Who of these a config denies, and by which prefix.
pub(super) fn denied(model: &Model, addresses: &[IpAddr]) -> Vec<(IpAddr, String)> {
    let wanted = plan::wanted(model, &plan::Rules::new());
    let of = |address: IpAddr| {
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let (prefix, action) = plan::longest_match(&wanted.entries, address, whole)?;
        let prefix = format!("{}/{}", prefix.address(), prefix.length());
        (action == Action::Deny).then_some((address, prefix))
    };
    addresses
        .iter()
        .filter_map(|address| of(*address))
        .collect()
}

/// What a config says of sources.
fn limits(model: &Model) -> Limits {
    let Some(rate) = &model.firewall.rate else {
        return Limits::default();
    };
    let of = |bucket: Option<Bucket>| {
        bucket.map_or_else(Rate::default, |one| Rate::new(one.per_second, one.burst))
    };
    Limits {
        connections: of(rate.new_connections),
        packets: of(rate.packets),
        flows: rate.flows,
        sources: Sources::new(rate.prefix_v4, rate.prefix_v6, model.firewall.dry_run),
        deny: Ticks::from_seconds(rate.deny_seconds),
    }
}

/// What holds, in words.
pub(super) fn in_words(wanted: &Wanted) -> String {
    let count = |wanted_action| {
        let actions = wanted.entries.values();
        actions.filter(|action| **action == wanted_action).count()
    };
    let lock = match &wanted.lock {
        Some(lock) => lock.in_words(),
        None => String::new(),
    };
    let dry = if wanted.is_dry_run {
        ", and only counts (dry_run)"
    } else {
        ""
    };
    format!(
        "the firewall has {} prefixes that are denied and {} that are allowed{lock}{dry}",
        count(Action::Deny),
        count(Action::Allow)
    )
}

impl Core {
    /// Has the firewall be what the config and the operator want.
    pub(super) fn apply_firewall(&mut self) -> Result<(), Error> {
        self.scopes = self.scopes.next(&self.model.services);
        let wanted = plan::wanted(&self.model, &self.rules.actions())
            .with_services(&self.model, &self.scopes);
        let Some(dataplane) = &mut self.dataplane else {
            return Ok(());
        };
        let table = dataplane.tables.firewall();
        let prepared = self.wall.prepare(table, wanted)?;
        if self.wall.commit(table, prepared)? {
            self.tell_firewall();
        }
        // Only now, as those that are not limited are among the prefixes.
        self.apply_rate();
        self.keep_out();
        Ok(())
    }

    /// Has flows ended that services keep out.
    pub(super) fn keep_out(&self) {
        let is_dry = self.model.firewall.dry_run;
        let services = self.model.services.iter();
        let listed = services.filter(|service| !is_dry && service.firewall.is_used());
        let of = |service| (service_key(service), services::access(&service.firewall));
        self.ward.set(Rules::new(listed.map(of)));
    }

    /// Has the program limit sources as the config says.
    pub(super) fn apply_rate(&mut self) {
        let limits = limits(&self.model);
        if let Some(dataplane) = &mut self.dataplane {
            let set = dataplane.tables.firewall().set_limits(&limits);
            set.unwrap_or_else(|error| tracing::error!("{error}"));
        }
    }

    /// Logs what holds.
    pub(super) fn tell_firewall(&self) {
        if let Some(held) = self.wall.held() {
            tracing::info!(kind = "firewall", "{}", in_words(held));
        }
    }
}
