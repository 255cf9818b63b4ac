//! Somebody may remove the interfaces that checks through services take, or switch them off, or take
//! their route or rule. That says nothing of any backend: checks rest, and the way is made anew.

use std::{sync::PoisonError, time::Duration};

use tokio::time::Instant;

use super::{
    Agent, Error,
    core::Core,
    interfaces,
    lane::{is_wanted, wants_v6},
};
use crate::{
    check_lane::{Pair, STEERING_END},
    next_hop,
};

/// How soon what was made anew in vain, or was lost again, is made once more; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// What lasts that long lasts.
const CALM: Duration = Duration::from_secs(120);

/// When to look after the way.
#[derive(Debug, Default)]
pub(super) struct LaneCare {
    due: Option<Instant>,
    /// When it was last made anew, or tried to be, and how long to wait before the next time.
    last: Option<(Instant, Duration)>,
    /// Whether it was said that there is none.
    is_told: bool,
}

impl LaneCare {
    /// Something may have become of it.
    pub(super) fn begin(&mut self) {
        self.due.get_or_insert_with(Instant::now);
    }

    pub(super) const fn is_due(&self) -> bool {
        self.due.is_some()
    }

    pub(super) fn due(&self) -> Instant {
        self.due.unwrap_or_else(Instant::now)
    }

    /// When it may be made anew, at the earliest.
    fn turn(&self, now: Instant) -> Instant {
        match self.last {
            Some((last, wait)) if now < last + CALM => last + wait,
            Some(_) | None => now,
        }
    }

    fn note_try(&mut self, now: Instant) {
        let wait = match self.last {
            Some((last, wait)) if now < last + CALM => (wait * 2).min(LONGEST_WAIT),
            Some(_) | None => FIRST_WAIT,
        };
        self.last = Some((now, wait));
    }
}

impl Agent {
    /// Whether a check found no way.
    pub(super) fn is_lane_doubted(&self) -> bool {
        let core = self.lock();
        core.lane.as_ref().is_some_and(|lane| lane.is_doubted())
    }

    /// Looks whether the way of checks through services is whole, and makes it anew if it is not.
    /// Says whether the tables may have to change.
    pub(super) async fn care_for_lane(&mut self) -> bool {
        self.lane_care.due = None;
        if !is_wanted(&self.lock().model) {
            return false;
        }
        let Some(damage) = self.damage().await else {
            self.lane_care.is_told = false;
            return false;
        };
        if !self.lane_care.is_told {
            self.lane_care.is_told = true;
            tracing::error!(
                kind = "check_way_lost",
                "checks with via = \"service\" have no way: {damage}; backends stay as they are \
                 until it is made anew"
            );
        }
        self.lose_lane();
        let now = Instant::now();
        let turn = self.lane_care.turn(now);
        if turn > now {
            self.lane_care.due = Some(turn);
            return false;
        }
        self.lane_care.note_try(now);
        if let Err(error) = self.renew_lane().await {
            tracing::error!("{error}");
            self.lane_care.due = Some(self.lane_care.turn(now));
            return false;
        }
        self.lane_care.is_told = false;
        tracing::info!(
            kind = "check_way_found",
            "checks with via = \"service\" have a way again"
        );
        self.check_anew();
        true
    }

    /// What is wrong with it, in words.
    async fn damage(&self) -> Option<String> {
        let Some(pair) = &self.pair else {
            return Some("its interfaces are gone".to_owned());
        };
        match pair.damage().await {
            Ok(Some(damage)) => return Some(damage),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("{error}");
                return None;
            }
        }
        match &self.lock().lane {
            None => Some("steering is not attached to it".to_owned()),
            Some(lane) if lane.is_doubted() => {
                Some("its route or its rule of IPv6 is gone, or its address".to_owned())
            }
            Some(_) => None,
        }
    }

    /// Has checks through services rest until there is another way.
    pub(super) fn lose_lane(&mut self) {
        self.monitor.set_lane(None);
        self.links.retain(|link| link.name != STEERING_END);
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        core.lane = None;
        // The interface of that name will be another one.
        let forgotten = match &mut core.dataplane {
            Some(dataplane) => dataplane.forget(STEERING_END),
            None => Ok(()),
        };
        if let Err(error) = forgotten.and_then(|()| core.close_lane()) {
            tracing::error!("{error}");
        }
    }

    async fn renew_lane(&mut self) -> Result<(), Error> {
        let (pin_path, has_v6) = {
            let core = self.lock();
            (core.model.agent.pin_path.clone(), wants_v6(&core.model))
        };
        self.pair = Some(Pair::create(&pin_path, has_v6).await?);
        let links = next_hop::links().await.map_err(Error::Netlink)?;
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let core = &mut *core;
        self.links = links;
        let Core {
            dataplane: Some(dataplane),
            model,
            ..
        } = &mut *core
        else {
            return Ok(());
        };
        let steered = interfaces::steered(model);
        self.described = interfaces::descriptions(&steered, &self.links);
        dataplane.tables.set_interfaces(&self.described)?;
        for link in interfaces::find(&[STEERING_END.to_owned()], &self.links)? {
            interfaces::attach(dataplane, &model.agent, &link)?;
        }
        core.open_lane(&self.links, &self.monitor)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_again_and_again_is_made_less_and_less_often() {
        let mut care = LaneCare::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..8 {
            let turn = care.turn(now);
            waits.push((turn - now).as_secs());
            now = turn;
            care.note_try(now);
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60]);
        assert_eq!(care.turn(now + CALM), now + CALM);
    }
}
