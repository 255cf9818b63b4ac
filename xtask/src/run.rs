//! `cargo xtask run`: the lab with a tour and a live view, the demonstration, or this host.

mod foobar;
mod live;
mod once;
mod tour;

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::setup::{self, Scope};
use crate::stage::Stage;
use crate::{RunArguments, build, console, host, interrupt, root};

/// A deployment that is built as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Example {
    /// www.foobar.com
    Foobar,
}

/// How a balancer attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum XdpMode {
    /// Natively where it can be
    Auto,
    /// In the driver
    Native,
    /// In the kernel's network stack
    Generic,
}

pub(crate) fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let on_host = arguments.config.is_some()
        || arguments.interface.is_some()
        || !arguments.arguments.is_empty();
    if !root::is_built() {
        setup::run(match arguments.example {
            Some(_) => Scope::Example,
            None if on_host => Scope::Build,
            None => Scope::Run,
        })?;
        build::release()?;
    }
    if on_host {
        match host::run(arguments)? {}
    }
    root::go_on_as_root("a lab of network namespaces needs root")?;
    interrupt::catch()?;
    if let Some(Example::Foobar) = arguments.example {
        return Ok(foobar::run(arguments));
    }
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
