//! `wrk` with kept connections: no error of any kind, and an even spread.

use std::fs;

use anyhow::{Context, Result, ensure};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Farm, Mode, checksum_errors};

use crate::WEBS;

in_both_modes!(sixty_four_connections_for_three_seconds);

fn sixty_four_connections_for_three_seconds(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    for server in &farm.servers {
        fs::write(server.root().join("page"), vec![b'x'; 4096])?;
    }
    let url = "http://203.0.113.10/page";
    let said = farm
        .lab
        .run("client", "wrk", &["-t2", "-c64", "-d3s", url])?;
    eprintln!("{said}");
    ensure!(!said.contains("Socket errors"), "{said}");
    ensure!(!said.contains("Non-2xx"), "{said}");
    let requests: u64 = said
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())
        .context("wrk does not say how many requests it made")?;
    ensure!(requests > 1000, "only {requests} requests");

    let status = farm.agent.status()?;
    let connections = status.service("web")?.each("connections")?;
    let (least, most) = (connections.iter().min(), connections.iter().max());
    let difference = most.zip(least).map(|(most, least)| most - least);
    ensure!(difference <= Some(1), "not even: {connections:?}");
    // wrk tries the address with one more connection before it begins.
    let total: u64 = connections.iter().sum();
    ensure!((64..=65).contains(&total), "{total} connections");
    status.expect_no_drops()?;
    for namespace in WEBS.iter().chain(&["client"]) {
        let errors = checksum_errors(&farm.lab, namespace)?;
        ensure!(errors == 0, "{errors} wrong checksums in {namespace}");
    }
    Ok(())
}
