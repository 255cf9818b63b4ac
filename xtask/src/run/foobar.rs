//! `cargo xtask run --example foobar`: the reference deployment, with its story or with a tour.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lb_lab::Lab;
use lb_lab::foobar::{Audience, Foobar, Monitor, NAME, Options, story};

use super::XdpMode;
use crate::{RunArguments, build, console, interrupt};

const PERIOD: Duration = Duration::from_secs(2);
/// How often the view is repeated where it cannot be redrawn.
const PERIOD_WITHOUT_TERMINAL: Duration = Duration::from_secs(30);
const NAP: Duration = Duration::from_millis(50);

/// Builds it, plays the story or shows it until Ctrl-C, and takes it down on every way out.
pub(super) fn run(arguments: &RunArguments) -> ExitCode {
    let began = Instant::now();
    match attempt(arguments) {
        Ok(()) => {
            console::done("the deployment is removed; all of it took", began);
            ExitCode::SUCCESS
        }
        Err(_) if interrupt::is_asked() && !arguments.once => ExitCode::SUCCESS,
        Err(error) => {
            console::failed(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn attempt(arguments: &RunArguments) -> Result<()> {
    let audience = Audience {
        done: &|text, began| console::done(text, began),
        seen: &|text| println!("    {text}"),
        go_on: &interrupt::check,
    };
    console::heading(format!("The deployment of {NAME}"));
    let mode = match arguments.mode {
        _ if arguments.generic => "generic",
        XdpMode::Auto => "auto",
        XdpMode::Native => "native",
        XdpMode::Generic => "generic",
    };
    let options = Options {
        lb: build::release_path(),
        xdp_mode: mode.to_owned(),
        active_passive: arguments.active_passive,
    };
    let mut foobar = Foobar::start(Lab::new_well_known(false)?, options, audience)?;
    if arguments.once {
        console::heading("The story");
        return story::play(&mut foobar, audience);
    }
    tour(&foobar)?;
    view(&foobar)
}

/// A few commands with their real results.
fn tour(foobar: &Foobar) -> Result<()> {
    console::heading("Pages, as the client sees them");
    for _ in 0..4 {
        interrupt::check()?;
        let page = foobar.client.get(&foobar.lab, "/users")?;
        print!("  HTTP/{} {} {}", page.version, page.status, page.body);
    }
    console::heading("What the active balancer says");
    let active = foobar
        .balancers
        .get(foobar.active()?)
        .context("no balancer")?;
    print!("{}", active.agent.lb(&["status"])?);
    println!("\n{}", lines_to_try());
    Ok(())
}

fn lines_to_try() -> String {
    let site = format!("https://{NAME}/");
    let lines = [
        format!("client curl -i {site}"),
        format!("client curl -d name=Ada -d email=ada@example.org {site}users"),
        "lb1 lb status".to_owned(),
        "lb1 lb top".to_owned(),
        "lb1 lb firewall list".to_owned(),
        "app1 lb mysql status".to_owned(),
        "monitor curl https://10.50.0.11:9900/metrics".to_owned(),
        format!("monitor curl {}api/v1/alerts", Monitor::url()),
    ];
    let lines = lines.map(|line| format!("  cargo xtask lab exec {line}"));
    format!(
        "From another terminal:\n{}\nStatus pages, in the inner network: https://10.50.0.11:9900/ (lb1), .12 \
         (lb2), .21 (app1), .22 (app2);\nPrometheus: {}alerts",
        lines.join("\n"),
        Monitor::url()
    )
}

/// Who is active and what goes where, until Ctrl-C.
fn view(foobar: &Foobar) -> Result<()> {
    let terminal = console::is_terminal();
    let period = if terminal {
        PERIOD
    } else {
        PERIOD_WITHOUT_TERMINAL
    };
    console::heading("Live, until Ctrl-C");
    while !interrupt::is_asked() {
        let now = Instant::now();
        let mut text = String::new();
        for (number, balancer) in foobar.balancers.iter().enumerate() {
            let has = match foobar.active() {
                Ok(active) if active == number => "has the VIP",
                _ => "stands by",
            };
            let status = balancer.agent.lb(&["status"]);
            let status = status.unwrap_or_else(|error| format!("{error:#}\n"));
            text.push_str(&format!("{} {has}\n{status}\n", balancer.name));
        }
        if terminal {
            print!(
                "\x1b[2J\x1b[H{text}\n{}\n\nCtrl-C ends it.\n",
                lines_to_try()
            );
        } else {
            println!("{text}");
        }
        while now.elapsed() < period && !interrupt::is_asked() {
            thread::sleep(NAP);
        }
    }
    println!();
    Ok(())
}
