use proptest::prelude::*;

use super::*;

const STEP: Duration = Duration::from_millis(500);

fn rule(fall: u32, window_seconds: u64, percent: u8) -> Passive {
    Passive {
        fall,
        window: Duration::from_secs(window_seconds),
        percent,
        hold: Duration::from_secs(10),
    }
}

/// A backend, its counters, and a clock that goes half a second from look to look.
struct Story {
    witness: Witness,
    counted: Handshakes,
    now: Instant,
    rule: Passive,
    is_checked: bool,
}

impl Story {
    fn new(rule: Passive) -> Self {
        let mut story = Self {
            witness: Witness::default(),
            counted: Handshakes {
                accepted: 1000,
                refused: 70,
                unanswered: 7,
            },
            now: Instant::now(),
            rule,
            is_checked: false,
        };
        assert_eq!(story.look([0; 3]), None, "what was before does not count");
        story
    }

    /// So many are accepted, refused and unanswered until the next look.
    fn look(&mut self, [accepted, refused, unanswered]: [u64; 3]) -> Option<Verdict> {
        self.counted = self.counted.plus(Handshakes {
            accepted,
            refused,
            unanswered,
        });
        self.now += STEP;
        match self
            .witness
            .look(self.counted, self.now, &self.rule, self.is_checked)?
        {
            Finding::Down(verdict) => Some(verdict),
            Finding::Doubt => {
                assert!(self.is_checked && !self.witness.is_down());
                None
            }
        }
    }
}

/// `+` is an accepted connection, `-` a refused one, `?` an unanswered one; looks are apart by
/// blanks. Says at which look it went down, and why.
fn history(rule: Passive, looks: &str) -> Option<(usize, String)> {
    let mut story = Story::new(rule);
    for (number, look) in (1..).zip(looks.split(' ')) {
        let count = |letter| look.matches(letter).count() as u64;
        if let Some(verdict) = story.look([count('+'), count('-'), count('?')]) {
            assert!(story.witness.is_down());
            return Some((number, verdict.to_string()));
        }
    }
    assert!(!story.witness.is_down());
    None
}

#[test]
fn rows() {
    let usual = rule(5, 10, 100);
    for (rule, looks, expected) in [
        (usual, "+++ +++ +++", None),
        (usual, "---- ", None),
        (
            usual,
            "-----",
            Some((1, "5 of 5 connections refused in 0.5 s (passive)")),
        ),
        // A moment ago it served.
        (
            usual,
            "++++ ++- ---- -",
            Some((4, "5 of 5 connections refused in 1.0 s (passive)")),
        ),
        (
            usual,
            "- - - ? ?",
            Some((
                5,
                "3 of 5 connections refused and 2 unanswered in 2.5 s (passive)",
            )),
        ),
        (
            usual,
            "??? ???",
            Some((2, "6 of 6 connections unanswered in 1.0 s (passive)")),
        ),
        // One success between them is enough.
        (usual, "---- +- ---", None),
        (usual, "----------+ ----------+ ----------+", None),
        // Too slow for the window.
        (rule(3, 2, 100), "-   -   -   -   -", None),
        (
            rule(3, 5, 100),
            "-   -   -",
            Some((7, "3 of 3 connections refused in 3.5 s (passive)")),
        ),
        // A share.
        (
            rule(4, 10, 50),
            "++- ++- +-- --",
            Some((4, "4 of 5 connections refused in 1.0 s (passive)")),
        ),
        (rule(4, 10, 50), "++- ++- ++- ++- ++- ++-", None),
        (
            rule(1, 10, 100),
            "+++ -",
            Some((2, "1 of 1 connection refused in 0.5 s (passive)")),
        ),
    ] {
        let found = history(rule, looks);
        let expected = expected.map(|(look, text)| (look, text.to_owned()));
        assert_eq!(found, expected, "{looks:?}");
    }
}

#[test]
fn of_one_that_is_checked_silence_is_no_proof() {
    let checked = || {
        let mut story = Story::new(rule(5, 10, 100));
        story.is_checked = true;
        story
    };
    let is_doubted = |story: &Story| matches!(story.witness.stance, Stance::Doubt { .. });

    // Its own word is.
    let mut story = checked();
    assert_eq!(story.look([0, 4, 4]), None);
    assert!(is_doubted(&story));
    assert!(story.look([0, 1, 0]).is_some());

    // A check decides, and one that began before says nothing good.
    let mut story = checked();
    assert_eq!(story.look([0, 0, 5]), None);
    assert!(is_doubted(&story));
    let (before, now) = (story.now - STEP, story.now);
    let later = now + STEP;
    assert_eq!(story.witness.hear_doubted(Some(true), before, now), None);
    assert_eq!(story.witness.hear_doubted(None, now, later), None);
    assert!(is_doubted(&story));
    assert_eq!(story.witness.hear_doubted(Some(true), now, later), None);
    assert_eq!(story.witness.stance, Stance::Trust);
    // And nothing is left of what was seen.
    assert_eq!(story.look([0, 0, 4]), None);
    assert!(!is_doubted(&story));
    assert_eq!(story.look([0, 0, 1]), None);
    assert!(is_doubted(&story));
    let verdict = story.witness.hear_doubted(Some(false), before, later);
    let words = "5 of 5 connections unanswered in 1.0 s (passive)";
    assert_eq!(verdict.unwrap().to_string(), words);
    assert!(story.witness.is_down());

    // Not for ever.
    let mut story = checked();
    assert_eq!(story.look([0, 0, 5]), None);
    story.now += DOUBT;
    assert_eq!(story.look([1, 0, 0]), None);
    let now = story.now;
    assert_eq!(story.witness.hear_doubted(Some(false), now, now), None);
    assert!(!story.witness.is_down());
}

