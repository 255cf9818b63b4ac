//! Nanoseconds per packet by `BPF_PROG_TEST_RUN`.
//!
//! The kernel does not reset the frame between repetitions, so each one begins with the generator,
//! which writes a fresh frame and goes on with the program under test by a tail call. What the
//! generator costs alone is measured in the same round and taken off.

mod rig;

use anyhow::{Context, Result};
use lb_common::abi::{Forwarding, STEER_PROGRAM};

use crate::bench::{
    Effort,
    conditions::Conditions,
    report::{Bar, Measure, Report, Row, Samples},
    template::Segment,
};
use rig::Rig;

/// A case to measure.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    segment: Segment,
    forwarding: Forwarding,
    is_v6: bool,
    /// Flows of which packets are sent in turn.
    flows: u64,
    /// Whether the flows are established first.
    established: bool,
    /// Whether packets are for the service at all.
    is_ours: bool,
    /// Services that packets are for in turn, a power of two.
    services: u16,
    /// Backends of each service.
    backends: u32,
    /// The bar of the project, in nanoseconds.
    bar: f64,
    /// The case that this one differs from in scale only.
    scale_of: Option<&'static str>,
}

const fn established(name: &'static str, flows: u64, bar: f64) -> Case {
    Case {
        name,
        segment: Segment::Ack(5001),
        forwarding: Forwarding::Nat,
        is_v6: false,
        flows,
        established: true,
        is_ours: true,
        services: 1,
        backends: 3,
        bar,
        scale_of: None,
    }
}

const fn new_flows(name: &'static str, flows: u64) -> Case {
    Case {
        segment: Segment::Syn,
        established: false,
        ..established(name, flows, 230.0)
    }
}

const MANY: &str = "nat established, 65,536 flows";
const NEW: &str = "SYN, every one a new flow";

/// More than any run sends.
const ENDLESS: u64 = 1 << 40;

const CASES: [Case; 13] = [
    established("nat established, 1 flow", 1, 40.0),
    established(MANY, 65_536, 90.0),
    Case {
        is_v6: true,
        ..established("nat established IPv6, 1 flow", 1, 40.0)
    },
    Case {
        is_v6: true,
        ..established("nat established IPv6, 65,536 flows", 65_536, 90.0)
    },
    Case {
        forwarding: Forwarding::DsrL2,
        ..established("dsr-l2 established, 65,536 flows", 65_536, 90.0)
    },
    new_flows("SYN, 65,536 flows sent again", 65_536),
    new_flows(NEW, ENDLESS),
    Case {
        is_ours: false,
        ..established("not ours (pass)", 1, 20.0)
    },
    Case {
        is_ours: false,
        is_v6: true,
        ..established("not ours IPv6 (pass)", 1, 20.0)
    },
    Case {
        backends: 1000,
        scale_of: Some(MANY),
        ..established(
            "nat established, 65,536 flows, 1,000 backends",
            65_536,
            90.0,
        )
    },
    Case {
        services: 1024,
        scale_of: Some(MANY),
        ..established(
            "nat established, 65,536 flows, 1,024 services",
            65_536,
            90.0,
        )
    },
    Case {
        backends: 1000,
        scale_of: Some(NEW),
        ..new_flows("SYN, every one a new flow, 1,000 backends", ENDLESS)
    },
    Case {
        services: 1024,
        scale_of: Some(NEW),
        ..new_flows("SYN, every one a new flow, 1,024 services", ENDLESS)
    },
];

/// What ratios of scale are to.
const SMALL: &str = "small";

/// "Flat but for cache misses" as a number: a look-up that grew with the number of services or
/// backends would be hundreds of times slower.
const FLAT: f64 = 1.5;

/// Measures every case.
pub fn run(effort: Effort) -> Result<Report> {
    let begin = Conditions::now();
    let (rounds, repeat) = (effort.rounds(7), effort.packets(1_000_000));
    let mut rigs = Vec::new();
    for case in &CASES {
        eprintln!("packet: preparing {}", case.name);
        rigs.push(Rig::new(case).with_context(|| case.name)?);
    }
    let mut samples = vec![Samples::default(); CASES.len()];
    for round in 1..=rounds {
        eprintln!("packet: round {round} of {rounds}");
        for (rig, samples) in rigs.iter_mut().zip(&mut samples) {
            samples.push(rig.net_nanos(repeat)?);
        }
    }
    let info = rigs[0].steer()?.info()?;
    let instructions = info.size_translated().unwrap_or(0) / 8;
    let verified = info.verified_instruction_count().unwrap_or(0);
    let rows = CASES.iter().zip(&samples);
    Ok(Report {
        name: "packet",
        unit: "net ns per packet",
        decimals: 1,
        notes: vec![format!(
            "program {STEER_PROGRAM}: {instructions} instructions, {verified} verified"
        )],
        rows: rows.map(|(case, own)| row(case, own, &samples)).collect(),
        conditions: (begin, Conditions::now()),
    })
}

fn row(case: &Case, own: &Samples, all: &[Samples]) -> Row {
    let small = CASES
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
        row.bars = vec![Bar::AtMost(Measure::Ratio(SMALL), FLAT)];
    }
    row
}
