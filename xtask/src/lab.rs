//! `cargo xtask lab`: the same lab as that of `cargo xtask run`, for people who want to play.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::{Context, Error, Result};
use lb_lab::Lab;
use lb_lab::foobar::Foobar;

use crate::setup::{self, Scope};
use crate::stage::{self, Stage};
use crate::{build, root};

pub(crate) fn up() -> Result<()> {
    if !root::is_built() {
        setup::run(Scope::Run)?;
        build::release()?;
    }
    root::go_on_as_root("a lab of network namespaces needs root")?;
    let stage = Stage::set(true)?;
    println!(
        "\nThe lab is up and stays. To try:\n{}",
        stage.lines_to_try()
    );
    println!("  cargo xtask lab down");
    Ok(())
}

pub(crate) fn down() -> Result<()> {
    root::go_on_as_root("taking network namespaces down needs root")?;
    Lab::remove_well_known()
}

/// Becomes the command, inside a namespace of the lab that is up.
pub(crate) fn exec(namespace: &str, words: &[String]) -> Result<ExitCode> {
    root::go_on_as_root("entering a network namespace needs root")?;
    let lab = Lab::open_well_known()?;
    let (program, arguments) = words.split_first().context("no command is given")?;
    // First of all the lab's own commands, such as an `lb` that knows the lab's admin socket.
    let own = Foobar::commands_folder(&lab, namespace);
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [own, stage::commands_folder(&lab)].into_iter();
    let path = env::join_paths(folders.chain(env::split_paths(&path)))?;
    let error = lab
        .command(namespace, program)?
        .args(arguments)
        .env("PATH", path)
        .exec();
    Err(Error::new(error).context(format!("{program} cannot be started")))
}
