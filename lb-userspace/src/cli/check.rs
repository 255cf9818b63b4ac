//! `lb check`

use std::path::Path;

use super::{
    Failure,
    output::{complain, count, print},
};
use crate::{
    agent,
    config::{self, Loaded},
};

pub(super) fn check(file: &Path, explain: bool) -> Result<(), Failure> {
    let (loaded, explained) = if explain {
        let (loaded, text) = super::loaded(config::load_explained(file))?;
        (loaded, Some(text))
    } else {
        (super::load(file, &[])?, None)
    };
    let Loaded { model, warnings } = loaded;
    let fragments = config::fragments(file).unwrap_or_default();
    let file = file.display().to_string();
    for warning in &warnings {
        let place = warning.place(&file);
        complain(&format!("{place}: warning: {}", warning.message));
    }
    if let Some(out) = agent::locked_out(&model) {
        // It may be checked elsewhere than where it will hold.
        complain(&format!("{file}: warning: firewall: on this host {out}"));
    }
    if let Some(text) = explained {
        return print(text.as_bytes());
    }
    let backends = model
        .services
        .iter()
        .map(|service| service.backends.len())
        .sum();
    let services = count(model.services.len(), "service");
    let app_host = model.app_host.map_or_else(String::new, |app_host| {
        format!(", app host with {}", count(app_host.vips.len(), "VIP"))
    });
    let mysql = model.mysql.map_or_else(String::new, |mysql| {
        let servers = count(mysql.servers.len(), "MySQL server");
        format!(", {servers}")
    });
    let backends = count(backends, "backend");
    let file = std::iter::once(file)
        .chain(fragments.iter().map(|one| one.display().to_string()))
        .collect::<Vec<_>>()
        .join(", ");
    let mut summary = format!("{file}: {services}, {backends}{app_host}{mysql}, ok");
    if !warnings.is_empty() {
        summary += &format!(", {}", count(warnings.len(), "warning"));
    }
    summary.push('\n');
    print(summary.as_bytes())
}
