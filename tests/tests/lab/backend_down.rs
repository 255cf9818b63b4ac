//! A web server stops and starts again: the others take over, without a failed request once its
//! checks have failed, and their connections notice nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Farm, Load, Mode, Session, expect_rotation, names, while_loading};

use crate::{WEBS, web};

in_both_modes!(a_backend_stops_and_returns);

const DEADLINE: Duration = Duration::from_secs(10);

fn a_backend_stops_and_returns(mode: Mode) -> Result<()> {
    let mut farm = Farm::of_three(mode)?;
    let mut sessions = (0..6)
        .map(|_| Session::open(&farm.lab, web()))
        .collect::<Result<Vec<_>>>()?;
    let mut ask = |wanted: &[&str]| -> Result<()> {
        for (session, own) in sessions.iter_mut().zip(WEBS.iter().cycle()) {
            if wanted.contains(own) {
                let name = session
                    .name()
                    .with_context(|| format!("a connection to {own}"))?;
                ensure!(name == *own, "a connection to {own} was answered by {name}");
            }
        }
        Ok(())
    };
    ask(&WEBS)?;

    farm.servers[1].stop()?;
    farm.agent.await_backend(
        DEADLINE,
        ("web", "web2"),
        "web2 is out of rotation",
        |backend| {
            let health = backend.text("health")?;
            ensure!(
                health == "down" && !backend.is("in_rotation")?,
                "{backend:?}"
            );
            ensure!(
                backend.text("last_check")?.contains("refused"),
                "{backend:?}"
            );
            Ok(())
        },
    )?;
    let before = farm.agent.status()?.service("web")?.each("connections")?;
    expect_rotation(&names(&farm.lab, web(), 30)?, &["web1", "web3"])?;
    ask(&["web1", "web3"])?;
    let after = farm.agent.status()?.service("web")?.each("connections")?;
    let gained: Vec<u64> = after
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before)
        .collect();
    ensure!(gained == [15, 0, 15], "{gained:?} new connections");

    // It comes back under load, which must not notice either.
    let back = |load: &Load| {
        load.await_more(10)?;
        farm.servers[1].start_again(&farm.lab)?;
        farm.agent.await_backend(
            DEADLINE,
            ("web", "web2"),
            "web2 is in rotation",
            |backend| {
                let health = backend.text("health")?;
                ensure!(health == "up" && backend.is("in_rotation")?, "{backend:?}");
                Ok(())
            },
        )?;
        load.await_more(10)
    };
    let ((), during) = while_loading(&farm.lab, web(), back)?;
    ensure!(during.len() >= 20, "there was no load");
    let names = names(&farm.lab, web(), 30)?;
    expect_rotation(&names, &WEBS)?;
    ask(&["web1", "web3"])?;
    Ok(())
}
