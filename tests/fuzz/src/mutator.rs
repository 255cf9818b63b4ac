//! A mutator of its own: no coverage, but it keeps inputs that show something new by what comes
//! out, and it runs anywhere.

use std::{collections::HashSet, time::Instant};

use anyhow::Result;
use fastrand::Rng;
use lb_fuzz::Target;

const MAX_LENGTH: usize = 600;

/// Runs that many mutated inputs.
pub(crate) fn run(target: Target, mut corpus: Vec<Vec<u8>>, seed: u64, runs: u64) -> Result<()> {
    let began = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let mut seen = HashSet::new();
    if corpus.is_empty() {
        corpus.push(Vec::new());
    }
    let given = corpus.len();
    for _ in 0..runs {
        let input = mutated(&mut rng, &corpus);
        let signature = crate::play(target, &input)?;
        if seen.insert(signature) {
            corpus.push(input);
        }
    }
    println!(
        "{}: {runs} runs of the built-in mutator, seed {seed}: fine, {} inputs that differ, {:.1} s",
        target.name(),
        corpus.len() - given,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn mutated(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let pick = |rng: &mut Rng| corpus[rng.usize(..corpus.len())].clone();
    let mut input = pick(rng);
    for _ in 0..rng.u8(1..6) {
        let at = rng.usize(..=input.len());
        match rng.u8(..6) {
            0 => {
                let noise: Vec<u8> = (0..rng.usize(1..12)).map(|_| rng.u8(..)).collect();
                input.splice(at..at, noise);
            }
            1 => {
                let end = (at + rng.usize(..12)).min(input.len());
                input.drain(at..end);
            }
            2 => {
                let other = pick(rng);
                input.truncate(at);
                input.extend_from_slice(&other[rng.usize(..=other.len())..]);
            }
            3 => {
                let again = input[at..].to_vec();
                input.extend(again);
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = if rng.bool() {
                        rng.u8(..)
                    } else {
                        *byte ^ (1 << rng.u8(..8))
                    };
                }
            }
        }
    }
    input.truncate(MAX_LENGTH);
    input
}
