//! The story: each step does something to the running deployment and checks what comes of it.

mod pages;

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
