//! The story: each step does something to the running deployment and checks what comes of it.

mod alerts;
mod app_host;
mod balancer;
mod deny;
mod flood;
mod pages;
mod primary;
mod registration;
mod weights;

use std::time::Instant;

use anyhow::{Context, Result};

use super::{Audience, Foobar};

/// A step of the story: what holds after it, and the check.
struct Step {
    title: &'static str,
    play: fn(&mut Foobar, Audience<'_>) -> Result<()>,
}

const STEPS: &[Step] = &[
    Step {
        title: "pages come over HTTPS, from the app hosts in turn",
        play: pages::in_turn,
    },
    Step {
        title: "HTTP is sent on to HTTPS; HSTS and HTTP/2",
        play: pages::encrypted,
    },
    Step {
        title: "a registration is written to the primary and read from the replica",
        play: registration::written_and_read,
    },
    Step {
        title: "weights are changed while it runs: 1 to 3 is 1 to 3",
        play: weights::changed,
    },
    Step {
        title: "an app host dies and returns",
        play: app_host::dies_and_returns,
    },
    Step {
        title: "the active balancer dies in the middle of a download, which goes on; it returns",
        play: balancer::dies_and_returns,
    },
    Step {
        title: "the primary dies, is failed over, writes go on; it returns as a replica",
        play: primary::dies_and_returns,
    },
    Step {
        title: "a SYN flood arrives, and people go on browsing",
        play: flood::browsing_goes_on,
    },
    Step {
        title: "whoever is denied gets nothing, and others everything",
        play: deny::denied,
    },
    Step {
        title: "the other alerts fire and resolve",
        play: alerts::fire_and_resolve,
    },
];

/// Plays all steps; the first that does not hold ends it.
///
/// # Errors
/// With the step that did not hold, and what was seen.
pub fn play(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    for (number, step) in STEPS.iter().enumerate() {
        (audience.go_on)()?;
        let began = Instant::now();
        let title = format!("{}. {}", number + 1, step.title);
        (step.play)(foobar, audience).with_context(|| title.clone())?;
        (audience.done)(&title, began);
    }
    Ok(())
}
