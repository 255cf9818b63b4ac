//! `lb mysql switchover`, `lb mysql failover` and `lb mysql rejoin`

use std::path::Path;

use clap::Args;

use super::{
    Failure,
    output::{complain, print},
};
use crate::{
    admin::client::{self, Error},
    control::{End, NewPrimary, PrimaryChanged, PrimaryKind},
};

/// Which server takes over from a primary that is there.
#[derive(Debug, Args)]
pub(super) struct Switchover {
    /// The server that is to be the primary, by its name in the config
    #[arg(long, value_name = "NAME")]
    to: String,
    #[command(flatten)]
    how: How,
}

/// Which server takes the place of a primary that is lost.
#[derive(Debug, Args)]
pub(super) struct Failover {
    /// The replica that is to be the primary [default: the one that has most]
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    #[command(flatten)]
    how: How,
}

/// Which server comes back as a replica.
#[derive(Debug, Args)]
pub(super) struct Rejoin {
    /// The former primary, by its name in the config
    name: String,
    #[command(flatten)]
    how: How,
}

#[derive(Clone, Copy, Debug, Args)]
struct How {
    /// Only say whether it can be done, and in which steps
    #[arg(long)]
    check: bool,
    /// As one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn switchover(socket: &Path, arguments: Switchover) -> Result<(), Failure> {
    let Switchover { to, how } = arguments;
    change(socket, (PrimaryKind::Switchover, Some(to)), how)
}

pub(super) fn failover(socket: &Path, arguments: Failover) -> Result<(), Failure> {
    let Failover { to, how } = arguments;
    change(socket, (PrimaryKind::Failover, to), how)
}

pub(super) fn rejoin(socket: &Path, arguments: Rejoin) -> Result<(), Failure> {
    let Rejoin { name, how } = arguments;
    change(socket, (PrimaryKind::Rejoin, Some(name)), how)
}

fn change(
    socket: &Path,
    (kind, to): (PrimaryKind, Option<String>),
    how: How,
) -> Result<(), Failure> {
    let wish = NewPrimary {
        kind,
        to,
        check: how.check,
    };
    let changed = match client::change_primary(socket, &wish) {
        Ok(changed) => changed,
        Err(Error::Wrong { sentence, problems }) => {
            for problem in problems {
                complain(&problem);
            }
            return Err(Failure::Wrong(anyhow::anyhow!(sentence)));
        }
        Err(error) => return Err(Failure::failed(error)),
    };
    let mut text = if how.json {
        serde_json::to_string_pretty(&changed).map_err(Failure::failed)?
    } else {
        lines(&changed)
    };
    text.push('\n');
    print(text.as_bytes())?;
    let failed = match changed.end {
        End::Done | End::Checked => return Ok(()),
        End::Undone => "it failed, and all is as it was: see the step that failed",
        End::Stuck => "it failed half way: see the steps for what is left to be done by hand",
    };
    Err(Failure::failed(anyhow::anyhow!(failed)))
}

fn lines(changed: &PrimaryChanged) -> String {
    let mut lines = changed.steps.clone();
    match changed.end {
        End::Checked => lines.insert(0, "it can be done, in these steps:".to_owned()),
        End::Done => lines.push("done".to_owned()),
        End::Undone | End::Stuck => {}
    }
    lines.join("\n")
}
