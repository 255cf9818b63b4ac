//! A SYN flood, while people browse.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::{Audience, Foobar, VIP, flood};

/// Of SYNs: some sixty times what the pages need, and more in a second than the table of half-open
/// flows holds.
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
    let (sent, (pages, slowest)) = (sent???, pages?);
    (audience.seen)(&format!(
        "{sent} SYNs from nobody; {pages} pages came, the slowest in {} ms",
        slowest.as_millis()
    ));
    ensure!(
        sent > u64::from(PER_SECOND) / 10,
        "only {sent} SYNs were sent"
    );
    ensure!(slowest <= AT_MOST, "a page took {} ms", slowest.as_millis());
    Ok(())
}

/// Asks for pages on new connections, and gives how many came and how long the slowest took.
fn browse(foobar: &Foobar) -> Result<(usize, Duration)> {
    // The flood has begun by then.
    thread::sleep(Duration::from_millis(300));
    let (began, mut pages, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    while began.elapsed() < LASTS {
        let answer = foobar.client.get(&foobar.lab, "/");
        let answer = answer.with_context(|| format!("page {pages} of the flood"))?;
        answer.served_by()?;
        slowest = slowest.max(answer.took);
        pages += 1;
    }
    Ok((pages, slowest))
}
