//! The socket's file: made for its owner alone, and removed with its server.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            fs::{FileTypeExt as _, MetadataExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
        },
        stat::{Mode, fchmod},
    },
};

use super::Error;

/// Connections that wait to be taken.
const BACKLOG: i32 = 64;

/// The socket's file; removed on drop, if it is still this one.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

/// Makes the socket beside `path`, where nobody looks for it yet; [`SocketFile::appear`] puts it
/// there. If it cannot be there it is not made.
pub(super) fn make(path: &Path) -> Result<(SocketFile, UnixListener), Error> {
    let failed = |cause: io::Error| Error::System {
        path: path.to_owned(),
        cause,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    clear(path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push("~");
    let beside = PathBuf::from(beside);
    clear(&beside)?;
    let listener = bound(&beside).map_err(|error| {
        // Another agent was faster.
        let in_use = error == Errno::EADDRINUSE;
        if in_use {
            Error::InUse {
                path: path.to_owned(),
            }
        } else {
            failed(error.into())
        }
    })?;
    let metadata = fs::symlink_metadata(&beside).map_err(failed)?;
    let file = SocketFile {
        path: beside,
        id: (metadata.dev(), metadata.ino()),
    };
    Ok((file, listener))
}

/// Removes a socket that nobody answers on.
fn clear(path: &Path) -> Result<(), Error> {
    let failed = |cause: io::Error| Error::System {
        path: path.to_owned(),
        cause,
    };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::NotASocket {
            path: path.to_owned(),
        });
    }
    match try_connect(path) {
        // EAGAIN: so many clients wait for it that there is no room for another.
        Ok(()) | Err(Errno::EAGAIN) => Err(Error::InUse {
            path: path.to_owned(),
        }),
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error.into())),
    }
}

fn try_connect(path: &Path) -> nix::Result<()> {
    connect(stream()?.as_raw_fd(), &UnixAddr::new(path)?)
}

fn stream() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Bound and listening. The mode is set before the file exists, so there is no moment at which
/// others could connect.
fn bound(path: &Path) -> nix::Result<UnixListener> {
    let fd = stream()?;
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(UnixListener::from(fd))
}

impl SocketFile {
    /// Moves the socket to its place, and takes that of one where nobody answers.
    pub(super) fn appear(&mut self, path: &Path) -> Result<(), Error> {
        clear(path)?;
        fs::rename(&self.path, path).map_err(|cause| Error::System {
            path: path.to_owned(),
            cause,
        })?;
        self.path = path.to_owned();
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.id);
        if ours {
            // Nobody is left to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}
