//! Nanoseconds per packet by `BPF_PROG_TEST_RUN`.
//!
//! The kernel does not reset the frame between repetitions, so each one begins with the generator,
//! which writes a fresh frame and goes on with the program under test by a tail call. What the
//! generator costs alone is measured in the same round and taken off.

mod cases;
pub mod cpus;
mod rig;

use anyhow::{Context, Result};
use lb_common::abi::STEER_PROGRAM;

use crate::bench::{
    Effort,
    conditions::Conditions,
    report::{Bar, Measure, Report, Row, Samples},
};
use cases::{CASES, Case};
use rig::Rig;

/// What ratios of scale are to.
const SMALL: &str = "small";

/// Measures every case.
pub fn run(effort: Effort) -> Result<Report> {
    let begin = Conditions::now();
    let (rounds, repeat) = (effort.rounds(7), effort.packets(1_000_000));
    let mut rigs = Vec::new();
    let cases: Vec<&Case> = CASES
        .iter()
        .filter(|case| !(effort.is_quick && case.is_large))
        .collect();
    for case in &cases {
        eprintln!("packet: preparing {}", case.name);
        rigs.push(Rig::new(case).with_context(|| case.name)?);
    }
    let mut samples = vec![Samples::default(); cases.len()];
    for round in 1..=rounds {
        eprintln!("packet: round {round} of {rounds}");
        for ((case, rig), samples) in cases.iter().zip(&mut rigs).zip(&mut samples) {
            samples.push(rig.net_nanos(repeat).context(case.name)?);
        }
    }
    let mut notes = Vec::new();
    let mut seen = Vec::new();
    for (rig, case) in rigs.iter_mut().zip(&cases) {
        if seen.contains(&case.features()) {
            continue;
        }
        seen.push(case.features());
        let info = rig.steer()?.info()?;
        notes.push(format!(
            "program {STEER_PROGRAM} for \"{}\": {} instructions, {} verified",
            case.name,
            info.size_translated().unwrap_or(0) / 8,
            info.verified_instruction_count().unwrap_or(0)
        ));
    }
    let rows = cases.iter().zip(&samples);
    Ok(Report {
        name: "packet",
        unit: "net ns per packet",
        decimals: 1,
        notes,
        rows: rows
            .map(|(case, own)| row(case, own, &cases, &samples))
            .collect(),
        conditions: (begin, Conditions::now()),
    })
}

fn row(case: &Case, own: &Samples, cases: &[&Case], all: &[Samples]) -> Row {
    let small = cases
        .iter()
        .zip(all)
        .find(|(other, _)| Some(other.name) == case.scale_of);
    let mut row = Row {
        name: case.name.to_owned(),
        samples: own.clone(),
        bars: vec![Bar::AtMost(Measure::Value, case.bar)],
        ..Row::default()
    };
    if let Some((_, small)) = small {
        row.ratios.push((SMALL, own.relative_to(small)));
        row.bars = vec![Bar::AtMost(Measure::Ratio(SMALL), case.bar)];
    }
    row
}
