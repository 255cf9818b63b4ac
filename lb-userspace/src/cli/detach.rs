//! `lb detach`

use std::path::{Path, PathBuf};

use super::{
    Failure,
    output::{count, print},
};
use crate::{
    app_host::{self, Undone},
    check_lane,
    dataplane::{self, Detached},
};

/// Where pins are unless the config says otherwise.
const DEFAULT_PIN_PATH: &str = "/sys/fs/bpf/lb";

pub(super) fn detach(config: Option<&Path>, pin_path: Option<PathBuf>) -> Result<(), Failure> {
    let pin_path = match (config, pin_path) {
        (_, Some(pin_path)) => pin_path,
        (Some(config), None) => {
            // They do not matter here, and a file for `lb run --interface` may name none.
            let interfaces = ["any".to_owned()];
            super::load(config, &interfaces)?.model.agent.pin_path
        }
        (None, None) => PathBuf::from(DEFAULT_PIN_PATH),
    };
    let between = || {
        (
            app_host::withdraw(&pin_path),
            app_host::undo(&pin_path),
            check_lane::remove_now(&pin_path),
        )
    };
    let (Detached { links, maps }, (withdrawn, undone, lane)) =
        dataplane::detach(&pin_path, between).map_err(Failure::failed)?;
    let withdrawn = withdrawn.map_err(Failure::failed)?;
    let undone = undone.map_err(Failure::failed)?;
    let had_lane = match lane {
        Ok(had_lane) => had_lane,
        // Another agent's, with another pin path.
        Err(check_lane::Error::Taken { .. }) => false,
        Err(error) => return Err(Failure::failed(error)),
    };
    let is_bare = undone.is_none() && withdrawn.is_none() && !had_lane;
    let said = if links.is_empty() && maps == 0 && is_bare {
        format!("nothing to detach in {}\n", pin_path.display())
    } else {
        let from = if links.is_empty() {
            String::new()
        } else {
            format!(" ({})", links.join(", "))
        };
        format!(
            "detached: {}{from}, {}\n",
            count(links.len(), "program"),
            count(maps, "map")
        )
    };
    print(said.as_bytes())?;
    if had_lane {
        let ends = [check_lane::SOCKETS_END, check_lane::STEERING_END];
        print(format!("removed: {}\n", ends.join(", ")).as_bytes())?;
    }
    if let Some(Undone { vips, .. }) = withdrawn {
        let vips = count(vips.len(), "VIP");
        print(format!("not announced any more: {vips}\n").as_bytes())?;
    }
    if let Some(Undone { vips, settings }) = undone {
        let vips = count(vips.len(), "VIP");
        let settings = count(settings, "sysctl");
        print(format!("taken from lo: {vips}; restored: {settings}\n").as_bytes())?;
    }
    Ok(())
}
