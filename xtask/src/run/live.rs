//! The live view: a table of what goes where, every second until Ctrl-C.

use std::collections::HashMap;
use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::console;
use crate::interrupt;
use crate::stage::{Backend, Stage, Status};

const PERIOD: Duration = Duration::from_secs(1);
/// How often the table is repeated where it cannot be redrawn.
const PERIOD_WITHOUT_TERMINAL: Duration = Duration::from_secs(10);
/// How long a Ctrl-C may go unnoticed.
const NAP: Duration = Duration::from_millis(50);

/// What was counted for a backend, by service and backend.
type Counts = HashMap<(String, String), (u64, u64)>;

pub(super) fn view(stage: &Stage) -> Result<()> {
    let terminal = console::is_terminal();
    let period = if terminal {
        PERIOD
    } else {
        PERIOD_WITHOUT_TERMINAL
    };
    console::heading("Live, until Ctrl-C");
    let mut before: Option<(Instant, Counts)> = None;
    while !interrupt::is_asked() {
        let status = stage.status()?;
        let now = Instant::now();
        let table = table(
            &status,
            before.as_ref().map(|(then, counts)| (now - *then, counts)),
        )?;
        if terminal {
            print!(
                "\x1b[2J\x1b[H{table}\n{}\n\nCtrl-C ends it.\n",
                stage.lines_to_try()
            );
        } else {
            println!("{table}");
        }
        before = Some((now, counts(&status)));
        while now.elapsed() < period && !interrupt::is_asked() {
            thread::sleep(NAP);
        }
    }
    println!();
    Ok(())
}

fn counts(status: &Status) -> Counts {
    let mut counts = Counts::new();
    for service in &status.services {
        for backend in &service.backends {
            let key = (service.name.clone(), backend.name.clone());
            counts.insert(key, (backend.connections, backend.packets));
        }
    }
    counts
}

fn table(status: &Status, before: Option<(Duration, &Counts)>) -> Result<String> {
    let mut text = format!("lb on {}\n", status.interfaces.join(", "));
    for service in &status.services {
        writeln!(text, "\n{} {}", service.name, service.address)?;
        writeln!(
            text,
            "  {:<10}{:<8}{:<10}{:>13}{:>12}{:>12}{:>14}",
            "backend", "state", "health", "connections", "per second", "active", "packets/s"
        )?;
        for backend in &service.backends {
            let key = (service.name.clone(), backend.name.clone());
            let earlier = before.and_then(|(time, counts)| Some((time, counts.get(&key)?)));
            let (connections, packets) = rates(backend, earlier);
            writeln!(
                text,
                "  {:<10}{:<8}{:<10}{:>13}{:>12}{:>12}{:>14}",
                backend.name,
                backend.state,
                backend.health,
                backend.connections,
                connections,
                backend.active_flows,
                packets
            )?;
        }
    }
    writeln!(text, "\nverdicts")?;
    for (label, count) in &status.verdicts {
        writeln!(text, "  {label:<36}{count:>17}")?;
    }
    Ok(text)
}

/// New connections and packets per second since the view before.
fn rates(backend: &Backend, earlier: Option<(Duration, &(u64, u64))>) -> (String, String) {
    let Some((time, (connections, packets))) = earlier else {
        return ("-".to_owned(), "-".to_owned());
    };
    let rate = |now: u64, then: u64| {
        let difference = now.saturating_sub(then) as f64;
        format!("{:.0}", difference / time.as_secs_f64().max(f64::EPSILON))
    };
    (
        rate(backend.connections, *connections),
        rate(backend.packets, *packets),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::rates;
    use crate::stage::Backend;

    #[test]
    fn rates_are_per_second() {
        let backend = Backend {
            name: "web1".to_owned(),
            state: "ready".to_owned(),
            health: "up".to_owned(),
            in_rotation: true,
            connections: 300,
            active_flows: 0,
            packets: 5000,
        };
        assert_eq!(rates(&backend, None), ("-".to_owned(), "-".to_owned()));
        let earlier = Some((Duration::from_secs(2), &(100, 1000)));
        assert_eq!(
            rates(&backend, earlier),
            ("100".to_owned(), "2000".to_owned())
        );
    }
}
