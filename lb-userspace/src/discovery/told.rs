//! What of sources is worth a line in the log: each change once, and no flood from one that comes
//! and goes.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

/// How long changes are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// Changes of one source that are told within that time.
const MOST_CHANGES: u32 = 12;
/// Reasons that are told of one outage.
const MOST_REASONS: usize = 3;

/// What to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Nothing.
    Nothing,
    /// It.
    Change,
    /// It, and that further changes are not told for a while.
    LastOfMany,
}

#[derive(Debug, Default)]
struct Source {
    /// Why it does not answer, as far as that was told; nothing where it does.
    reasons: Option<BTreeSet<String>>,
    /// Whether its outage was told, so that its end is of interest.
    is_outage_told: bool,
    since: Option<Instant>,
    changes: u32,
}

impl Source {
    fn change(&mut self, now: Instant) -> Line {
        if self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= WINDOW)
        {
            self.since = Some(now);
            self.changes = 0;
        }
        self.changes += 1;
        match self.changes {
            ..MOST_CHANGES => Line::Change,
            MOST_CHANGES => Line::LastOfMany,
            _ => Line::Nothing,
        }
    }
}

/// What was told of each service's source.
#[derive(Debug, Default)]
pub struct Told(HashMap<String, Source>);

impl Told {
    /// It does not answer.
    pub fn failed(&mut self, service: &str, reason: &str, now: Instant) -> Line {
        let source = self.0.entry(service.to_owned()).or_default();
        let Some(reasons) = &mut source.reasons else {
            source.reasons = Some(BTreeSet::from([reason.to_owned()]));
            let line = source.change(now);
            source.is_outage_told = line != Line::Nothing;
            return line;
        };
        let is_new = reasons.len() < MOST_REASONS && reasons.insert(reason.to_owned());
        if is_new && source.is_outage_told {
            Line::Change
        } else {
            Line::Nothing
        }
    }

    /// It answers.
    pub fn answered(&mut self, service: &str, now: Instant) -> Line {
        let Some(source) = self.0.get_mut(service) else {
            return Line::Nothing;
        };
        if source.reasons.take().is_none() || !source.is_outage_told {
            return Line::Nothing;
        }
        // Whoever was told of an outage is told of its end.
        match source.change(now) {
            Line::LastOfMany => Line::LastOfMany,
            Line::Change | Line::Nothing => Line::Change,
        }
    }

    /// Forgets all but these services.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.0.retain(|service, _| is_kept(service));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_whatever_its_reasons_and_so_is_its_end() {
        let mut told = Told::default();
        let now = Instant::now();
        assert_eq!(told.answered("web", now), Line::Nothing);
        assert_eq!(told.failed("web", "refused", now), Line::Change);
        assert_eq!(told.failed("web", "silent", now), Line::Change);
        for reason in ["refused", "silent", "refused"] {
            assert_eq!(told.failed("web", reason, now), Line::Nothing);
        }
        assert_eq!(told.failed("web", "a", now), Line::Change);
        assert_eq!(
            told.failed("web", "b", now),
            Line::Nothing,
            "enough reasons"
        );
        assert_eq!(told.failed("other", "refused", now), Line::Change);
        assert_eq!(told.answered("web", now), Line::Change);
        assert_eq!(told.answered("web", now), Line::Nothing);
    }

    #[test]
    fn one_that_comes_and_goes_is_told_so_often_in_a_minute() {
        let mut told = Told::default();
        let begin = Instant::now();
        let mut lines = 0;
        for second in 0..600 {
            let now = begin + Duration::from_secs(second);
            let line = if second % 2 == 0 {
                told.failed("web", "refused", now)
            } else {
                told.answered("web", now)
            };
            lines += u32::from(line != Line::Nothing);
        }
        assert!((110..=140).contains(&lines), "{lines} lines in ten minutes");
        let later = begin + Duration::from_secs(700);
        assert_eq!(told.failed("web", "refused", later), Line::Change);
        assert_eq!(told.answered("web", later), Line::Change);
    }
}
