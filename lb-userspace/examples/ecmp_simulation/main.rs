//! How many connections move when a balancer behind a router comes or goes, and what becomes of them;
//! and how many bytes telling of them takes: `cargo run --release -p lb-userspace --example
//! ecmp_simulation`.
#![allow(clippy::print_stdout, reason = "it is a program that prints")]

mod fleet;

use fleet::{Change, Hashing, simulate};
use lb_userspace::cluster::wire;

const FLOWS: u64 = 1_000_000;
/// New ones in a second, at all balancers together.
const RATE: f64 = 100_000.0;
/// Of Ethernet, IPv4 and UDP, for each datagram.
const HEADERS: usize = 14 + 20 + 8;

fn main() {
    println!(
        "balancers   one    router     moved   reset: alone / told   other backend: turns / maglev"
    );
    for count in [2, 4, 8, 16, 32, 64] {
        for change in [Change::Comes, Change::Goes] {
            for hashing in [Hashing::Modulo, Hashing::Threshold, Hashing::Resilient] {
                let outcome = simulate(count, FLOWS, hashing, change);
                println!(
                    "{count:>9}   {:<5}  {:<9}  {:>5.1} %   {:>5.1} % / {:.3} %   {:>5.1} % / {:.1} %",
                    format!("{change:?}").to_lowercase(),
                    format!("{hashing:?}").to_lowercase(),
                    outcome.moved * 100.0,
                    // Without a word from others, a balancer resets what it does not know.
                    outcome.moved * 100.0,
                    outcome.lost_with_sync * 100.0,
                    outcome.other_by_turns * 100.0,
                    outcome.other_by_maglev * 100.0,
                );
            }
        }
    }
    let datagram = (wire::LONGEST + HEADERS) as f64;
    let each = datagram / wire::MOST_NARROW as f64;
    let wide = datagram / wire::MOST_WIDE as f64;
    println!(
        "\n{each:.0} bytes on the wire for an IPv4 connection and peer, {wide:.0} for IPv6, in full datagrams;"
    );
    println!("MB/s for {RATE} new IPv4 connections a second in all, none of which ends:");
    println!("balancers   each one sends   hears   all together");
    for count in [2, 4, 8, 16, 32, 64] {
        let all = RATE * each * f64::from(count - 1) / 1e6;
        let own = all / f64::from(count);
        println!("{count:>9}   {own:>14.1}   {own:>5.1}   {all:>12.1}");
    }
}
