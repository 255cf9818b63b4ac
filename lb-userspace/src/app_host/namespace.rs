//! The network namespace that addresses and sysctls belong to, told from others for good.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use serde::{Deserialize, Serialize};

use super::error::Error;

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Addresses and sysctls do not outlive the boot.
    boot: String,
    /// The namespace's file, to find it by; another one may get its number later.
    inode: u64,
    /// Unique within the boot (Linux 5.14).
    cookie: u64,
}

impl Identity {
    /// That of the calling thread.
    pub(super) fn own() -> Result<Self, Error> {
        let failed = |source| Error::System {
            action: "tell this network namespace from others",
            source,
        };
        Ok(Self {
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map_err(failed)?
                .trim()
                .to_owned(),
            inode: fs::metadata("/proc/thread-self/ns/net")
                .map_err(failed)?
                .ino(),
            cookie: cookie().map_err(failed)?,
        })
    }

    /// Whether it may still be there.
    pub(super) fn is_of_this_boot(&self, own: &Self) -> bool {
        self.boot == own.boot
    }

    /// Does something there, on a thread of its own; `None` when the namespace is gone.
    pub(super) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Option<T> {
        let files = files(self.inode);
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                files
                    .iter()
                    .any(|file| {
                        File::open(file)
                            .is_ok_and(|file| setns(file, CloneFlags::CLONE_NEWNET).is_ok())
                            && Self::own().is_ok_and(|found| found == *self)
                    })
                    .then(work)
            });
            worker.join().ok().flatten()
        })
    }
}

/// Files of namespaces with that inode: named ones, and those of processes.
fn files(inode: u64) -> Vec<PathBuf> {
    let list = |folder: &str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let named = list("/run/netns").into_iter();
    let processes = list("/proc").into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.bytes().all(|byte| byte.is_ascii_digit())
    });
    named
        .chain(processes.map(|process| process.join("ns/net")))
        .filter(|file: &PathBuf| has_inode(file, inode))
        .collect()
}

fn has_inode(file: &Path, inode: u64) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.ino() == inode)
}

fn cookie() -> io::Result<u64> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `cookie`, of which
    // any bits are valid; both live until after the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_the_same_for_every_thread_of_a_process() {
        let own = Identity::own().unwrap();
        let other = thread::spawn(|| Identity::own().unwrap()).join().unwrap();
        assert_eq!(own, other);
        assert!(own.is_of_this_boot(&other));
        assert!(!files(own.inode).is_empty());
    }
}
