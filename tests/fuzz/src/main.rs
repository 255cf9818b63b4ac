//! The smoke run: replays each target's corpus, mutates it by itself, and then lets libFuzzer, which
//! sees what the code does, look for more.
//!
//! libFuzzer needs a C++ compiler and nothing else: a stable rustc has the instrumentation, though
//! no flag of that name. Where it cannot be built this says so and goes on without it.

mod libfuzzer;
mod mutator;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use lb_fuzz::{Signature, Target};
use lb_packets::hexdump;

/// Fuzzes the targets for a while.
#[derive(Debug, Parser)]
struct Arguments {
    /// The only target [default: all; of files, the engine]
    #[arg(long, value_parser = target)]
    target: Option<Target>,
    /// Runs of the built-in mutator for each target.
    #[arg(long, default_value_t = 100_000)]
    runs: u64,
    /// Seed of everything.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds that libFuzzer runs on the engine; 0 leaves it out. The others get a quarter, or
    /// all of it where they are the only target.
    #[arg(long, default_value_t = 16)]
    seconds: u32,
    /// Only these inputs, such as one that failed.
    files: Vec<PathBuf>,
}

fn target(name: &str) -> Result<Target, String> {
    let names = Target::ALL.map(Target::name).join(", ");
    Target::named(name).ok_or(format!("there are {names}"))
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if !arguments.files.is_empty() {
        let target = arguments.target.unwrap_or(Target::Engine);
        for file in &arguments.files {
            let input = fs::read(file).with_context(|| format!("{}", file.display()))?;
            play(target, &input)?;
            println!("{}: fine", file.display());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = |target: &Target| arguments.target.is_none_or(|only| only == *target);
    let targets: Vec<Target> = Target::ALL.into_iter().filter(chosen).collect();
    for &target in &targets {
        let corpus = corpus(target)?;
        for input in &corpus {
            play(target, input)?;
        }
        println!(
            "{}: {} inputs of the corpus: fine",
            target.name(),
            corpus.len()
        );
        mutator::run(target, corpus, arguments.seed, arguments.runs)?;
    }
    if arguments.seconds > 0
        && let Some(libfuzzer) = libfuzzer::build()?
    {
        for &target in &targets {
            let is_main = target == Target::Engine || arguments.target.is_some();
            let seconds = arguments.seconds / if is_main { 1 } else { 4 };
            libfuzzer.run(target, &corpus_dir(target), arguments.seed, seconds.max(1))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn corpus_dir(target: Target) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    folder.join(target.name())
}

fn corpus(target: Target) -> Result<Vec<Vec<u8>>> {
    let mut corpus = Vec::new();
    for entry in fs::read_dir(corpus_dir(target))? {
        corpus.push(fs::read(entry?.path())?);
    }
    corpus.sort();
    Ok(corpus)
}

/// Plays one input; a panic is an error like any other.
fn play(target: Target, input: &[u8]) -> Result<Signature> {
    match std::panic::catch_unwind(|| target.run(input)) {
        Ok(Ok(signature)) => Ok(signature),
        Ok(Err(what)) => bail!("{}: {what}\n input\n{}", target.name(), hexdump(input)),
        Err(_) => bail!("{} panicked\n input\n{}", target.name(), hexdump(input)),
    }
}
