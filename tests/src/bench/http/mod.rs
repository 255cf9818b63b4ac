//! Requests per second of real clients and servers, through one balancer after the other.
//!
//! Client, balancer and servers share the machine, so the figures are about what a balancer costs
//! all of them together, and only ratios within a round mean anything.

mod cpu;
pub(super) mod peers;
mod wrk;

use std::time::Duration;

use anyhow::{Context, Result};
use lb_lab::{Nginx, Routed};

use crate::bench::{
    Effort,
    conditions::Conditions,
    report::{Bar, Measure, Report, Row, Samples},
};
use cpu::Watch;
use peers::{Peer, SERVER_PORT, SERVERS};
use wrk::Load;

const DIRECT: &str = "direct";
const HAPROXY: &str = "HAProxy";

const LOADS: [(Load, &str); 2] = [
    (Load::KeepAlive, "keep-alive"),
    (Load::Close, "connection per request"),
];

/// How long a peer is loaded in a round, and how long before that without counting.
const SPAN: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_secs(1);

/// Figures of one peer under one load.
#[derive(Clone, Debug, Default)]
struct Figures {
    per_second: Samples,
    p50: Samples,
    p99: Samples,
    /// Microseconds of CPU time per request: everybody's, and the balancer's own.
    cpu: Samples,
    own_cpu: Samples,
    socket_errors: u64,
    refused: u64,
    problems: Vec<String>,
}

impl Figures {
    fn skip_to(&mut self, round: usize) {
        let samples = [
            &mut self.per_second,
            &mut self.p50,
            &mut self.p99,
            &mut self.cpu,
            &mut self.own_cpu,
        ];
        samples.into_iter().for_each(|own| own.skip_to(round));
    }
}

struct Case {
    peer: Peer,
    load: Load,
    title: &'static str,
    figures: Figures,
}

/// Measures every peer under both loads.
pub fn run(effort: Effort) -> Result<Report> {
    let begin = Conditions::now();
    let lab = Routed::new(SERVERS)?;
    peers::prepare(&lab)?;
    let servers = (1..=SERVERS).map(|number| lab.start_nginx(number, SERVER_PORT));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    let of_load = |(load, title)| {
        Peer::ALL.map(|peer| Case {
            peer,
            load,
            title,
            figures: Figures::default(),
        })
    };
    let mut cases: Vec<Case> = LOADS.into_iter().flat_map(of_load).collect();
    let rounds = effort.rounds(5);
    for round in 1..=rounds {
        for peer in Peer::ALL {
            eprintln!("http: round {round} of {rounds}: {}", peer.name());
            let own: Vec<_> = cases.iter_mut().filter(|case| case.peer == peer).collect();
            take_turn(&lab, &servers, peer, own, effort);
        }
        cases
            .iter_mut()
            .for_each(|case| case.figures.skip_to(round));
    }
    drop(servers);
    Ok(Report {
        name: "http",
        unit: "requests per second",
        decimals: 0,
        notes: vec![
            "latency and CPU time in microseconds; CPU time per request of client, servers, \
             balancer and ksoftirqd together, its ratio to direct, and the balancer's own"
                .to_owned(),
        ],
        rows: cases.iter().map(|case| row(case, &cases)).collect(),
        conditions: (begin, Conditions::now()),
    })
}

/// Sets a peer up, loads it, and takes it away. What goes wrong is said in its rows.
fn take_turn(
    lab: &Routed,
    servers: &[Nginx],
    peer: Peer,
    mut cases: Vec<&mut Case>,
    effort: Effort,
) {
    let result = (|| {
        let balancer = peer.start(lab)?;
        for case in &mut cases {
            let own = Watch::new(balancer.pid());
            measure(lab, servers, case, &own, effort)?;
        }
        balancer.stop()
    })();
    if let Err(error) = result {
        let problem = format!("{error:#}");
        eprintln!("http: {}: {problem}", peer.name());
        for case in cases {
            case.figures.problems.push(problem.clone());
        }
    }
}

fn measure(
    lab: &Routed,
    servers: &[Nginx],
    case: &mut Case,
    own: &Watch,
    effort: Effort,
) -> Result<()> {
    let span = if effort.is_quick { WARM_UP } else { SPAN };
    let targets = case.peer.targets();
    wrk::run(lab, &targets, case.load, WARM_UP)?;
    let others = servers.iter().map(|server| server.process().pid());
    let others = Watch::new(others).with_softirqs();
    let (own_before, others_before) = (own.micros(), others.micros());
    let client_before = cpu::waited_for_micros()?;
    let counted = wrk::run(lab, &targets, case.load, span)
        .with_context(|| format!("wrk through {}", case.peer.name()))?;
    let client = cpu::waited_for_micros()? - client_before;
    let (own, others) = (own.micros() - own_before, others.micros() - others_before);
    let figures = &mut case.figures;
    figures.per_second.push(counted.per_second);
    figures.p50.push(counted.p50);
    figures.p99.push(counted.p99);
    figures.cpu.push((client + own + others) / counted.requests);
    figures.own_cpu.push(own / counted.requests);
    figures.socket_errors += counted.socket_errors;
    figures.refused += counted.refused;
    Ok(())
}

fn row(case: &Case, all: &[Case]) -> Row {
    let of = |peer| {
        let mut same = all.iter().filter(|other| other.load == case.load);
        same.find(|other| other.peer == peer)
            .map(|other| &other.figures)
    };
    let rate = |peer| Some(case.figures.per_second.relative_to(&of(peer)?.per_second));
    let cpu_of_direct = of(Peer::Direct).map(|direct| case.figures.cpu.relative_to(&direct.cpu));
    let figures = &case.figures;
    let mut problems = figures.problems.clone();
    problems.dedup();
    if figures.socket_errors + figures.refused > 0 {
        problems.push(format!(
            "{} socket errors, {} answers other than 2xx",
            figures.socket_errors, figures.refused
        ));
    }
    Row {
        name: format!("{}, {}", case.peer.name(), case.title),
        samples: figures.per_second.clone(),
        ratios: [(DIRECT, rate(Peer::Direct)), (HAPROXY, rate(Peer::Haproxy))]
            .into_iter()
            .filter_map(|(name, ratio)| Some((name, ratio?)))
            .collect(),
        bars: bar(case.peer, case.load).into_iter().collect(),
        details: vec![
            ("p50", figures.p50.median(), 0),
            ("p99", figures.p99.median(), 0),
            ("CPU", figures.cpu.median(), 1),
            ("of direct's", cpu_of_direct.unwrap_or_default().median(), 2),
            ("own CPU", figures.own_cpu.median(), 1),
            (
                "errors",
                (figures.socket_errors + figures.refused) as f64,
                0,
            ),
        ],
        problems,
    }
}

fn bar(peer: Peer, load: Load) -> Option<Bar> {
    let least = match (peer, load) {
        (Peer::LbNative, Load::Close) => 1.5,
        (Peer::LbGeneric, Load::Close) => 2.0,
        _ => return None,
    };
    Some(Bar::AtLeast(Measure::Ratio(HAPROXY), least))
}
