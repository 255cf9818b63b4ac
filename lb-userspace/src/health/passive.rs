//! What clients' connections say of a backend, beside its checks or instead of them.
//!
//! The data path counts, the agent looks at the counters now and then and hands them in, and this
//! decides. A backend goes down by enough failures within a window, if among all that failed or
//! succeeded from some moment of the window until now they are enough of a share. So one that served
//! a moment ago is noticed at once when it stops, and with a share of 100 % a single success since
//! the last look is enough to stay.
//!
//! A refusal is the backend's own word. That nothing came back may as well be due to the client, which
//! the backend may have banned, so where a backend is checked this alone only has the check made at
//! once, and its failure decides.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use crate::config::model::Passive;

/// For how long a check may decide about a backend of which clients got no answer.
const DOUBT: Duration = Duration::from_secs(60);

/// Handshakes of a backend by what became of them, since its counters began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Completed.
    pub accepted: u64,
    /// Refused by the backend.
    pub refused: u64,
    /// Asked for again, because nothing came back.
    pub unanswered: u64,
}

impl Handshakes {
    /// Those that failed.
    #[must_use]
    pub const fn failed(self) -> u64 {
        self.refused.saturating_add(self.unanswered)
    }

    /// What has come since. Nothing if the counters began anew.
    const fn since(self, earlier: Self) -> Self {
        match (
            self.accepted.checked_sub(earlier.accepted),
            self.refused.checked_sub(earlier.refused),
            self.unanswered.checked_sub(earlier.unanswered),
        ) {
            (Some(accepted), Some(refused), Some(unanswered)) => Self {
                accepted,
                refused,
                unanswered,
            },
            _ => Self {
                accepted: 0,
                refused: 0,
                unanswered: 0,
            },
        }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            accepted: self.accepted.saturating_add(other.accepted),
            refused: self.refused.saturating_add(other.refused),
            unanswered: self.unanswered.saturating_add(other.unanswered),
        }
    }

    /// Without those that nothing came back of.
    const fn told(self) -> Self {
        Self {
            unanswered: 0,
            ..self
        }
    }

    /// Whether they are enough to take a backend down.
    fn condemn(self, fall: u32, percent: u8) -> bool {
        let failed = self.failed();
        let decided = failed.saturating_add(self.accepted);
        failed >= u64::from(fall)
            && failed.saturating_mul(100) >= decided.saturating_mul(percent.into())
    }
}

/// Why a backend is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What became of connections.
    pub handshakes: Handshakes,
    /// Within that long.
    pub within: Duration,
}

impl fmt::Display for Verdict {
    /// "5 of 5 connections refused in 2.0 s (passive)"
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Handshakes {
            accepted,
            refused,
            unanswered,
        } = self.handshakes;
        let all = accepted + refused + unanswered;
        if all == 0 {
            return f.write_str("down since before the agent began (passive)");
        }
        let noun = if all == 1 {
            "connection"
        } else {
            "connections"
        };
        match (refused, unanswered) {
            (refused, 0) => write!(f, "{refused} of {all} {noun} refused")?,
            (0, unanswered) => write!(f, "{unanswered} of {all} {noun} unanswered")?,
            (refused, unanswered) => write!(
                f,
                "{refused} of {all} {noun} refused and {unanswered} unanswered"
            )?,
        }
        write!(f, " in {:.1} s (passive)", self.within.as_secs_f64())
    }
}

/// What follows from what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The backend is down.
    Down(Verdict),
    /// Its check has to be made now.
    Doubt,
}

/// What is thought of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stance {
    /// Nothing is wrong.
    #[default]
    Trust,
    /// It is used again after it was down, and nothing has succeeded since: a single failure is
    /// enough.
    Trial,
    /// Clients got no answer, and its check decides.
    Doubt { verdict: Verdict, since: Instant },
    /// It is down.
    Down {
        verdict: Verdict,
        since: Instant,
        /// Checks in a row that passed since.
        passed: u32,
    },
}

/// Watches one backend.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    stance: Stance,
    /// When the counters were last looked at, and what they were.
    last: Option<(Instant, Handshakes)>,
    /// What came between two looks, with when the first of them was; from the first failure on.
    history: VecDeque<(Instant, Handshakes)>,
}

impl Witness {
    /// Of a backend that was down when its counters were last looked at, by an earlier agent.
    #[must_use]
    pub fn of_one_down(now: Instant) -> Self {
        let verdict = Verdict {
            handshakes: Handshakes::default(),
            within: Duration::ZERO,
        };
        Self {
            stance: Stance::Down {
                verdict,
                since: now,
                passed: 0,
            },
            ..Self::default()
        }
    }

