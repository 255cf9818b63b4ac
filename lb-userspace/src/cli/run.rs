//! `lb run`

use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Failure, logging};
use crate::{
    agent,
    config::{Loaded, Problem},
};

pub(super) fn run(
    file: &Path,
    interfaces: &[String],
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    let Loaded {
        mut model,
        warnings,
    } = super::load(file, interfaces)?;
    if let Some(socket) = socket {
        model.admin.socket = socket;
    }
    logging::start();
    for Problem { line, message, .. } in warnings {
        tracing::warn!("{}:{line}: {message}", file.display());
    }
    raise_file_limit();
    agent::run(file, model).map_err(Failure::failed)
}

/// Every check in flight holds a file, and the usual 1024 are few for thousands of backends.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!("the limit of open files stays: {error}");
    }
}
