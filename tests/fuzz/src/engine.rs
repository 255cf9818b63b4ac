//! The engine: an input is a short story, of frames of clients and backends, some of them patched,
//! some of them noise, and of changes of the tables between them.

use lb_common::{engine::process, host::HostFrame};

use crate::{
    Signature,
    oracle::Oracle,
    story::{Step, Story},
};

/// Steps of a story that are played at most.
const MAX_STEPS: usize = 64;

/// Plays a story.
///
/// # Errors
/// What the engine did wrong, with the frame that showed it.
pub(crate) fn run(input: &[u8]) -> Result<Signature, String> {
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
    Ok(signature)
}
