//! `lb run`

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Failure, logging};
use crate::{
    agent::{self, Invocation},
    config::Loaded,
};

pub(super) fn run(mut invocation: Invocation) -> Result<(), Failure> {
    let Loaded { model, warnings } = super::loaded(invocation.load())?;
    let events = logging::start(model.agent.log);
    for warning in warnings {
        let file = invocation.config_file.display().to_string();
        tracing::warn!("{}: {}", warning.place(&file), warning.message);
    }
    raise_file_limit();
    // For those who ask from another folder.
    if let Ok(file) = std::path::absolute(&invocation.config_file) {
        invocation.config_file = file;
    }
    agent::run(invocation, model, events).map_err(Failure::failed)
}

/// Every check in flight holds a file, and the usual 1024 are few for thousands of backends.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!("the limit of open files stays: {error}");
    }
}
