//! `cargo xtask bench`: measures and prints.

use anyhow::Result;
use lb_tests::bench::packet;

fn main() -> Result<()> {
    for row in packet::run(1_000_000, 7)? {
        println!(
            "{:45} {:6.1} ns  ({:.0}..{:.0})  bar {}",
            row["case"].as_str().unwrap_or_default(),
            row["net_ns"].as_f64().unwrap_or_default(),
            row["min"].as_f64().unwrap_or_default(),
            row["max"].as_f64().unwrap_or_default(),
            row["bar_ns"]
        );
    }
    Ok(())
}
