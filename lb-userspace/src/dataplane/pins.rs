//! The directory that holds the pinned link and maps, and the lock on it.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag, open},
    sys::stat::{Mode, major, minor},
};

use super::{bpffs, error::Error, sys};

/// A program that is attached to interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// The steering program.
    Steer,
    /// The decapsulation program.
    Decap,
}

impl Hook {
    const ALL: [Self; 2] = [Self::Steer, Self::Decap];

    /// What the pin of an interface's link begins with.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Steer => "link_",
            Self::Decap => "decap_",
        }
    }
}

/// An open and locked pin directory.
///
/// The lock lives as long as this value: at most one agent, or one `lb detach`, works on the pins.
#[derive(Debug)]
pub(super) struct Pins {
    /// As the config has it, for messages.
    shown: PathBuf,
    directory: Flock<File>,
    /// The directory above, and the name there, for removing it. Paths may not last: those of
    /// other mount namespaces lead through a process that may end.
    parent: File,
    name: PathBuf,
}

impl Pins {
    /// Opens and locks the directory; makes it, and mounts a bpffs below it, if need be.
    pub(super) fn create(pin_path: &Path) -> Result<Self, Error> {
        let Some(reached) = bpffs::reach(pin_path, true)? else {
            return Err(Error::NoBpffs {
                path: pin_path.into(),
            });
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&reached)
            .map_err(|source| Error::Path {
                action: "make",
                path: pin_path.into(),
                source,
            })?;
        Self::open(pin_path, &reached)
    }

    /// Opens and locks the directory, if there is one.
    pub(super) fn open_existing(pin_path: &Path) -> Result<Option<Self>, Error> {
        let Some(reached) = bpffs::reach(pin_path, false)? else {
            return Ok(None);
        };
        // What may not be looked at is not the same as what is not there.
        match reached.try_exists() {
            Ok(true) => Self::open(pin_path, &reached).map(Some),
            Ok(false) => Ok(None),
            Err(source) => Err(Error::Path {
                action: "open",
                path: pin_path.into(),
                source,
            }),
        }
    }

    fn open(shown: &Path, reached: &Path) -> Result<Self, Error> {
        let failed = |errno: Errno| Error::Path {
            action: "open",
            path: shown.into(),
            source: errno.into(),
        };
        let open = |path: &Path, access: OFlag| {
            let flags = access | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            open(path, flags, Mode::empty())
                .map(File::from)
                .map_err(failed)
        };
        let (Some(parent), Some(name)) = (reached.parent(), reached.file_name()) else {
            return Err(failed(Errno::EINVAL));
        };
        // Whoever owns the pins need not be allowed to look around above them.
        let parent = open(parent, OFlag::O_PATH)?;
        match Flock::lock(
            open(reached, OFlag::O_RDONLY)?,
            FlockArg::LockExclusiveNonblock,
        ) {
            Ok(directory) => Ok(Self {
                shown: shown.into(),
                directory,
                parent,
                name: name.into(),
            }),
            Err((directory, Errno::EWOULDBLOCK)) => Err(Error::Locked {
                path: shown.into(),
                pid: lock_holder(&directory),
            }),
            Err((_, errno)) => Err(failed(errno)),
        }
    }

