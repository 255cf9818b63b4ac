//! Keeps a backend's own host ready for direct return: the decapsulation program on its interfaces,
//! the VIPs on `lo`, the sysctls.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use lb_common::{address::Address, decap::abi::accepts};

use super::{Error, interfaces};
use crate::{
    app_host::{self, Host, Undone},
    config::model::{self, Decap as Kind, Model, XdpMode},
    dataplane::{self, Dataplane, Decap, DecapRules},
    next_hop::Link,
    status,
};

/// See the module.
pub(super) struct AppHost {
    config: model::AppHost,
    xdp_mode: XdpMode,
    pin_path: PathBuf,
    /// Whether an earlier agent left something that works.
    was_there: bool,
    decap: Decap,
    /// Once it is prepared.
    host: Option<Host>,
    /// VIPs that could not be put back on `lo`.
    missing: Vec<IpAddr>,
}

/// How often the VIPs are looked after.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

impl AppHost {
    /// On a host that does not steer. Nothing is attached or changed yet.
    pub(super) fn alone(config: &model::AppHost, model: &Model) -> Result<Self, dataplane::Error> {
        let decap = Decap::open(&model.agent.pin_path, &rules(config))?;
        Ok(Self::new(config, model, decap))
    }

    /// Beside steering, if the config has an app host.
    pub(super) fn beside(
        dataplane: &Dataplane,
        model: &Model,
    ) -> Result<Option<Self>, dataplane::Error> {
        let Some(config) = &model.app_host else {
            return Ok(None);
        };
        let decap = Decap::beside(dataplane, &rules(config))?;
        Ok(Some(Self::new(config, model, decap)))
    }

    fn new(config: &model::AppHost, model: &Model, decap: Decap) -> Self {
        let pin_path = model.agent.pin_path.clone();
        Self {
            config: config.clone(),
            xdp_mode: model.agent.xdp_mode,
            was_there: decap.taken_over || app_host::is_noted(&pin_path),
            pin_path,
            decap,
            host: None,
            missing: Vec::new(),
        }
    }

    /// Whether an earlier agent left something that works.
    pub(super) const fn was_there(&self) -> bool {
        self.was_there
    }

    /// Prepares the host and attaches.
    pub(super) fn bring_up(&mut self, links: &[Link]) -> Result<(), Error> {
        let found = interfaces::find(&self.config.interfaces, links)?;
        let host = Host::prepare(&self.pin_path, &self.config.interfaces, &self.config.vips)?;
        self.host = Some(host);
        for link in &found {
            self.attach(link)?;
        }
        for name in self.decap.detach_others(&self.config.interfaces)? {
            tracing::info!("no packets are decapsulated on {name} any more");
        }
        let vips: Vec<String> = self.config.vips.iter().map(IpAddr::to_string).collect();
        tracing::info!("the VIPs {} are on lo", vips.join(", "));
        Ok(())
    }

    /// Removes what a steering agent left, on a host that does not steer any more.
    pub(super) fn clear_steering(&self) -> Result<(), dataplane::Error> {
        for name in self.decap.clear_steering()? {
            tracing::info!("nothing is steered on {name} any more");
        }
        Ok(())
    }

    fn attach(&mut self, link: &Link) -> Result<(), dataplane::Error> {
        let (target, wish) = (interfaces::target(link), interfaces::wish(self.xdp_mode));
        let how = self.decap.attach(&target, wish)?;
        if let (Some(how), Some(attached)) = (how, self.decap.attached(&link.name)) {
            interfaces::tell("decapsulation", link, attached, how);
        }
        Ok(())
    }

    /// Follows the interfaces of the config. Links of others are none of its business.
    pub(super) fn follow_link(&mut self, name: &str, link: Option<&Link>) {
        if !self.config.interfaces.iter().any(|ours| ours == name) {
            return;
        }
        let attached = self.decap.attached(name).map(|attached| attached.ifindex);
        let result = match (attached, link) {
            (Some(ifindex), Some(link)) if ifindex == link.ifindex => Ok(()),
            (_, Some(link)) => self.take_back(link),
            (Some(_), None) => {
                tracing::warn!(
                    kind = "interface_gone",
                    "{name} is gone; nothing is decapsulated there until it comes back"
                );
                self.decap.forget(name).map_err(Error::from)
            }
            (None, None) => Ok(()),
        };
        if let Err(error) = result {
            tracing::error!("{error}");
        }
    }

