//! `cargo xtask run`: the lab with a tour and a live view, the demonstration, or this host.

mod live;
mod once;
mod tour;

use std::process::ExitCode;

use anyhow::Result;

use crate::setup::{self, Scope};
use crate::stage::Stage;
use crate::{RunArguments, build, console, host, interrupt, root};

pub(crate) fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let on_host = arguments.config.is_some()
        || arguments.interface.is_some()
        || !arguments.arguments.is_empty();
    if !root::is_built() {
        setup::run(if on_host { Scope::Build } else { Scope::Run })?;
        build::release()?;
    }
    if on_host {
        match host::run(arguments)? {}
    }
    root::go_on_as_root("a lab of network namespaces needs root")?;
    interrupt::catch()?;
    let mut stage = Stage::set(false)?;
    let result = if arguments.once {
        once::demonstrate(&mut stage)
    } else {
        tour::show(&stage).and_then(|()| live::view(&stage))
    };
    stage.clear()?;
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(_) if interrupt::is_asked() && !arguments.once => Ok(ExitCode::SUCCESS),
        Err(error) => {
            console::failed(format!("{error:#}"));
            Ok(ExitCode::FAILURE)
        }
    }
}
