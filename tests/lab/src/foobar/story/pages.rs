//! Pages over HTTPS.

use anyhow::{Context, Result, ensure};

use super::super::{Audience, Foobar, NAME};

const PAGES: usize = 20;

/// Each new connection goes to the next app host; or all to the first, where the second is a
/// backup.
pub(super) fn in_turn(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    let seen = who_serves(foobar, PAGES)?;
    (audience.seen)(&seen.join(" "));
    if foobar.options.active_passive {
        ensure!(seen.iter().all(|name| name == "app1"), "{seen:?}");
        return Ok(());
    }
    let first = seen.first().context("no page came")?;
    let second = if first == "app1" { "app2" } else { "app1" };
    for (number, name) in seen.iter().enumerate() {
        let expected = [first.as_str(), second][number % 2];
        ensure!(name == expected, "page {number} came from {name}: {seen:?}");
    }
    Ok(())
}

/// What browsers are told about encryption.
pub(super) fn encrypted(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    let plain = foobar
        .client
        .ask(&foobar.lab, &[&format!("http://{NAME}/users")])?;
    let location = plain.header("location").unwrap_or_default();
    ensure!(
        plain.status == 301 && location == format!("https://{NAME}/users"),
        "port 80 answered {} {location}",
        plain.status
    );
    let page = foobar.client.get(&foobar.lab, "/")?;
    ensure!(page.status == 200, "status {}", page.status);
    ensure!(page.version == "2", "HTTP/{}", page.version);
    let security = page.header("strict-transport-security").unwrap_or_default();
    ensure!(security.contains("max-age="), "HSTS: {security:?}");
    (audience.seen)(&format!(
        "port 80: 301 {location}; port 443: HTTP/{}, {security}",
        page.version
    ));
    Ok(())
}

/// Asks for pages, each on a new connection, and gives who served them.
pub(super) fn who_serves(foobar: &Foobar, pages: usize) -> Result<Vec<String>> {
    let ask = |number| {
        let answer = foobar.client.get(&foobar.lab, "/");
        answer
            .and_then(|answer| answer.served_by())
            .with_context(|| format!("page {number}"))
    };
    (1..=pages).map(ask).collect()
}
