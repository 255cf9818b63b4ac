//! Debian starts the daemons of a package as soon as it is installed; we only want the programs.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Debian asks this script before it starts or stops a daemon.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// "Action forbidden by policy", and whose file it is.
const TEXT: &str =
    "#!/bin/sh\n# Put here by `cargo xtask setup` of lb while it installs packages.\nexit 101\n";

/// While it lives, no daemon is started by an installation.
#[derive(Debug)]
pub(super) struct Guard {
    ours: bool,
}

impl Guard {
    pub(super) fn put_up() -> Result<Self> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(Path::new(POLICY));
        match file {
            Ok(mut file) => {
                let guard = Self { ours: true };
                file.write_all(TEXT.as_bytes())?;
                Ok(guard)
            }
            // Somebody else's policy stands; one of ours was left by a set-up that was killed.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self {
                ours: fs::read_to_string(POLICY).is_ok_and(|text| text == TEXT),
            }),
            Err(error) => Err(error).with_context(|| format!("{POLICY} cannot be written")),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("{POLICY} cannot be removed: {error}");
        }
    }
}
