//! The alerts that no step before has seen: each fires, and resolves when its cause is gone.

use anyhow::{Result, bail, ensure};

use nix::sys::signal::Signal;

use super::super::certificate::YEAR;
use super::super::{Audience, Foobar, NAME};
use super::app_host::await_health;
use super::pages;

/// Days that are too few.
const SHORT: u32 = 5;

pub(super) fn fire_and_resolve(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    foobar.monitor.await_quiet()?;
    certificate_and_reload(foobar)?;
    (audience.seen)("LbCertificateExpiring and LbReloadFailed fired and resolved");
    nobody_serves(foobar)?;
    (audience.seen)("LbServiceDown fired and resolved");
    pages::in_turn(foobar, audience)
}

/// A certificate that ends in days, and a config that is refused.
fn certificate_and_reload(foobar: &mut Foobar) -> Result<()> {
    show_certificate(foobar, SHORT)?;
    let agent = &foobar.balancers[0].agent;
    agent.rewrite(|text| text.replace("port = 443", "port = 443443"))?;
    match agent.lb(&["reload"]) {
        Ok(said) => bail!("a wrong config was taken: {said}"),
        Err(error) => ensure!(format!("{error:#}").contains("443443"), "{error:#}"),
    }
    foobar
        .monitor
        .await_firing(&["LbCertificateExpiring", "LbReloadFailed"])?;
    pages::who_serves(foobar, 2)?;
    show_certificate(foobar, YEAR)?;
    let agent = &foobar.balancers[0].agent;
    agent.rewrite(|text| text.replace("port = 443443", "port = 443"))?;
    agent.lb(&["reload"])?;
    foobar.monitor.await_quiet()
}

/// Both web servers stop.
fn nobody_serves(foobar: &mut Foobar) -> Result<()> {
    for app in &mut foobar.apps {
        app.nginx.stop()?;
    }
    for app in ["app1", "app2"] {
        await_health(foobar, app, "down")?;
    }
    foobar
        .monitor
        .await_firing(&["LbServiceDown", "LbBackendDown"])?;
    for app in &mut foobar.apps {
        app.nginx.start_again(&foobar.lab)?;
    }
    for app in ["app1", "app2"] {
        await_health(foobar, app, "up")?;
    }
    foobar.monitor.await_quiet()
}

/// Both web servers show another certificate from now on, as after a renewal.
fn show_certificate(foobar: &Foobar, days: u32) -> Result<()> {
    foobar.authority.issue(NAME, &[NAME], days)?;
    let mut apps = foobar.apps.iter();
    apps.try_for_each(|app| app.nginx.process().signal(Signal::SIGHUP))
}
