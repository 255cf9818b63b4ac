//! Statements per second of sysbench, directly and through one proxy after the other, and what idle
//! sessions and the classification cost.
//!
//! Client, proxy and servers share the machine, so the figures are about what a proxy costs all of
//! them together, and only ratios within a round mean anything.

mod idle;
mod peers;
mod sysbench;

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lb_lab::Lab;
use lb_mysql::route::{Session, route};
use lb_mysql::sql::{Dialect, Family, classify};

use crate::bench::{
    Effort,
    conditions::Conditions,
    report::{Bar, Measure, Report, Row, Samples},
};
use peers::{Bed, Peer};
use sysbench::Load;

const DIRECT: &str = "direct";
const HAPROXY: &str = "HAProxy";

/// How long a peer is loaded in a round.
const SPAN: Duration = Duration::from_secs(5);
/// Microseconds that a point select may take longer with one thread.
const MOST_ADDED_MICROS: f64 = 20.0;

/// What a peer did under a load.
struct Case {
    peer: Peer,
    load: Load,
    per_second: Samples,
    problems: Vec<String>,
}

/// Measures every peer under every load.
///
/// # Errors
/// When the servers do not come up.
pub fn run(effort: Effort) -> Result<Report> {
    let begin = Conditions::now();
    idle::allow_many_files()?;
    let mut lab = Lab::new()?;
    lab.add("db")?.ip("link set lo up")?;
    let bed = Bed::start(&lab, &Peer::ALL)?;
    let mut cases: Vec<Case> = Vec::new();
    for load in Load::ALL {
        cases.extend(Peer::ALL.map(|peer| Case {
            peer,
            load,
            per_second: Samples::default(),
            problems: bed.problem(peer).into_iter().collect(),
        }));
    }
    let rounds = effort.rounds(5);
    let span = if effort.is_quick { SPAN / 5 } else { SPAN };
    for round in 1..=rounds {
        for case in &mut cases {
            if case.problems.is_empty() {
                eprintln!(
                    "mysql: round {round} of {rounds}: {}, {}",
                    case.load.name(),
                    case.peer.name()
                );
                match sysbench::run(&lab, case.peer.port(), case.load, span) {
                    Ok(rate) => case.per_second.push(rate),
                    Err(error) => case.problems.push(format!("{error:#}")),
                }
            }
            case.per_second.skip_to(round);
        }
    }
    let mut rows: Vec<Row> = cases.iter().map(|case| row(case, &cases)).collect();
    rows.extend(added(&cases));
    rows.extend(idle::rows(&lab, &bed, effort)?);
    rows.push(classification(rounds)?);
    Ok(Report {
        name: "mysql",
        unit: "statements per second, or what the name says",
        decimals: 2,
        notes: vec![
            "MySQL 9, a primary and two replicas; sysbench over loopback; lb, HAProxy and Router \
             run all the time, and are loaded in turn"
                .to_owned(),
            "a ratio of the rows with µs is the latency's, not the rate's".to_owned(),
        ],
        rows,
        conditions: (begin, Conditions::now()),
    })
}

/// Measures only what idle sessions cost.
///
/// # Errors
/// As [`run`].
pub fn run_idle(effort: Effort) -> Result<Report> {
    let begin = Conditions::now();
    idle::allow_many_files()?;
    let mut lab = Lab::new()?;
    lab.add("db")?.ip("link set lo up")?;
    let bed = Bed::start(&lab, &[Peer::Direct, Peer::Split])?;
    Ok(Report {
        name: "mysql-idle",
        unit: "what the name says",
        decimals: 2,
        notes: vec!["MySQL 9, a primary and two replicas".to_owned()],
        rows: idle::rows(&lab, &bed, effort)?,
        conditions: (begin, Conditions::now()),
    })
}

fn of(cases: &[Case], peer: Peer, load: Load) -> Option<&Samples> {
    let same = cases
        .iter()
        .find(|other| other.load == load && other.peer == peer);
    same.map(|case| &case.per_second)
}

fn row(case: &Case, all: &[Case]) -> Row {
    let ratio = |peer| {
        let other = of(all, peer, case.load)?;
        Some(case.per_second.relative_to(other))
    };
    let bar = case
        .load
        .least_of_direct()
        .filter(|_| case.peer == Peer::Split);
    Row {
        name: format!("{}, {}", case.load.name(), case.peer.name()),
        samples: case.per_second.clone(),
        ratios: [
            (DIRECT, ratio(Peer::Direct)),
            (HAPROXY, ratio(Peer::Haproxy)),
        ]
        .into_iter()
        .filter_map(|(name, ratio)| Some((name, ratio?)))
        .collect(),
        bars: bar
            .map(|least| Bar::AtLeast(Measure::Ratio(DIRECT), least))
            .into_iter()
            .collect(),
        problems: case.problems.clone(),
        ..Row::default()
    }
}

/// What a point select takes longer with one thread, in microseconds.
fn added(cases: &[Case]) -> Vec<Row> {
    let Some(direct) = of(cases, Peer::Direct, Load::OneThread) else {
        return Vec::new();
    };
    let through = Peer::ALL.into_iter().filter(|peer| *peer != Peer::Direct);
    let row = |peer| {
        let own = of(cases, peer, Load::OneThread)?;
        let mut samples = Samples::default();
        for (own, direct) in own.values().iter().zip(direct.values()) {
            samples.push(1e6 / own - 1e6 / direct);
        }
        let is_ours = matches!(peer, Peer::Split);
        let bar = Bar::AtMost(Measure::Value, MOST_ADDED_MICROS);
        Some(Row {
            name: format!("added µs, one thread, {}", peer.name()),
            samples,
            bars: is_ours.then_some(bar).into_iter().collect(),
            ..Row::default()
        })
    };
    through.filter_map(row).collect()
}

/// Nanoseconds to know where a point select goes.
fn classification(rounds: usize) -> Result<Row> {
    const SQL: &[u8] = b"SELECT c FROM sbtest1 WHERE id=5033";
    const TIMES: u32 = 200_000;
    let dialect = Dialect::new(Family::MySql, 90_704);
    let session = Session::new(dialect, Some(b"sbtest"));
    let mut samples = Samples::default();
    let mut both = Samples::default();
    for _ in 0..rounds.max(3) {
        let began = Instant::now();
        for _ in 0..TIMES {
            black_box(classify(black_box(SQL), dialect));
        }
        samples.push(began.elapsed().as_nanos() as f64 / f64::from(TIMES));
        let began = Instant::now();
        for _ in 0..TIMES {
            let statement = classify(black_box(SQL), dialect);
            let _ = black_box(route(&session, SQL, &statement, 2, &()));
        }
        both.push(began.elapsed().as_nanos() as f64 / f64::from(TIMES));
    }
    let middle = Some(both.median()).filter(|value| value.is_finite());
    Ok(Row {
        name: "classification of a point select, ns".to_owned(),
        samples,
        bars: vec![Bar::AtMost(Measure::Value, 1000.0)],
        details: vec![("with route", middle.context("nothing was timed")?, 0)],
        ..Row::default()
    })
}
