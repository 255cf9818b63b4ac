//! `lb status`

use std::{
    io::{IsTerminal as _, stdout},
    path::Path,
};

use super::{Failure, output::print, status_page};
use crate::admin::client;

/// Whether the agent answers and steering is attached, by the exit status.
pub(super) fn ready(socket: &Path) -> Result<(), Failure> {
    client::ready(socket).map_err(Failure::failed)?;
    print(b"ready\n")
}

pub(super) fn status(socket: &Path, json: bool) -> Result<(), Failure> {
    let status = client::status(socket).map_err(Failure::failed)?;
    let mut text = if json {
        serde_json::to_string_pretty(&status).map_err(Failure::failed)?
    } else {
        status_page::render(&status, stdout().is_terminal())
    };
    text.push('\n');
    print(text.as_bytes())
}