    /// Takes in the counters of a backend that is up, and which a check asks or not, and says what
    /// follows.
    pub fn look(
        &mut self,
        counted: Handshakes,
        now: Instant,
        rule: &Passive,
        is_checked: bool,
    ) -> Option<Finding> {
        let before = self.last.replace((now, counted));
        if self.is_down() {
            return None;
        }
        let (then, before) = before?;
        let new = counted.since(before);
        if new.failed() > 0 || !self.history.is_empty() {
            self.history.push_back((then, new));
        }
        let is_past = |(then, new): &(Instant, Handshakes)| {
            new.failed() == 0 || now.saturating_duration_since(*then) > rule.window
        };
        while self.history.len() > 1 && self.history.front().is_some_and(is_past) {
            self.history.pop_front();
        }
        if self
            .history
            .front()
            .is_some_and(|(_, new)| new.failed() == 0)
        {
            self.history.clear();
        }
        if new.accepted > 0 && self.stance == Stance::Trial {
            self.stance = Stance::Trust;
        }
        if let Stance::Doubt { since, .. } = self.stance
            && now.saturating_duration_since(since) > DOUBT
        {
            self.stance = Stance::Trust;
        }
        let fall = match self.stance {
            Stance::Trial => 1,
            Stance::Trust | Stance::Doubt { .. } | Stance::Down { .. } => rule.fall,
        };
        let mut sum = Handshakes::default();
        let mut doubt = None;
        for (then, new) in self.history.iter().rev() {
            sum = sum.plus(*new);
            if new.failed() == 0 || !sum.condemn(fall, rule.percent) {
                continue;
            }
            let verdict = Verdict {
                handshakes: sum,
                within: now.saturating_duration_since(*then),
            };
            if !is_checked || sum.told().condemn(fall, rule.percent) {
                return Some(Finding::Down(self.condemn(verdict, now)));
            }
            doubt.get_or_insert(verdict);
        }
        let verdict = doubt?;
        if matches!(self.stance, Stance::Doubt { .. }) {
            return None;
        }
        self.stance = Stance::Doubt {
            verdict,
            since: now,
        };
        Some(Finding::Doubt)
    }

    fn condemn(&mut self, verdict: Verdict, now: Instant) -> Verdict {
        self.history.clear();
        self.stance = Stance::Down {
            verdict,
            since: now,
            passed: 0,
        };
        verdict
    }

    /// Takes in a check of a backend that is up, and that began then; says why it should go down, if
    /// it should. One that was under way when nothing came back to clients acquits nobody.
    pub fn hear_doubted(
        &mut self,
        has_passed: Option<bool>,
        began: Instant,
        now: Instant,
    ) -> Option<Verdict> {
        let Stance::Doubt { verdict, since } = self.stance else {
            return None;
        };
        match has_passed {
            Some(true) if began >= since => {
                self.acquit();
                None
            }
            Some(false) => Some(self.condemn(verdict, now)),
            Some(true) | None => None,
        }
    }

    /// Takes in the counters of a backend of which nothing is to be said now: it is down for
    /// another reason, or in maintenance.
    pub fn look_away(&mut self, counted: Handshakes, now: Instant) {
        self.last = Some((now, counted));
        self.history.clear();
        if matches!(self.stance, Stance::Doubt { .. }) {
            self.stance = Stance::Trust;
        }
    }

    /// Whether it is down by what was seen here.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        matches!(self.stance, Stance::Down { .. })
    }

    /// Why it is down.
    #[must_use]
    pub const fn verdict(&self) -> Option<Verdict> {
        match self.stance {
            Stance::Down { verdict, .. } => Some(verdict),
            Stance::Trust | Stance::Trial | Stance::Doubt { .. } => None,
        }
    }

    /// Whether it is used again after it was down, and nothing has succeeded since.
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.stance == Stance::Trial
    }

    /// Takes in a check of a backend that is down, where one was made; says whether it has passed
    /// often enough in a row.
    pub fn hear(&mut self, has_passed: Option<bool>, rise: u32) -> bool {
        let Stance::Down { passed, .. } = &mut self.stance else {
            return true;
        };
        match has_passed {
            Some(true) => *passed = passed.saturating_add(1),
            Some(false) => *passed = 0,
            None => {}
        }
        *passed >= rise
    }

    /// Whether one that nobody checks has been down for long enough.
    #[must_use]
    pub fn has_served_its_time(&self, now: Instant, rule: &Passive) -> bool {
        match self.stance {
            Stance::Down { since, .. } => now.saturating_duration_since(since) >= rule.hold,
            Stance::Trust | Stance::Trial | Stance::Doubt { .. } => false,
        }
    }

    /// It is up again, because its check says so.
    pub fn acquit(&mut self) {
        self.stance = Stance::Trust;
        self.history.clear();
    }

    /// It is up again, for want of anybody who would know better.
    pub fn try_again(&mut self) {
        self.stance = Stance::Trial;
        self.history.clear();
    }
}

#[cfg(test)]
mod tests;
