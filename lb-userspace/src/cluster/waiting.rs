//! What a balancer that starts waits for: that the others have told it of all their connections, or
//! that nobody is there to tell. Pure: the time is an argument.
//!
//! Everybody tells what it has, whether it waits itself or not, so two that start at once wait for
//! nothing.

use std::time::{Duration, Instant};

/// A peer that has not answered by then is not there: two greetings got lost, or nobody heard them.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How a peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is no session with it.
    Absent,
    /// It has not said yet that this one knows everything.
    Telling,
    /// It has.
    Told,
}

/// How the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// So many have told everything.
    Told(usize),
    /// Nobody is there.
    Alone,
    /// It took longer than the config allows.
    TooLong,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    since: Instant,
    most: Duration,
}

impl Waiting {
    /// From now on, for so long at most.
    pub(super) const fn new(since: Instant, most: Duration) -> Self {
        Self { since, most }
    }

    /// How it ended, if it has.
    pub(super) fn look(
        &self,
        now: Instant,
        peers: impl IntoIterator<Item = Standing>,
    ) -> Option<Ended> {
        let waited = now.saturating_duration_since(self.since);
        let (mut told, mut goes_on) = (0, false);
        for peer in peers {
            match peer {
                Standing::Told => told += 1,
                Standing::Telling => goes_on = true,
                Standing::Absent => goes_on |= waited < ANSWERED_WITHIN,
            }
        }
        match (goes_on, told) {
            (true, _) if waited >= self.most => Some(Ended::TooLong),
            (true, _) => None,
            (false, 0) => Some(Ended::Alone),
            (false, told) => Some(Ended::Told(told)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Standing::{Absent, Telling, Told},
        *,
    };

    fn after(seconds: f64, most: f64, peers: &[Standing]) -> Option<Ended> {
        let since = Instant::now();
        let now = since + Duration::from_secs_f64(seconds);
        let waiting = Waiting::new(since, Duration::from_secs_f64(most));
        waiting.look(now, peers.iter().copied())
    }

    #[test]
    fn it_ends_when_all_that_are_there_have_told() {
        assert_eq!(after(0.1, 10.0, &[Told, Told]), Some(Ended::Told(2)));
        assert_eq!(after(0.1, 10.0, &[Told, Telling]), None);
        assert_eq!(after(5.0, 10.0, &[Told, Telling]), None);
        assert_eq!(after(10.0, 10.0, &[Told, Telling]), Some(Ended::TooLong));
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        assert_eq!(after(0.5, 10.0, &[Told, Absent]), None);
        assert_eq!(after(1.0, 10.0, &[Told, Absent]), Some(Ended::Told(1)));
        assert_eq!(after(1.0, 10.0, &[Absent]), Some(Ended::Alone));
        assert_eq!(after(2.0, 10.0, &[Absent, Telling]), None);
    }

    #[test]
    fn no_wait_is_none_at_all() {
        assert_eq!(after(0.0, 0.0, &[Absent]), Some(Ended::TooLong));
    }
}
