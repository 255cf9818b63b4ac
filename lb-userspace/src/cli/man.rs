//! `lb gen-man`: manual pages, made from the same arguments that the command takes. They are made
//! anew for every package, so none can be stale.

use std::{fs, path::Path};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_mangen::Man;

use super::{Arguments, Failure};

/// Writes `lb.1` and one page for each subcommand.
pub(super) fn write(folder: &Path) -> Result<(), Failure> {
    try_write(folder).map_err(Failure::Failed)
}

fn try_write(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, page) in pages() {
        let file = folder.join(name);
        fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// The pages, by file name.
fn pages() -> Vec<(String, String)> {
    // Of the release, and not of the day it was built: packages are reproducible.
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut pages = vec![page(&command, "lb")];
    let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
    pages.extend(shown.map(|one| page(one, &format!("lb-{}", one.get_name()))));
    pages
}

fn page(command: &clap::Command, name: &str) -> (String, String) {
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .manual("lb manual")
        .source(concat!("lb ", env!("CARGO_PKG_VERSION")))
        .date("");
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = man.render(&mut text);
    (
        format!("{name}.1"),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_options() {
        let pages = pages();
        let page = |name: &str| {
            let found = pages.iter().find(|(found, _)| found == name);
            found.map(|(_, text)| text.as_str()).unwrap_or_default()
        };
        assert!(page("lb.1").contains("lb\\-run(1)"), "{}", page("lb.1"));
        assert!(page("lb.1").contains(".TH LB 1"));
        assert!(page("lb-run.1").contains("\\-\\-interface"));
        assert!(page("lb-detach.1").contains("\\-\\-pin\\-path"));
        assert!(!pages.iter().any(|(name, _)| name.contains("gen-")));
    }
}
