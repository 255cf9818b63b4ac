//! `lb import`

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{
    Failure,
    output::{complain, count, print},
};
use crate::import::{From, Imported, import as imported};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Whose file it is
    #[arg(value_enum)]
    from: Whose,
    /// Their file, such as /etc/haproxy/haproxy.cfg
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write our config to this file, which must not exist yet, and not to stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Whose {
    /// haproxy.cfg
    Haproxy,
    /// keepalived.conf
    Keepalived,
}

pub(super) fn import(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { from, file, output } = arguments;
    let from = match from {
        Whose::Haproxy => From::Haproxy,
        Whose::Keepalived => From::Keepalived,
    };
    let bytes = fs::read(file)
        .with_context(|| format!("cannot read {}", file.display()))
        .map_err(Failure::Wrong)?;
    let text = String::from_utf8_lossy(&bytes);
    let Imported { toml, notes } = imported(from, &file.display().to_string(), &text);
    match output {
        Some(output) => write(output, &toml).map_err(Failure::Failed)?,
        None => print(toml.as_bytes())?,
    }
    for note in &notes {
        complain(&format!("{}:{}: {}", file.display(), note.line, note.text));
    }
    if !notes.is_empty() {
        let notes = count(notes.len(), "note");
        complain(&format!(
            "lb: {notes}, which stand as comments in the config as well"
        ));
    }
    Ok(())
}

fn write(file: &Path, toml: &str) -> anyhow::Result<()> {
    let mut opened =
        File::create_new(file).with_context(|| format!("cannot write {}", file.display()))?;
    opened
        .write_all(toml.as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))
}
