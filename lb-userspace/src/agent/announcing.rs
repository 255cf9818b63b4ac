//! Keeps VIPs on `lo` while a service of theirs has a backend in rotation, for a routing daemon that
//! announces what stands there.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::core::Core;
use crate::{
    app_host::{self, Undone},
    config::model::Announce,
    status,
};

/// How long steering goes on after the VIPs were withdrawn: routers that hear of it need a moment,
/// and packets on their way as well.
pub(super) const ROUTERS_WAIT: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    pin_path: PathBuf,
    /// Once steering is attached.
    is_on: bool,
    /// What the config wants announced, and whether it is.
    vips: BTreeMap<IpAddr, bool>,
    /// What was told of failing.
    trouble: Option<String>,
}

impl Announcer {
    /// Of an agent that has changed nothing yet.
    pub(super) fn new(pin_path: &Path) -> Self {
        Self {
            pin_path: pin_path.to_owned(),
            ..Self::default()
        }
    }

    /// What the agent tells about it.
    pub(super) fn status(&self) -> Vec<status::Vip> {
        let vip = |(address, on_lo): (&IpAddr, &bool)| status::Vip {
            address: address.to_string(),
            on_lo: *on_lo,
        };
        self.vips.iter().map(vip).collect()
    }

    /// Makes `lo` have what is live, and tells of changes. Only a thorough one looks for what
    /// somebody else took away.
    fn follow(&mut self, live: BTreeMap<IpAddr, bool>, is_thorough: bool) {
        let is_idle = live.is_empty() && self.vips.is_empty();
        if !self.is_on || is_idle || (live == self.vips && !is_thorough) {
            return;
        }
        let there = live.iter().filter(|(_, is_live)| **is_live);
        let there: Vec<IpAddr> = there.map(|(vip, _)| *vip).collect();
        if let Err(error) = app_host::announce(&self.pin_path, &there) {
            let trouble = error.to_string();
            // The look after this one tries again.
            if self.trouble.as_ref() != Some(&trouble) {
                tracing::error!("{trouble}");
            }
            self.trouble = Some(trouble);
            return;
        }
        self.trouble = None;
        for (vip, is_live) in &live {
            let was_live = self.vips.get(vip);
            if *is_live && was_live != Some(&true) {
                tracing::info!(kind = "vip_announced", "{vip} is on lo, to be announced");
            } else if !is_live && was_live != Some(&false) {
                tracing::warn!(
                    kind = "vip_withdrawn",
                    "{vip} is not on lo, and not announced, as no service there has a backend in \
                     rotation"
                );
            }
        }
        for vip in self.vips.keys().filter(|vip| !live.contains_key(vip)) {
            tracing::info!(
                kind = "vip_withdrawn",
                "{vip} is not on lo any more, as the config does not ask for it"
            );
        }
        self.vips = live;
    }

    /// Withdraws everything, and says whether something was announced.
    pub(super) fn end(self) -> bool {
        self.is_on && clear(&self.pin_path)
    }
}

/// Withdraws what an agent of this pin path announced, and says whether there was something.
pub(super) fn clear(pin_path: &Path) -> bool {
    match app_host::withdraw(pin_path) {
        Ok(Some(Undone { vips, .. })) if !vips.is_empty() => {
            let list: Vec<String> = vips.iter().map(IpAddr::to_string).collect();
            tracing::info!(
                kind = "vip_withdrawn",
                "took {} from lo, so that routers send their packets elsewhere",
                list.join(", ")
            );
            true
        }
        Ok(_) => false,
        Err(error) => {
            tracing::error!("{error}");
            false
        }
    }
}

impl Core {
    /// From now on, as steering is attached, unless other balancers are still telling of their
    /// connections; also takes away what a former agent announced and the config does not ask for.
    pub(super) fn begin_announcing(&mut self) {
        if self.announcer.is_on || self.is_catching_up() {
            return;
        }
        self.announcer.is_on = true;
        if self.announceable().is_empty() {
            clear(&self.model.agent.pin_path);
        }
        self.announce(true);
    }

    /// Announces who has backends in rotation, and nobody else.
    pub(super) fn announce(&mut self, is_thorough: bool) {
        let live = self.announceable();
        self.announcer.follow(live, is_thorough);
    }

    /// The VIPs to announce, each with whether a service there has a backend in rotation.
    fn announceable(&self) -> BTreeMap<IpAddr, bool> {
        let mut vips = BTreeMap::new();
        for (service, state) in self.model.services.iter().zip(&self.services) {
            if service.announce == Announce::Lo {
                *vips.entry(service.address).or_insert(false) |= !self.held.is_empty(&state.key);
            }
        }
        vips
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_announced_before_steering_is_attached() {
        let mut announcer = Announcer::new(Path::new("/sys/fs/bpf/lb-test-announcing"));
        let vip = IpAddr::from([203, 0, 113, 10]);
        announcer.follow(BTreeMap::from([(vip, true)]), true);
        assert_eq!(announcer.status(), []);
        assert!(!announcer.end());
    }
}
