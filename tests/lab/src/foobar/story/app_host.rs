//! An app host dies: pages come from the other, and so do reads.

use anyhow::{Result, ensure};

use super::super::{Audience, Foobar, network, patience};
use super::pages::{self, who_serves};
use super::registration::{list, register};

const PAGES: usize = 10;

pub(super) fn dies_and_returns(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    foobar.monitor.await_quiet()?;
    if foobar.options.active_passive {
        return the_active_one(foobar, audience);
    }
    network::plug(&foobar.lab, "app2", false)?;
    await_health(foobar, "app2", "down")?;
    // The replica died with its host; whoever is just asking it waits.
    let list = patience::await_until(patience::LONG, "the primary answers reads", || {
        let list = list(foobar)?;
        ensure!(list["server"] == 1, "{list}");
        Ok(list)
    })?;
    let seen = who_serves(foobar, PAGES)?;
    ensure!(seen.iter().all(|name| name == "app1"), "{seen:?}");
    register(foobar, "Barbara")?;
    foobar
        .monitor
        .await_firing(&["LbBackendDown", "LbServiceOneBackendLeft", "LbAgentGone"])?;
    (audience.seen)(&format!(
        "without app2: {PAGES} pages from app1, reads from db{}, LbBackendDown fires",
        list["server"]
    ));
    network::plug(&foobar.lab, "app2", true)?;
    await_health(foobar, "app2", "up")?;
    patience::await_until(patience::LONG, "the replica answers reads", || {
        let list = self::list(foobar)?;
        ensure!(list["server"] == 2, "{list}");
        Ok(())
    })?;
    pages::in_turn(foobar, audience)?;
    foobar.monitor.await_quiet()
}

/// Where app2 is a backup: the web server of app1 stops, and app2 serves until it is back.
fn the_active_one(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    foobar.apps[0].nginx.stop()?;
    await_health(foobar, "app1", "down")?;
    let seen = who_serves(foobar, PAGES)?;
    (audience.seen)(&seen.join(" "));
    ensure!(seen.iter().all(|name| name == "app2"), "{seen:?}");
    foobar.monitor.await_firing(&["LbBackendDown"])?;
    foobar.apps[0].nginx.start_again(&foobar.lab)?;
    await_health(foobar, "app1", "up")?;
    pages::in_turn(foobar, audience)?;
    foobar.monitor.await_quiet()
}

pub(super) fn await_health(foobar: &Foobar, backend: &str, health: &str) -> Result<()> {
    let mut balancers = foobar.balancers.iter();
    balancers.try_for_each(|balancer| balancer.await_health(backend, health))
}
