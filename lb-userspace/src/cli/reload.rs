//! `lb reload`

use std::path::Path;

use super::{
    Failure,
    output::{complain, count, print},
    sessions,
};
use crate::{
    admin::client::{self, Error},
    control::ReloadWish,
};

pub(super) fn reload(socket: &Path, json: bool, force: bool) -> Result<(), Failure> {
    let wish = ReloadWish {
        force,
        callers: sessions::all(),
    };
    let reloaded = match client::reload(socket, &wish) {
        Ok(reloaded) => reloaded,
        Err(Error::Wrong { sentence, problems }) => {
            for problem in problems {
                complain(&problem);
            }
            return Err(Failure::Wrong(anyhow::anyhow!(
                "not reloaded, and nothing was changed: {sentence}"
            )));
        }
        Err(error) => return Err(Failure::failed(error)),
    };
    for warning in &reloaded.warnings {
        complain(&format!("lb: warning: {warning}"));
    }
    let mut text = if json {
        serde_json::to_string_pretty(&reloaded).map_err(Failure::failed)?
    } else {
        let mut lines = reloaded.changes.clone();
        let changes = match lines.len() {
            0 => "nothing has changed".to_owned(),
            number => count(number, "change"),
        };
        lines.push(format!(
            "reloaded: {changes}, generation {}",
            reloaded.config_generation
        ));
        lines.join("\n")
    };
    text.push('\n');
    print(text.as_bytes())
}
