//! Weights, changed while it runs.

use anyhow::{Result, ensure};

use super::super::balancers::SERVICE;
use super::super::{Audience, Foobar};
use super::pages::{self, who_serves};

const PAGES: usize = 16;

/// With weights 1 and 3 one page of four comes from app1, exactly; with equal ones they take turns.
pub(super) fn changed(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    if foobar.options.active_passive {
        (audience.seen)("with one server at a time, weights say nothing");
        return Ok(());
    }
    set(foobar, "3")?;
    let seen = who_serves(foobar, PAGES)?;
    (audience.seen)(&seen.join(" "));
    let first = seen.iter().filter(|name| *name == "app1").count();
    ensure!(first == PAGES / 4, "{first} of {PAGES} from app1: {seen:?}");
    set(foobar, "1")?;
    pages::in_turn(foobar, audience)
}

/// The weight of app2, on both balancers.
fn set(foobar: &Foobar, weight: &str) -> Result<()> {
    for balancer in &foobar.balancers {
        let backend = format!("{SERVICE}/app2");
        balancer
            .agent
            .lb(&["backend", "set", &backend, "--weight", weight])?;
    }
    Ok(())
}
