//! `lb doctor`

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{
    Failure,
    output::{count, print},
};
use crate::doctor::{self, Finding, Severity};

/// Where packages put it.
const USUAL_CONFIG: &str = "/etc/lb/lb.toml";

#[derive(Serialize)]
struct Document<'a> {
    healthy: bool,
    findings: &'a [Finding],
}

pub(super) fn doctor(
    config: Option<PathBuf>,
    socket: Option<&Path>,
    json: bool,
) -> Result<(), Failure> {
    let asked = socket.unwrap_or(Path::new(super::DEFAULT_SOCKET));
    let usual = || Some(PathBuf::from(USUAL_CONFIG)).filter(|file| file.is_file());
    let file = config
        .or_else(|| doctor::config_of_the_agent(asked))
        .or_else(usual);
    let model = match &file {
        // A file for `lb run --interface` may name none.
        Some(file) => Some(super::load(file, &[])?.model),
        None => None,
    };
    let socket = match (socket, &model) {
        (Some(socket), _) => socket,
        (None, Some(model)) => &model.admin.socket,
        (None, None) => Path::new(super::DEFAULT_SOCKET),
    };
    let subject = file.as_deref().zip(model.as_ref());
    let report = doctor::examine(subject, socket).map_err(|error| {
        Failure::Failed(anyhow::anyhow!(
            "the kernel does not tell about its interfaces: {error}"
        ))
    })?;
    let text = if json {
        let document = Document {
            healthy: report.is_healthy(),
            findings: &report.findings,
        };
        serde_json::to_string_pretty(&document).map_err(Failure::failed)? + "\n"
    } else {
        let mut text: String = report
            .findings
            .iter()
            .map(|finding| format!("{finding}\n"))
            .collect();
        if subject.is_none() {
            text += "without --config, and without an agent, only the kernel was looked at\n";
        }
        if report.is_healthy() {
            text += "nothing is wrong\n";
        }
        text
    };
    print(text.as_bytes())?;
    if report.is_healthy() {
        return Ok(());
    }
    let errors = count(report.count(Severity::Error), "error");
    let warnings = count(report.count(Severity::Warning), "warning");
    Err(Failure::Failed(anyhow::anyhow!("{errors}, {warnings}")))
}
