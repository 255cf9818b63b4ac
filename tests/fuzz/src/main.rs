//! The smoke run: replays the corpus, mutates it by itself, and then lets libFuzzer, which sees
//! what the engine's code does, look for more.
//!
//! libFuzzer needs a C++ compiler and nothing else: a stable rustc has the instrumentation, though
//! no flag of that name. Where it cannot be built this says so and goes on without it.

mod libfuzzer;
mod mutator;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use lb_packets::hexdump;

/// Fuzzes the engine for a while.
#[derive(Debug, Parser)]
struct Arguments {
    /// Runs of the built-in mutator.
    #[arg(long, default_value_t = 100_000)]
    runs: u64,
    /// Seed of everything.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds that libFuzzer runs; 0 leaves it out.
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// Only these inputs, such as one that failed.
    files: Vec<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if !arguments.files.is_empty() {
        for file in &arguments.files {
            let input = fs::read(file).with_context(|| format!("{}", file.display()))?;
            play(&input)?;
            println!("{}: fine", file.display());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut corpus = Vec::new();
    for entry in fs::read_dir(corpus_dir())? {
        corpus.push(fs::read(entry?.path())?);
    }
    corpus.sort();
    for input in &corpus {
        play(input)?;
    }
    println!("{} inputs of the corpus: fine", corpus.len());
    mutator::run(corpus, arguments.seed, arguments.runs)?;
    if arguments.seconds > 0 {
        libfuzzer::run(&corpus_dir(), arguments.seed, arguments.seconds)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn corpus_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/engine")
}

/// Plays one input; a panic of the engine is an error like any other.
fn play(input: &[u8]) -> Result<lb_fuzz::Signature> {
    match std::panic::catch_unwind(|| lb_fuzz::run(input)) {
        Ok(Ok(signature)) => Ok(signature),
        Ok(Err(what)) => bail!("{what}\n input\n{}", hexdump(input)),
        Err(_) => bail!("the engine panicked\n input\n{}", hexdump(input)),
    }
}
