//! Finds the BPF file system a pin path lies on, and mounts one where there is none.
//!
//! A process under `ip netns exec` has a mount namespace of its own with a fresh `/sys`. A bpffs
//! mounted there would vanish with the process, and all pins with it, so that a killed agent would
//! take the data path along. Such a process therefore uses the mount namespace of the host, which it
//! finds through its ancestors.

use std::{
    fs, io, iter,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    },
    path::{Component, Path, PathBuf},
    process,
    sync::OnceLock,
    thread,
};

use nix::{
    fcntl::{OFlag, open},
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        stat::Mode,
        statfs::{BPF_FS_MAGIC, statfs},
    },
};

use super::error::Error;

/// Where a bpffs belongs by convention.
const CONVENTION: &str = "/sys/fs/bpf";

/// A pin path that was reached while this process had the right to; it may not have later.
static HELD: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();

/// Finds or mounts the bpffs of a pin path, for a process that is about to lose the right to do so.
/// From now on [`reach`] knows the way.
pub(super) fn hold(pin_path: &Path) -> Result<(), Error> {
    let Some(reached) = reach(pin_path, true)? else {
        return Ok(());
    };
    // Another process's root is open to us only as long as we may trace it.
    if reached == pin_path {
        return Ok(());
    }
    let failed = |source: io::Error| Error::Path {
        action: "open",
        path: pin_path.into(),
        source,
    };
    let existing = reached.ancestors().find(|ancestor| ancestor.is_dir());
    let existing = existing.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = open(existing, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let rest = reached.strip_prefix(existing).unwrap_or(Path::new(""));
    let through = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(rest);
    // Open for as long as this process runs.
    std::mem::forget(folder);
    // One agent has one pin path.
    let _ = HELD.set((pin_path.into(), through));
    Ok(())
}

/// Makes the pin path, and gives it with all pins to a user, who then may go on with what root
/// began. Folders above it are opened for passing through.
pub(super) fn hand_over(pin_path: &Path, uid: u32, gid: u32) -> Result<(), Error> {
    let failed = |action| {
        move |source| Error::Path {
            action,
            path: pin_path.into(),
            source,
        }
    };
    let Some(reached) = reach(pin_path, true)? else {
        return Ok(());
    };
    let above = reached.ancestors().skip(1);
    let is_bpffs = |path: &&Path| !path.exists() || is_on_bpffs(path);
    let above: Vec<&Path> = above.take_while(is_bpffs).collect();
    fs::create_dir_all(&reached).map_err(failed("make"))?;
    for folder in above {
        let found = fs::metadata(folder).map_err(failed("open the way to"))?;
        let mode = found.mode() & 0o7777;
        if mode & 0o011 != 0o011 {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o011))
                .map_err(failed("open the way to"))?;
        }
    }
    for entry in fs::read_dir(&reached).map_err(failed("read"))?.flatten() {
        chown(entry.path(), Some(uid), Some(gid)).map_err(failed("give away"))?;
    }
    chown(&reached, Some(uid), Some(gid)).map_err(failed("give away"))
}

