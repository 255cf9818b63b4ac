//! Two CPUs at once: on the same flow tables, and each on tables of its own.
//!
//! A table for each CPU needs no atomic instructions and no line ever moves between caches; but a
//! flow whose packets change CPU is lost, as are replies that arrive at another queue. This
//! measures what the sharing costs.

use std::{
    sync::{Arc, Barrier},
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use super::{
    cases::{CASES, Case},
    rig::{Generator, Rig},
};
use crate::bench::{
    Effort,
    conditions::Conditions,
    report::{Report, Row, Samples},
};

/// The second CPU's clients.
const OTHER_CLIENT: &str = "10.80.0.1:32768";
/// What ratios are to.
const OWN: &str = "own tables";
/// The cases that are measured, by their names in the packet benchmark.
const NAMES: [&str; 4] = [
    "nat established, 1 flow",
    "nat established, 65,536 flows",
    "SYN, every one a new flow",
    // Without a cursor that all CPUs take numbers from.
    "SYN, new flows, maglev",
];

/// Measures each case on shared tables and on tables of each CPU.
///
/// # Errors
/// When this process may run on one CPU only, or a program cannot be run.
pub fn run(effort: Effort) -> Result<Report> {
    let begin = Conditions::now();
    let cpus = two_cpus()?;
    let (rounds, repeat) = (effort.rounds(7), effort.packets(1_000_000));
    let mut rows = Vec::new();
    for name in NAMES {
        let case = CASES.iter().find(|case| case.name == name);
        let case = case.with_context(|| format!("no case {name}"))?;
        eprintln!("cpus: {name}");
        rows.extend(compare(case, cpus, rounds, repeat).with_context(|| name)?);
    }
    Ok(Report {
        name: "cpus",
        unit: "net ns per packet, two CPUs at once",
        decimals: 1,
        notes: Vec::new(),
        rows,
        conditions: (begin, Conditions::now()),
    })
}

fn compare(case: &Case, cpus: [usize; 2], rounds: usize, repeat: u32) -> Result<[Row; 2]> {
    // As large together as the two of their own.
    let twice = Case {
        limit: 2 * case.limit,
        ..*case
    };
    let mut first = Rig::new(&twice)?;
    let mut beside = first.another(&twice, OTHER_CLIENT)?;
    let (_kernel, mut first) = first.into_generator();
    let (_own_kernel, mut alone) = Rig::new(case)?.into_generator();
    let (_other_kernel, mut apart) = Rig::of_client(case, OTHER_CLIENT)?.into_generator();
    let (mut shared, mut own) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        shared.push(together(cpus, [&mut first, &mut beside], repeat)?);
        own.push(together(cpus, [&mut alone, &mut apart], repeat)?);
    }
    let row = |what: &str, samples: &Samples| Row {
        name: format!("{}, {what}", case.name),
        samples: samples.clone(),
        ratios: vec![(OWN, samples.relative_to(&own))],
        ..Row::default()
    };
    Ok([row("shared tables", &shared), row("own tables", &own)])
}

/// Runs both at the same time, and gives the mean of what a packet takes, less the generator.
fn together(cpus: [usize; 2], generators: [&mut Generator; 2], repeat: u32) -> Result<f64> {
    let start = Arc::new(Barrier::new(2));
    let nanos = thread::scope(|scope| {
        let threads: Vec<_> = cpus
            .into_iter()
            .zip(generators)
            .map(|(cpu, generator)| {
                let start = Arc::clone(&start);
                scope.spawn(move || -> Result<f64> {
                    let pinned = pin(cpu);
                    start.wait();
                    pinned?;
                    let base = generator.nanos(repeat, false)?;
                    Ok(generator.nanos(repeat, true)? - base)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread failed"))?)
            .collect::<Result<Vec<f64>>>()
    })?;
    Ok(nanos.iter().sum::<f64>() / nanos.len() as f64)
}

fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

fn two_cpus() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true));
    let two = [cpus.next(), cpus.next()];
    ensure!(two[1].is_some(), "this benchmark needs two CPUs");
    Ok(two.map(Option::unwrap_or_default))
}
