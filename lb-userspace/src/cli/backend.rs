//! `lb backend`

use std::path::Path;

use clap::{ArgGroup, Subcommand};

use super::{
    Failure,
    output::{complain, print},
};
use crate::{
    admin::client,
    control::{Act, Change, Changed, Changes, HIGHEST_WEIGHT, Pattern, State},
};

/// What to do with backends.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Set weight, state or both, at once and until it is set otherwise
    ///
    /// It survives restarts and reloads. A weight gives way when the config names another one than
    /// it did. `drain` gives a backend no new connections and lets live ones go on; `maint` also
    /// ends its checks, and live connections go the way that on_backend_down says.
    #[command(group = ArgGroup::new("what").args(["weight", "state"]).multiple(true).required(true))]
    Set {
        /// SERVICE/BACKEND; * stands for any characters, as in 'web/*'
        #[arg(value_name = "SERVICE/BACKEND")]
        backends: Pattern,
        /// 0 to 256; 0 gets no new connections
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=i64::from(HIGHEST_WEIGHT)))]
        weight: Option<u16>,
        /// ready, drain or maint
        #[arg(long, value_name = "STATE")]
        state: Option<State>,
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Go back to the weight and state of the config
    Reset {
        /// SERVICE/BACKEND; * stands for any characters, as in 'web/*'
        #[arg(value_name = "SERVICE/BACKEND")]
        backends: Pattern,
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn backend(socket: &Path, command: Command) -> Result<(), Failure> {
    let (pattern, act, json) = match command {
        Command::Set {
            backends,
            weight,
            state,
            json,
        } => (backends, Act::Set(Change { weight, state }), json),
        Command::Reset { backends, json } => (backends, Act::Reset, json),
    };
    let changes = client::act(socket, &pattern, act).map_err(Failure::failed)?;
    let mut text = if json {
        serde_json::to_string_pretty(&changes).map_err(Failure::failed)?
    } else {
        lines(&changes)
    };
    text.push('\n');
    print(text.as_bytes())?;
    if let Some(warning) = changes.warning {
        complain(&format!("lb: warning: {warning}"));
    }
    Ok(())
}

fn lines(changes: &Changes) -> String {
    let line = |one: &Changed| {
        let as_before = if one.is_new { "" } else { ", as before" };
        format!(
            "{}/{}: weight {}, {}{as_before}",
            one.service,
            one.backend,
            one.weight,
            one.state.word()
        )
    };
    changes
        .backends
        .iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}