/// The path by which this process reaches `pin_path`, on a bpffs; `None` if there is no bpffs and
/// `may_mount` is false.
pub(super) fn reach(pin_path: &Path, may_mount: bool) -> Result<Option<PathBuf>, Error> {
    if let Some((_, through)) = HELD.get().filter(|(held, _)| held == pin_path) {
        return Ok(Some(through.clone()));
    }
    if is_on_bpffs(pin_path) {
        return Ok(Some(pin_path.to_path_buf()));
    }
    if !pin_path.starts_with(CONVENTION) {
        return if may_mount {
            Err(Error::NoBpffs {
                path: pin_path.into(),
            })
        } else {
            Ok(None)
        };
    }
    let outer = outer_namespace();
    if let Some(outer) = outer {
        let seen_from_here = outer.root.join(relative(pin_path));
        if is_on_bpffs(&seen_from_here) {
            return Ok(Some(seen_from_here));
        }
        if !may_mount {
            return Ok(None);
        }
        match outer.mount_bpffs() {
            Ok(()) => {
                tracing::info!("mounted a BPF file system at {CONVENTION}");
                return Ok(Some(seen_from_here));
            }
            Err(error) => tracing::warn!(
                "this process has a mount namespace of its own (`ip netns exec`?) and mounting a \
                 BPF file system in that of process {} failed ({error}); if this agent is killed, \
                 its pins and with them the data path are lost",
                outer.pid
            ),
        }
    } else if !may_mount {
        return Ok(None);
    }
    mount_here().map_err(|source| Error::Mount {
        path: CONVENTION.into(),
        source,
    })?;
    tracing::info!("mounted a BPF file system at {CONVENTION}");
    Ok(Some(pin_path.to_path_buf()))
}

/// Whether the deepest existing ancestor of a path is on a bpffs.
fn is_on_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find_map(|ancestor| statfs(ancestor).ok())
        .is_some_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// Without the leading slash, so that it can be joined to another root.
fn relative(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::RootDir))
        .collect()
}

fn mount_here() -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some("bpf"),
        CONVENTION,
        Some("bpf"),
        flags,
        Some("mode=0700"),
    )
    .map_err(io::Error::from)
}

/// The mount namespace outside of this process's own.
struct Outer {
    pid: u32,
    root: PathBuf,
}

/// The mount namespace of the outermost ancestor whose root this process may walk, or else of the
/// kernel's threads, if that is another one than ours. PID 1 is the last ancestor, but need not be
/// open to us, and a background process has no other.
fn outer_namespace() -> Option<Outer> {
    let own = fs::read_link("/proc/self/ns/mnt").ok()?;
    let mut ancestors: Vec<u32> =
        iter::successors(parent(process::id()), |pid| parent(*pid)).collect();
    ancestors.reverse();
    ancestors
        .into_iter()
        .chain(kernel_threads())
        .find_map(|pid| {
            let theirs = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
            let root = PathBuf::from(format!("/proc/{pid}/root"));
            let is_usable = theirs != own && root.join(relative(CONVENTION.as_ref())).is_dir();
            if is_usable {
                Some(Outer { pid, root })
            } else {
                None
            }
        })
}

/// The parent of all kernel threads, unless this is a container with process ids of its own.
fn kernel_threads() -> Option<u32> {
    const KTHREADD: u32 = 2;
    let name = fs::read_to_string(format!("/proc/{KTHREADD}/comm")).ok()?;
    if name.trim_end() == "kthreadd" {
        Some(KTHREADD)
    } else {
        None
    }
}

/// The parent of a process, if it has one.
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().filter(|pid| *pid != 0)
}

impl Outer {
    /// Mounts from a thread, because a mount namespace can only be entered by one that shares its
    /// root and working directory with no other.
    fn mount_bpffs(&self) -> io::Result<()> {
        let namespace = fs::File::open(format!("/proc/{}/ns/mnt", self.pid))?;
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_FS)?;
            setns(namespace, CloneFlags::CLONE_NEWNS)?;
            mount_here()
        })
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the mounting thread died")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_directory_is_no_bpffs() {
        assert!(!is_on_bpffs(Path::new("/proc/some/where")));
        assert!(matches!(
            reach(Path::new("/proc/x"), true),
            Err(Error::NoBpffs { .. })
        ));
        assert!(matches!(reach(Path::new("/proc/x"), false), Ok(None)));
    }

    #[test]
    fn a_path_can_be_moved_to_another_root() {
        assert_eq!(
            relative(Path::new("/sys/fs/bpf/lb")),
            Path::new("sys/fs/bpf/lb")
        );
    }

    #[test]
    fn every_process_has_a_parent() {
        assert!(parent(process::id()).is_some());
        assert_eq!(parent(1), None);
    }
}
