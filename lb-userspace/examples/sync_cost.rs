//! What it costs to tell another balancer of connections:
//! `cargo run --release -p lb-userspace --example sync_cost`. With a rate, an object for `cargo xtask
//! bench sync`.
#![allow(clippy::print_stdout, reason = "it is a program that prints")]

use std::{env, error::Error, time::Duration};

use lb_userspace::cluster;

const SPAN: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(rate) = env::args().nth(1) {
        let cost = cluster::cost(rate.parse()?, SPAN)?;
        let document = serde_json::json!({
            "rate": cost.rate,
            "sender_percent": cost.sender * 100.0,
            "receiver_percent": cost.receiver * 100.0,
            "bytes_per_flow": cost.bytes,
            "known_percent": cost.known * 100.0,
        });
        println!("{document}");
        return Ok(());
    }
    println!("new flows/s   sender   receiver   bytes/flow   MB/s   known");
    for rate in [10_000, 50_000, 100_000] {
        for _ in 0..3 {
            let cost = cluster::cost(rate, SPAN)?;
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
