//! What it costs to tell another balancer of connections, by the example `sync_cost` of
//! `lb-userspace`: two ends in one process, over the loopback.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    bench::{
        Effort,
        conditions::Conditions,
        report::{Bar, Measure, Report, Row, Samples},
    },
    scenario::binary,
};

const RATES: [u32; 2] = [50_000, 100_000];
/// Percent of a core that either end may take, at the first rate.
const BAR: f64 = 5.0;

/// Takes the rates in turn.
///
/// # Errors
/// When there is no such example beside the binary, or it fails.
pub fn run(effort: Effort) -> Result<Report> {
    let begin = Conditions::now();
    let program = binary()?.with_file_name("examples").join("sync_cost");
    let mut rows: Vec<Row> = RATES
        .iter()
        .flat_map(|rate| ["tells", "is told"].map(|end| row(end, *rate)))
        .collect();
    for _ in 0..effort.rounds(5) {
        for (rate, rows) in RATES.iter().zip(rows.chunks_mut(2)) {
            let found = measure(&program, *rate)?;
            let number = |key: &str| found[key].as_f64().with_context(|| format!("no {key}"));
            for (row, key) in rows.iter_mut().zip(["sender_percent", "receiver_percent"]) {
                row.samples.push(number(key)?);
                row.details = vec![("bytes/flow", number("bytes_per_flow")?, 1)];
                let known = number("known_percent")?;
                if known < 99.9 {
                    row.problems
                        .push(format!("{known:.2} % of the flows are known"));
                }
            }
        }
    }
    Ok(Report {
        name: "sync",
        unit: "percent of a core",
        decimals: 1,
        notes: vec!["IPv4, without the ends of flows".to_owned()],
        rows,
        conditions: (begin, Conditions::now()),
    })
}

fn row(end: &str, rate: u32) -> Row {
    Row {
        name: format!("{rate} new flows a second: who {end}"),
        samples: Samples::default(),
        bars: if rate == RATES[0] {
            vec![Bar::AtMost(Measure::Value, BAR)]
        } else {
            Vec::new()
        },
        ..Row::default()
    }
}

fn measure(program: &Path, rate: u32) -> Result<Value> {
    let output = Command::new(program)
        .arg(rate.to_string())
        .output()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}
