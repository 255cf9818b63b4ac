//! The deny list.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};

use super::super::balancers::deny_file;
use super::super::network::OFFENDER;
use super::super::{Audience, Foobar, NAME, VIP, flood};
use super::pages;

/// Where the flood comes from.
const FLOOD: &str = "198.18.0.0/15";
const PER_SECOND: u32 = 2_000;

/// One address that is denied gets no answer, and a flood from denied addresses is dropped before it
/// costs anything; the alert says that packets are dropped.
pub(super) fn denied(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    ensure!(
        ask_as_offender(foobar)?,
        "{OFFENDER} gets no page, and nobody has denied it"
    );
    let offender = OFFENDER.to_string();
    by_command(foobar, &["firewall", "deny", &offender])?;
    by_file(foobar, FLOOD)?;
    ensure!(
        !ask_as_offender(foobar)?,
        "{OFFENDER} is denied, and gets pages"
    );
    pages::in_turn(foobar, audience)?;
    alert_while_flooded(foobar)?;
    (audience.seen)(&format!(
        "{OFFENDER} and {FLOOD} got nothing, others pages; LbPacketsDropped fired"
    ));
    by_file(foobar, "")?;
    by_command(foobar, &["firewall", "clear", &offender])?;
    ensure!(
        ask_as_offender(foobar)?,
        "{OFFENDER} is denied no more, and gets no page"
    );
    foobar.monitor.await_quiet()
}

/// Runs `lb firewall` at both balancers: neither tells the other.
fn by_command(foobar: &Foobar, words: &[&str]) -> Result<()> {
    let mut balancers = foobar.balancers.iter();
    balancers.try_for_each(|balancer| balancer.agent.lb(words).map(drop))
}

/// Puts prefixes into the file of those who are denied, and has both balancers read it.
fn by_file(foobar: &Foobar, prefixes: &str) -> Result<()> {
    fs::write(deny_file(&foobar.lab)?, prefixes)?;
    for balancer in &foobar.balancers {
        balancer.agent.lb(&["reload"])?;
    }
    Ok(())
}

/// Whether the other address of the client gets a page.
fn ask_as_offender(foobar: &Foobar) -> Result<bool> {
    let from = OFFENDER.to_string();
    let words = [
        "--interface",
        &from,
        "--output",
        "/dev/null",
        "--max-time",
        "2",
    ];
    let mut curl = foobar.client.curl(&foobar.lab, &words)?;
    let output = curl.arg(format!("https://{NAME}/healthz")).output()?;
    Ok(output.status.success())
}

fn alert_while_flooded(foobar: &Foobar) -> Result<()> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let work = || flood::run((VIP, 443), PER_SECOND, &stop);
            foobar.lab.within("client", work)
        });
        let fired = foobar.monitor.await_firing(&["LbPacketsDropped"]);
        stop.store(true, Ordering::Relaxed);
        let flooded = flooding
            .join()
            .map_err(|_| anyhow::anyhow!("the flood ended"));
        flooded???;
        fired
    })
}
