//! The share of a backend that came up grows to its weight in [`STEPS`] steps.

use std::time::Duration;

/// Steps from nothing to the full weight. While a backend of a service ramps, all weights of the
/// service are multiplied by it, so that a weight of 1 can grow too.
pub(super) const STEPS: u16 = 10;

/// The step that a backend is at, 1 to [`STEPS`], so long after it came up.
pub(super) fn step(since_up: Duration, slow_start: Duration) -> u16 {
    if since_up >= slow_start {
        return STEPS;
    }
    let part = since_up.as_secs_f64() / slow_start.as_secs_f64();
    ((part * f64::from(STEPS)) as u16 + 1).min(STEPS)
}

/// When the next step is due; `None` at the last one.
pub(super) fn next(since_up: Duration, slow_start: Duration) -> Option<Duration> {
    let step = step(since_up, slow_start);
    if step >= STEPS {
        return None;
    }
    let at = slow_start.mul_f64(f64::from(step) / f64::from(STEPS));
    // A little later than exactly, so that it is not asked once more just before.
    Some(at.saturating_sub(since_up) + Duration::from_millis(5))
}

/// The weights of a service whose backends are at these steps.
pub(super) fn ramped(weights: &[u16], steps: &[u16]) -> Vec<u16> {
    let ramps = weights
        .iter()
        .zip(steps)
        .any(|(weight, step)| *weight > 0 && *step < STEPS);
    if !ramps {
        return weights.to_vec();
    }
    weights
        .iter()
        .zip(steps)
        .map(|(weight, step)| weight * step)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(20);

    #[test]
    fn the_share_grows_step_by_step_to_the_full_weight() {
        for (seconds, expected) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (10, 6),
            (19, 10),
            (20, 10),
            (99, 10),
        ] {
            assert_eq!(
                step(Duration::from_secs(seconds), SPAN),
                expected,
                "{seconds}"
            );
        }
        assert_eq!(step(Duration::ZERO, Duration::ZERO), STEPS, "it is off");
    }

    #[test]
    fn every_step_comes_when_it_was_announced() {
        let mut since = Duration::ZERO;
        let mut steps = vec![step(since, SPAN)];
        while let Some(wait) = next(since, SPAN) {
            since += wait;
            steps.push(step(since, SPAN));
        }
        assert_eq!(steps, (1..=STEPS).collect::<Vec<_>>());
        assert!(since < SPAN);
    }

    #[test]
    fn weights_are_scaled_only_while_one_in_rotation_ramps() {
        assert_eq!(ramped(&[1, 2], &[10, 10]), [1, 2]);
        assert_eq!(ramped(&[1, 2], &[3, 10]), [3, 20]);
        assert_eq!(ramped(&[0, 2], &[3, 10]), [0, 2], "it is out of rotation");
        assert_eq!(ramped(&[256, 256], &[10, 1]), [2560, 256]);
    }
}
