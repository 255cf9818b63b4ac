//! Fuzzing of the engine.
//!
//! [`run`] reads an input as a short story: frames of clients and backends, some of them patched,
//! some of them noise, and changes of the tables between them. After each frame it asks more than
//! "did it panic": see [`oracle`].

pub mod oracle;
pub mod story;

use lb_common::{engine::process, host::HostFrame};

use oracle::Oracle;
use story::{Step, Story};

/// Steps of a story that are played at most.
pub const MAX_STEPS: usize = 64;

/// What a story showed, to tell inputs apart: a number for each kind of thing that happened.
pub type Signature = Vec<u32>;

/// Plays a story.
///
/// # Errors
/// What the engine did wrong, with the frame that showed it.
pub fn run(input: &[u8]) -> Result<Signature, String> {
    let mut story = Story::new(input);
    let mut tables = story.tables();
    let mut oracle = Oracle::default();
    let mut signature = Signature::new();
    for _ in 0..MAX_STEPS {
        match story.next(&tables) {
            Some(Step::Frame { bytes, ingress }) => {
                let mut frame = HostFrame::new(&bytes, ingress);
                oracle.before(&tables);
                let outcome = process(&mut frame, &tables);
                oracle.judge(&bytes, ingress, outcome, frame.bytes(), &tables)?;
                story.saw(outcome.verdict, frame.bytes());
                let change = frame.bytes().len() as i32 - bytes.len() as i32;
                signature.push((outcome.verdict as u32) << 16 | (change as u32 & 0xffff));
            }
            Some(Step::Change(change)) => change(&mut tables),
            None => break,
        }
    }
    oracle.sum_up(&tables)?;
    signature.sort_unstable();
    signature.dedup();
    Ok(signature)
}
