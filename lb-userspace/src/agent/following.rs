//! What the agent is told by checks, by the routing socket and by interfaces.

use std::sync::PoisonError;

use super::{Agent, core::Core, interfaces};
use crate::{
    check_lane::{SOCKETS_END, STEERING_END},
    health::Report,
    next_hop::{Event, Link},
};

impl Agent {
    /// Takes in what checks gave, and says whether the tables may have to change.
    pub(super) fn note_reports(&mut self, reports: &mut Vec<Report>) -> bool {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = false;
        for report in reports.drain(..) {
            if !self.monitor.is_current(&report) {
                continue;
            }
            if let Some(address) = core.silent_address(&report) {
                self.resolver.verify(address);
            }
            changes |= core.note_report(report);
        }
        changes
    }

    /// Has the ways to all backends followed, and no others.
    pub(super) fn follow_ways(&self) {
        let addresses = {
            let mut core = self.lock();
            let addresses = core.addresses();
            core.next_hops
                .retain(|address, _| addresses.contains(address));
            addresses
        };
        self.resolver.set_addresses(addresses);
    }

    /// Takes in an event, and says whether the tables of backends may have to change.
    pub(super) fn note_event(&mut self, event: Event) -> bool {
        match event {
            Event::NextHop { address, next_hop } => {
                let is_elsewhere = self.lock().note_next_hop(address, next_hop);
                if is_elsewhere {
                    self.check_anew();
                }
                true
            }
            Event::Link { name, link } => {
                // Before that they are read anew.
                self.is_attached && self.follow_link(&name, link)
            }
        }
    }

    /// Follows the interfaces that steering attaches to, and those below them. Says whether the
    /// tables of backends may have to change.
    fn follow_link(&mut self, name: &str, link: Option<Link>) -> bool {
        if [SOCKETS_END, STEERING_END].contains(&name) {
            // The agent's own; what it does there itself is told late, so it looks itself.
            self.lane_care.begin();
            return false;
        }
        self.links.retain(|known| known.name != name);
        self.links.extend(link.clone());
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let Core {
            dataplane: Some(dataplane),
            app_host,
            model,
            client_mtu,
            ..
        } = &mut *core
        else {
            return false;
        };
        if let Some(app_host) = app_host {
            app_host.follow_link(name, link.as_ref());
        }
        let steered = interfaces::steered(model);
        let described = interfaces::descriptions(&steered, &self.links);
        let mtu = interfaces::smallest_mtu(&described, &self.links);
        let is_mtu_new = std::mem::replace(client_mtu, mtu) != mtu;
        if described != self.described {
            match dataplane.tables.set_interfaces(&described) {
                Ok(()) => self.described = described,
                Err(error) => tracing::error!("{error}"),
            }
        }
        let attached = dataplane
            .attached()
            .get(name)
            .map(|attached| attached.ifindex);
        let result = match (attached, link) {
            (Some(ifindex), Some(link)) if ifindex == link.ifindex => Ok(()),
            (Some(_), None) => {
                tracing::warn!(
                    kind = "interface_gone",
                    "{name} is gone; nothing is steered there until it comes back"
                );
                dataplane.forget(name)
            }
            (_, Some(link)) if model.agent.interfaces.iter().any(|ours| ours == name) => {
                tracing::info!(kind = "interface_back", "{name} is back");
                interfaces::attach(dataplane, &model.agent, &link)
            }
            // Never attached.
            _ => Ok(()),
        };
        if let Err(error) = result {
            tracing::error!("{error}");
        }
        is_mtu_new
    }
}
