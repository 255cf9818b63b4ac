//! What it costs to tell another balancer of connections:
//! `cargo run --release -p lb-userspace --example sync_cost`.
#![allow(clippy::print_stdout, reason = "it is a program that prints")]

use std::{io, time::Duration};

use lb_userspace::cluster;

fn main() -> io::Result<()> {
    println!("new flows/s   sender   receiver   bytes/flow   MB/s   known");
    for rate in [10_000, 50_000, 100_000] {
        for _ in 0..3 {
            let cost = cluster::cost(rate, Duration::from_secs(5))?;
            println!(
                "{:>11.0}  {:>6.1}%  {:>8.1}%  {:>11.1}  {:>5.2}  {:.3}%",
                cost.rate,
                cost.sender * 100.0,
                cost.receiver * 100.0,
                cost.bytes,
                cost.bytes * cost.rate / 1e6,
                cost.known * 100.0
            );
        }
    }
    Ok(())
}
