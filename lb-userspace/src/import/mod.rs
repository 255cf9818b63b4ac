//! `lb import`: our config from the files of others.
//!
//! What has no equivalent is never left out in silence: it stands as a comment, with its line, where
//! it would have counted.

mod draft;
mod haproxy;
mod keepalived;

use self::draft::Draft;
pub use self::draft::Note;

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// `haproxy.cfg`
    Haproxy,
    /// `keepalived.conf`
    Keepalived,
}

/// A config that was made from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The config file.
    pub toml: String,
    /// What has no equivalent or has to be filled in, in the order of their file.
    pub notes: Vec<Note>,
}

/// Makes a config from the text of another. Any text gives one.
#[must_use]
pub fn import(from: From, file: &str, text: &str) -> Imported {
    let draft: Draft = match from {
        From::Haproxy => haproxy::draft(text),
        From::Keepalived => keepalived::draft(text),
    };
    let word = match from {
        From::Haproxy => "haproxy",
        From::Keepalived => "keepalived",
    };
    let toml = draft.write(&format!("lb import {word} {}", draft::one_line(file)));
    Imported {
        toml,
        notes: draft.notes(),
    }
}
