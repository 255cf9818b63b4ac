//! The note of what was changed on this host: written before each change, so that whoever comes
//! after a crash can undo it.
//!
//! It lies in `/run`, which like addresses and sysctls does not outlive the boot, under a name made
//! of the pin path, which is what an agent and `lb detach` have in common.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{error::Error, namespace::Identity};

const FOLDER: &str = "/run/lb";

/// Why something was changed; each has a note of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// This is a backend's own host.
    AppHost,
    /// VIPs are announced.
    Announcing,
}

impl Cause {
    const fn word(self) -> &'static str {
        match self {
            Self::AppHost => "app-host",
            Self::Announcing => "announced",
        }
    }
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Where.
    pub(super) namespace: Identity,
    /// Addresses that were not on `lo` before.
    pub(super) vips: Vec<IpAddr>,
    /// Sysctls.
    pub(super) settings: Vec<Setting>,
}

/// A sysctl that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setting {
    /// Its name below `net.ipv4.conf`.
    pub(super) name: String,
    /// What it was.
    pub(super) before: i64,
    /// What it was set to.
    pub(super) after: i64,
}

impl Note {
    /// Nothing was changed yet.
    pub(super) const fn empty(namespace: Identity) -> Self {
        Self {
            namespace,
            vips: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// Reads the note of a pin path, if there is one.
    pub(super) fn read(cause: Cause, pin_path: &Path) -> Result<Option<Self>, Error> {
        let path = file(cause, pin_path);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| failed("read", path)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", path)(error)),
        }
    }

    /// Writes it, in one step, or removes it when there is nothing to undo.
    pub(super) fn write(&self, cause: Cause, pin_path: &Path) -> Result<(), Error> {
        if self.vips.is_empty() && self.settings.is_empty() {
            return remove(cause, pin_path);
        }
        let path = file(cause, pin_path);
        let beside = path.with_extension("new");
        fs::create_dir_all(FOLDER)
            .and_then(|()| fs::write(&beside, serde_json::to_vec(self)?))
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(failed("write", path))
    }
}

/// Removes the note of a pin path; none is fine.
pub(super) fn remove(cause: Cause, pin_path: &Path) -> Result<(), Error> {
    let path = file(cause, pin_path);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn failed(action: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Note {
        action,
        path,
        source,
    }
}

fn file(cause: Cause, pin_path: &Path) -> PathBuf {
    let mut name = String::from(cause.word());
    for part in pin_path.components().skip(1) {
        name.push('-');
        for byte in part.as_os_str().as_bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') {
                name.push(char::from(*byte));
            } else {
                name.push_str(&format!("%{byte:02x}"));
            }
        }
    }
    Path::new(FOLDER).join(name + ".json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_path_has_a_note_of_its_own() {
        let name = |path: &str| file(Cause::AppHost, Path::new(path)).display().to_string();
        assert_eq!(
            name("/sys/fs/bpf/lb"),
            "/run/lb/app-host-sys-fs-bpf-lb.json"
        );
        assert_eq!(name("/sys/fs/bpf/lb"), name("/sys//fs/bpf/lb/"));
        assert_ne!(name("/sys/fs/bpf-lb"), name("/sys/fs/bpf/lb"));
        assert_ne!(name("/a%2d"), name("/a-"));
    }
}