#[test]
fn one_that_an_earlier_agent_took_down_serves_its_time() {
    let (now, rule) = (Instant::now(), rule(5, 10, 100));
    let mut witness = Witness::of_one_down(now);
    let verdict = witness.verdict().unwrap().to_string();
    assert_eq!(verdict, "down since before the agent began (passive)");
    assert!(!witness.has_served_its_time(now + rule.hold / 2, &rule));
    assert!(witness.has_served_its_time(now + rule.hold, &rule));
    witness.try_again();
    assert!(witness.is_on_trial());
}

#[test]
fn a_check_has_to_pass_in_a_row_before_it_is_up_again() {
    let mut story = Story::new(rule(5, 10, 100));
    assert!(story.look([0, 9, 0]).is_some());
    assert_eq!(story.look([0, 9, 0]), None, "it is down already");
    for (passed, is_enough) in [
        (Some(true), false),
        (Some(false), false),
        (Some(true), false),
        (None, false),
        (Some(true), true),
    ] {
        assert_eq!(story.witness.hear(passed, 2), is_enough, "{passed:?}");
    }
    story.witness.acquit();
    assert_eq!(story.look([0, 4, 0]), None);
    assert!(story.look([0, 1, 0]).is_some());
}

#[test]
fn on_trial_one_failure_is_enough_until_something_succeeds() {
    let mut story = Story::new(rule(5, 10, 100));
    assert!(story.look([0, 9, 0]).is_some());
    let rule = story.rule;
    assert!(
        !story
            .witness
            .has_served_its_time(story.now + rule.hold / 2, &rule)
    );
    story.now += rule.hold;
    assert!(story.witness.has_served_its_time(story.now, &rule));
    story.witness.try_again();
    assert!(story.witness.is_on_trial());
    assert_eq!(story.look([0, 0, 0]), None);
    assert!(story.look([0, 0, 1]).is_some());
    story.witness.try_again();
    assert_eq!(story.look([1, 1, 0]), None);
    assert!(!story.witness.is_on_trial());
    assert_eq!(story.look([0, 4, 0]), None);
}

#[test]
fn counters_that_begin_anew_and_what_nobody_looked_at_say_nothing() {
    let mut story = Story::new(rule(5, 10, 100));
    story.counted = Handshakes::default();
    assert_eq!(story.look([0, 70, 0]), None);
    story.counted.refused += 70;
    story.witness.look_away(story.counted, story.now);
    assert_eq!(story.look([0, 4, 0]), None);
}

proptest! {
    /// Whatever succeeds, and however often nothing happens.
    #[test]
    fn it_is_never_down_without_enough_failures(
        fall in 1..20_u32,
        percent in 1..=100_u8,
        window in 1..60_u64,
        looks in proptest::collection::vec((0..50_u64, 0..3_u64, 0..3_u64), 1..200),
    ) {
        let rule = rule(fall, window, percent);
        let mut story = Story::new(rule);
        let steps = (rule.window.as_millis() / STEP.as_millis()) as usize;
        for (index, (accepted, refused, unanswered)) in looks.iter().enumerate() {
            let verdict = story.look([*accepted, *refused, *unanswered]);
            let first = (index + 1).saturating_sub(steps);
            let recent = &looks[first..=index];
            let failed: u64 = recent.iter().map(|(_, refused, unanswered)| refused + unanswered).sum();
            if let Some(verdict) = verdict {
                prop_assert!(failed >= u64::from(fall));
                prop_assert!(verdict.within <= rule.window);
                prop_assert!(verdict.handshakes.failed() >= u64::from(fall));
                let Handshakes { accepted, .. } = verdict.handshakes;
                let failed = verdict.handshakes.failed();
                prop_assert!(failed * 100 >= (failed + accepted) * u64::from(percent));
                return Ok(());
            }
            // And the other way round: what the rule says of some moment until now.
            for start in first..=index {
                let part = &looks[start..=index];
                let failed: u64 = part.iter().map(|(_, refused, unanswered)| refused + unanswered).sum();
                let accepted: u64 = part.iter().map(|(accepted, ..)| accepted).sum();
                prop_assert!(
                    failed < u64::from(fall)
                        || failed * 100 < (failed + accepted) * u64::from(percent)
                );
            }
        }
    }

    /// A flood that somebody takes the trouble to repeat, so that it counts.
    #[test]
    fn a_flood_of_unanswered_connections_beside_good_ones_takes_nothing_down(
        looks in proptest::collection::vec((1..5_u64, 0..1_000_000_u64), 1..200),
    ) {
        let mut story = Story::new(rule(1, 60, 100));
        for (good, forged) in looks {
            prop_assert_eq!(story.look([good, 0, forged]), None);
        }
    }
}
