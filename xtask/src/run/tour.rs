//! The tour: a few commands with their real results, on screen in a few seconds.

use std::process::Command;

use anyhow::{Context, Result};

use crate::console;
use crate::interrupt;
use crate::stage::{Stage, vip};

/// How many requests the tour shows.
const REQUESTS: usize = 6;

pub(super) fn show(stage: &Stage) -> Result<()> {
    let url = format!("http://{}/", vip().ip());
    console::heading("Requests by the client, each on a new connection");
    for _ in 0..REQUESTS {
        interrupt::check()?;
        in_client(stage, &["curl", "-sS", "-m", "5", &url])?;
    }
    console::heading("A load of 64 connections");
    in_client(stage, &["wrk", "-t2", "-c64", "-d2s", &url])?;
    interrupt::check()?;
    console::heading("What lb says");
    print_and_run(&mut stage.lb(&["status"]), "lb status")?;
    console::heading("To try from another terminal");
    println!("{}", stage.lines_to_try());
    Ok(())
}

fn in_client(stage: &Stage, words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().context("no command")?;
    let mut command = stage.lab().command("client", program)?;
    print_and_run(
        command.args(arguments),
        &format!("lab exec client {}", words.join(" ")),
    )
}

fn print_and_run(command: &mut Command, shown: &str) -> Result<()> {
    println!("$ {shown}");
    let output = command
        .output()
        .with_context(|| format!("{shown} cannot be started"))?;
    for stream in [&output.stdout, &output.stderr] {
        print!("{}", String::from_utf8_lossy(stream));
    }
    Ok(())
}
