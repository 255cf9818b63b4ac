//! The reference deployment of `cargo xtask run --example foobar`, and its story, in both modes and
//! both classical variants.

use std::time::Instant;

use anyhow::Result;
use lb_lab::Lab;
use lb_lab::foobar::{Audience, Foobar, Options, story};
use lb_tests::scenario::binary;

fn play(xdp_mode: &str, active_passive: bool) -> Result<()> {
    let options = Options {
        lb: binary()?,
        xdp_mode: xdp_mode.to_owned(),
        active_passive,
    };
    let audience = Audience {
        done: &|text, began: Instant| {
            eprintln!("✓ {text} ({:.1} s)", began.elapsed().as_secs_f64());
        },
        seen: &|text| eprintln!("  {text}"),
        go_on: &|| Ok(()),
    };
    let mut foobar = Foobar::start(Lab::new()?, options, audience)?;
    story::play(&mut foobar, audience)
}

#[test]
fn the_story_is_played_in_native_mode() -> Result<()> {
    play("native", false)
}

#[test]
fn the_story_is_played_in_generic_mode() -> Result<()> {
    play("generic", false)
}

#[test]
fn the_story_is_played_with_a_passive_server() -> Result<()> {
    play("native", true)
}
