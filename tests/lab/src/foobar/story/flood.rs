//! A SYN flood, while people browse.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::{Audience, Foobar, VIP, flood};

/// Of SYNs.
const PER_SECOND: u32 = 20_000;
const LASTS: Duration = Duration::from_secs(3);
/// How long a page may take meanwhile.
const AT_MOST: Duration = Duration::from_secs(1);

pub(super) fn browsing_goes_on(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    let (foobar, stop) = (&*foobar, AtomicBool::new(false));
    let (sent, pages) = thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let work = || flood::run((VIP, 443), PER_SECOND, &stop);
            foobar.lab.within("client", work)
        });
        let pages = browse(foobar);
        stop.store(true, Ordering::Relaxed);
        let sent = flooding
            .join()
            .map_err(|_| anyhow::anyhow!("the flood ended"));
        (sent, pages)
    });
    let (sent, times) = (sent???, pages?);
    let slowest = times.iter().max().context("no page came")?;
    let late = times.iter().filter(|time| **time > AT_MOST).count();
    (audience.seen)(&format!(
        "{sent} SYNs from nobody; {} pages came, the slowest in {} ms",
        times.len(),
        slowest.as_millis()
    ));
    ensure!(
        sent > u64::from(PER_SECOND) / 10,
        "only {sent} SYNs were sent"
    );
    ensure!(late == 0, "pages took {times:?}");
    Ok(())
}

/// Asks for pages on new connections, and gives how long each took.
fn browse(foobar: &Foobar) -> Result<Vec<Duration>> {
    // The flood has begun by then.
    thread::sleep(Duration::from_millis(300));
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < LASTS {
        let answer = foobar.client.get(&foobar.lab, "/");
        let answer = answer.with_context(|| format!("page {} of the flood", times.len()))?;
        answer.served_by()?;
        times.push(answer.took);
    }
    Ok(times)
}
