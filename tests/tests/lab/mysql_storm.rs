//! Many more clients at once than servers take connections: all of them log in and read.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use lb_tests::database::{Client, Family};

use crate::mysql_bed::{Bed, PROXY, one_host};

/// That the servers take.
const CONNECTIONS: usize = 12;
const CLIENTS: usize = 8 * CONNECTIONS;
const READS: usize = 5;

fn session(address: SocketAddr, all_are_in: &Barrier) -> Result<()> {
    let opened = Client::open(address, "app", "app");
    all_are_in.wait();
    let mut client = opened.context("at the login")?;
    for _ in 0..READS {
        let row = client.row("SELECT 7 FROM pair.writes LIMIT 1")?;
        ensure!(row == [Some("7".to_owned())], "{row:?}");
    }
    Ok(())
}

#[test]
fn mysql_full_servers_serve_a_storm_of_clients() -> Result<()> {
    let family = Family::MySql;
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let bed = Bed::start(&lab, family)?;
    for server in [&bed.pair.primary, &bed.pair.replica] {
        server.run(&format!("SET GLOBAL max_connections = {CONNECTIONS}"))?;
    }
    let address = ([127, 0, 0, 1], PROXY).into();
    let barrier = Barrier::new(CLIENTS);
    let outcomes = lab.within("db", || {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..CLIENTS)
                .map(|_| scope.spawn(|| session(address, &barrier)))
                .collect();
            let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
            joined
                .map(|outcome| outcome.map_err(|_| anyhow!("a panic"))?)
                .collect::<Vec<Result<()>>>()
        })
    })?;
    let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    ensure!(
        failed.is_empty(),
        "{} of {CLIENTS} clients: {:#}",
        failed.len(),
        failed[0]
    );
    Ok(())
}
