//! The active balancer dies.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::super::{Audience, Foobar, VIP, patience};
use super::pages;

/// How long the VIP may be nowhere.
const AT_MOST: Duration = Duration::from_secs(1);

pub(super) fn dies_and_returns(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    let dying = foobar.active()?;
    let name = foobar.balancers[dying].name.clone();
    let cut = Instant::now();
    foobar.balancers[dying].cut(&foobar.lab)?;
    let gap = until_it_answers(foobar, cut)?;
    (audience.seen)(&format!(
        "{name} was cut off; new connections after {} ms",
        gap.as_millis()
    ));
    ensure!(
        gap <= AT_MOST,
        "the VIP took {} ms to move",
        gap.as_millis()
    );
    pages::in_turn(foobar, audience)?;
    foobar.monitor.await_firing(&["LbAgentGone"])?;

    foobar.balancers[dying].return_again(&foobar.lab)?;
    for backend in ["app1", "app2"] {
        foobar.balancers[dying].await_health(backend, "up")?;
    }
    patience::await_until(patience::LONG, "one balancer has the VIP", || {
        let active = foobar.active()?;
        ensure!(active != dying, "{name} took the VIP back");
        Ok(())
    })?;
    pages::in_turn(foobar, audience)?;
    foobar.monitor.await_quiet()
}

/// Connects again and again, and gives the time from the cut to the first connection.
fn until_it_answers(foobar: &Foobar, cut: Instant) -> Result<Duration> {
    let address = SocketAddr::new(VIP.into(), 443);
    let gap = foobar.lab.within("client", || {
        while cut.elapsed() < patience::LONG {
            if TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_ok() {
                return Some(cut.elapsed());
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    })?;
    gap.ok_or_else(|| anyhow::anyhow!("the VIP did not come back"))
}