    /// The directory as the config has it.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.shown
    }

    /// The path of a pin. It goes through the open directory, so that it stays valid wherever the
    /// directory was found.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        below(&*self.directory, name.as_ref())
    }

    /// The path of the pin of an interface's link.
    pub(super) fn link(&self, hook: Hook, interface: &str) -> PathBuf {
        self.file(&link_name(hook, interface))
    }

    /// Whether there is such a pin.
    pub(super) fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.file(name)).is_ok()
    }

    /// Names of all pins.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let failed = |source| Error::Path {
            action: "read",
            path: self.shown.clone(),
            source,
        };
        let mut names = fs::read_dir(self.file("."))
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<OsString>>>()
            .map_err(failed)?
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .collect::<Vec<_>>();
        names.sort();
        Ok(names)
    }

    /// Interfaces that have a pinned link.
    pub(super) fn linked_interfaces(&self, hook: Hook) -> Result<Vec<String>, Error> {
        Ok(self
            .names()?
            .iter()
            .filter_map(|name| linked_interface(hook, name))
            .collect())
    }

    /// Removes a pin; one that is not there is fine.
    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        match fs::remove_file(self.file(name)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Path {
                action: "remove",
                path: self.shown.join(name),
                source,
            }),
            _ => Ok(()),
        }
    }

    /// Gives a pin another name.
    pub(super) fn rename(&self, name: &str, other: &str) -> Result<(), Error> {
        fs::rename(self.file(name), self.file(other)).map_err(|source| Error::Path {
            action: "rename",
            path: self.shown.join(name),
            source,
        })
    }

    /// Whether a pin of this name is a link.
    pub(super) fn is_link(name: &str) -> bool {
        interface_of(name).is_some()
    }

    /// Detaches an interface's link and removes its pin.
    pub(super) fn remove_link(&self, hook: Hook, interface: &str) -> Result<(), Error> {
        self.detach_and_remove(&link_name(hook, interface))
    }

    fn detach_and_remove(&self, name: &str) -> Result<(), Error> {
        // Fails if the link has lost its interface; it is gone with its pin in any case.
        let _ = sys::detach_pinned_link(&self.file(name));
        self.remove(name)
    }

    /// The interfaces that have a pinned link.
    pub(super) fn interfaces(&self) -> Result<Vec<String>, Error> {
        Ok(self
            .names()?
            .iter()
            .filter_map(|name| interface_of(name))
            .collect())
    }

    /// Detaches all links and removes their pins; returns their interfaces.
    pub(super) fn remove_links(&self) -> Result<Vec<String>, Error> {
        let mut interfaces = Vec::new();
        for name in self.names()? {
            if let Some(interface) = interface_of(&name) {
                self.detach_and_remove(&name)?;
                interfaces.push(interface);
            }
        }
        Ok(interfaces)
    }

    /// Removes all pins and the directory: links first, so that no program runs on tables that
    /// are going away.
    pub(super) fn remove_all(&self) -> Result<Removed, Error> {
        let links = self.remove_links()?;
        let maps = self.names()?;
        for name in &maps {
            self.remove(name)?;
        }
        match fs::remove_dir(below(&self.parent, &self.name)) {
            Ok(()) => {}
            // Somebody with more rights made the directory, which is empty now.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) && self.names()?.is_empty() => {}
            Err(source) => {
                return Err(Error::Path {
                    action: "remove",
                    path: self.shown.clone(),
                    source,
                });
            }
        }
        Ok(Removed {
            links,
            maps: maps.len(),
        })
    }
}

/// A path that leads through an open directory.
fn below(directory: &impl AsRawFd, name: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name)
}

/// What [`Pins::remove_all`] removed.
pub(super) struct Removed {
    pub(super) links: Vec<String>,
    pub(super) maps: usize,
}

/// A bpffs refuses names with a dot, which interface names such as `eth0.100` have.
fn link_name(hook: Hook, interface: &str) -> String {
    format!(
        "{}{}",
        hook.prefix(),
        interface.replace('%', "%25").replace('.', "%2e")
    )
}

fn linked_interface(hook: Hook, name: &str) -> Option<String> {
    let encoded = name.strip_prefix(hook.prefix())?;
    Some(encoded.replace("%2e", ".").replace("%25", "%"))
}

/// The interface of a link's pin, whatever is attached there.
fn interface_of(name: &str) -> Option<String> {
    Hook::ALL
        .into_iter()
        .find_map(|hook| linked_interface(hook, name))
}

/// Who holds the lock on an open directory, by `/proc/locks`.
fn lock_holder(directory: &File) -> Option<u32> {
    let metadata = directory.metadata().ok()?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    let place = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, at, ..] = fields.as_slice() else {
            return None;
        };
        if *at == place { pid.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_survive_as_pin_names() {
        for name in ["eth0", "eth0.100", "odd%2ename", "a.b.c"] {
            for hook in Hook::ALL {
                let pin = link_name(hook, name);
                assert!(!pin.contains('.'), "{pin}");
                assert_eq!(linked_interface(hook, &pin).as_deref(), Some(name));
                assert_eq!(interface_of(&pin).as_deref(), Some(name));
            }
            assert_eq!(
                linked_interface(Hook::Steer, &link_name(Hook::Decap, name)),
                None
            );
        }
        for map in [
            lb_common::abi::maps::META,
            lb_common::decap::abi::maps::COUNTERS,
        ] {
            assert_eq!(interface_of(map), None);
        }
    }

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let open = || File::open(directory.path()).unwrap();
        let lock = Flock::lock(open(), FlockArg::LockExclusiveNonblock).unwrap();
        assert_eq!(lock_holder(&open()), Some(std::process::id()));
        drop(lock);
        assert_eq!(lock_holder(&open()), None);
    }
}
