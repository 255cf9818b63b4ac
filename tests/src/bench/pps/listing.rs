//! How long `lb flows` takes with a million flows, of a real agent.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Result, ensure};
use lb_common::host::MAC_BALANCER;
use lb_lab::Lab;

use super::{
    bed::{self, Bed, MAC_G0, NAMESPACE},
    peers::VIP,
};
use crate::{
    bench::{
        Effort,
        conditions::Conditions,
        report::{Report, Row},
        template::{Segment, frame, plan},
    },
    scenario::{Agent, Backend, Check, Config, Mode, Outcome, Service, binary},
};

/// Flows that are begun and established at a time: half of what may be half-open.
const CHUNK: u32 = 32_768;
/// Chunks: a million flows.
const CHUNKS: u32 = 32;

/// Establishes the flows and lists them in different ways.
///
/// # Errors
/// When the agent does not start, or a listing fails.
pub fn run(effort: Effort) -> Result<Report> {
    let begin = Conditions::now();
    let mut lab = Lab::new()?;
    bed::wire(&mut lab)?;
    let vip: SocketAddr = VIP.parse()?;
    let backends = ["10.0.0.11", "10.0.0.12", "10.0.0.13"]
        .into_iter()
        .zip(1..)
        .map(|(address, number)| {
            Ok(Backend {
                name: format!("web{number}"),
                address: address.parse()?,
                port: vip.port(),
                weight: 1,
                is_backup: false,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let service = Service::tcp("web", vip.ip(), vip.port(), backends)
        .check(Check::None)
        .key("forwarding", "dsr-l2");
    let config = Config::new(&lab, &["l0".to_owned(), "l1".to_owned()], Mode::Native)
        .flows(CHUNK * CHUNKS)
        .service(service);
    let agent = Agent::start_by(&lab, &config, lab.command(NAMESPACE, binary()?)?)?;
    eprintln!("listing: establishing flows");
    lab.within(NAMESPACE, || fill(vip))??;

    let status = agent.status()?;
    let entries = status.flow_table("established")?.number("entries")?;
    ensure!(
        entries > u64::from(CHUNK * CHUNKS) * 95 / 100,
        "only {entries} flows stand in the table"
    );
    let mut rows = Vec::new();
    for (name, arguments) in [
        ("lb flows --count", vec!["flows", "--count"]),
        (
            "lb flows --client 10.64.0.0/24",
            vec!["flows", "--client", "10.64.0.0/24"],
        ),
        ("lb flows --limit 20", vec!["flows", "--limit", "20"]),
        ("lb flows --json", vec!["flows", "--json"]),
        ("lb flows", vec!["flows"]),
        ("lb status", vec!["status"]),
    ] {
        let mut row = Row {
            name: name.to_owned(),
            ..Row::default()
        };
        let mut bytes = 0;
        for _ in 0..effort.rounds(3) {
            let start = Instant::now();
            let outcome: Outcome = agent.asked(&arguments)?;
            row.samples.push(start.elapsed().as_secs_f64() * 1000.0);
            bytes = outcome.expect_success()?.len();
        }
        row.details = vec![("MiB", bytes as f64 / f64::from(1 << 20), 1)];
        rows.push(row);
    }
    Ok(Report {
        name: "listing",
        unit: "ms",
        decimals: 0,
        notes: vec![format!("{entries} flows in the established table")],
        rows,
        conditions: (begin, Conditions::now()),
    })
}

fn fill(vip: SocketAddr) -> Result<()> {
    let mut bed = Bed::new()?;
    for chunk in 0..CHUNKS {
        // A chunk's flows differ in the port and in the last three bits of the address.
        let client = SocketAddr::new(
            [10, 64, (chunk >> 5) as u8, (chunk << 3) as u8].into(),
            32_768,
        );
        for segment in [Segment::Syn, Segment::Ack(5001)] {
            let frame = frame((MAC_G0, MAC_BALANCER), client, vip, segment)?;
            let plan = plan(&frame, u64::from(CHUNK), 0);
            bed.send(plan, CHUNK)?;
        }
    }
    Ok(())
}