    /// An interface is there again, or tells of another change without a program on it.
    fn take_back(&mut self, link: &Link) -> Result<(), Error> {
        if let Some(host) = &self.host
            && let Err(error) = host.restore()
        {
            tracing::error!("{error}");
        }
        Ok(self.attach(link)?)
    }

    /// Puts VIPs back that somebody took from `lo`.
    pub(super) fn keep_vips(&mut self) {
        let Some(host) = &self.host else { return };
        let vips = match host.vips() {
            Ok(vips) => vips,
            Err(error) => return tracing::error!("{error}"),
        };
        let missing = vips.into_iter().filter(|(_, is_on_lo)| !is_on_lo);
        let missing: Vec<IpAddr> = missing.map(|(vip, _)| vip).collect();
        if missing.is_empty() {
            return self.missing.clear();
        }
        // Where it cannot be helped, that is said once.
        let is_news = missing != self.missing;
        if is_news {
            let list: Vec<String> = missing.iter().map(IpAddr::to_string).collect();
            tracing::warn!(
                "lo has lost {}, without which there is no direct return; putting it back",
                list.join(", ")
            );
        }
        match host.restore() {
            Ok(()) => self.missing.clear(),
            Err(error) => {
                if is_news {
                    tracing::error!("{error}");
                }
                self.missing = missing;
            }
        }
    }

    /// What the agent tells about it.
    pub(super) fn status(&self) -> status::AppHost {
        let verdicts = self.decap.verdicts().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Vec::new()
        });
        let vips = self.host.as_ref().map_or(Ok(Vec::new()), Host::vips);
        let vips = vips.unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Vec::new()
        });
        let interface = |name: &String| {
            let attached = self.decap.attached(name);
            status::AppHostInterface {
                name: name.clone(),
                xdp_mode: attached.map(|attached| attached.mode.word().to_owned()),
                program_id: attached.map(|attached| attached.program_id),
            }
        };
        status::AppHost {
            interfaces: self.config.interfaces.iter().map(interface).collect(),
            vips: vips
                .into_iter()
                .map(|(address, on_lo)| status::Vip {
                    address: address.to_string(),
                    on_lo,
                })
                .collect(),
            verdicts: verdicts.into_iter().collect(),
        }
    }

    /// Undoes everything, or leaves it as it is.
    pub(super) fn end(mut self, keeps: bool) -> Result<(), Error> {
        if keeps {
            self.decap.close();
            tracing::info!("the VIPs stay on lo, and decapsulation goes on");
            return Ok(());
        }
        let detached = self.decap.detach_others(&[]);
        // Also when that has failed; and before the pins are given free, so that no other agent
        // comes in between.
        let undone = app_host::undo(&self.pin_path)?;
        let links = detached?;
        self.decap.detach()?;
        if !links.is_empty() {
            tracing::info!("decapsulation detached from {}", links.join(", "));
        }
        tell(undone);
        Ok(())
    }
}

/// Undoes what an app host's agent left, on a host that is none any more.
pub(super) fn clear(dataplane: &Dataplane, model: &Model) -> Result<(), Error> {
    for name in dataplane.clear_decap()? {
        tracing::info!("no packets are decapsulated on {name} any more");
    }
    tell(app_host::undo(&model.agent.pin_path)?);
    Ok(())
}

fn tell(undone: Option<Undone>) {
    if let Some(Undone { vips, settings }) = undone {
        let vips: Vec<String> = vips.iter().map(IpAddr::to_string).collect();
        let taken = if vips.is_empty() {
            "nothing".to_owned()
        } else {
            vips.join(", ")
        };
        tracing::info!("took {taken} from lo; {settings} sysctls are what they were");
    }
}

fn rules(config: &model::AppHost) -> DecapRules {
    let bit = |kind: &Kind| match kind {
        Kind::IpIp => accepts::IPIP,
        Kind::Gue => accepts::GUE,
    };
    DecapRules {
        accepts: config.decap.iter().map(bit).fold(0, |all, bit| all | bit),
        vips: config.vips.iter().map(|vip| Address::from(*vip)).collect(),
        sources: config
            .allowed_sources
            .iter()
            .map(|prefix| (Address::from(prefix.address), prefix.length))
            .collect(),
    }
}
