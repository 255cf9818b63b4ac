//! What the agent may do: everything until it is prepared, and from then on only what steering
//! needs. Preparing comes first of all, while there is a single thread: capabilities belong to
//! threads, and later ones inherit them.
//!
//! | kept | for |
//! |---|---|
//! | `CAP_BPF` | loading programs, tables |
//! | `CAP_PERFMON` | programs that compare pointers, which every packet parser does |
//! | `CAP_NET_ADMIN` | attaching, addresses on `lo`, neighbours; the sysctls below `net`, which the kernel opens to whoever has it |
//!
//! Files are opened by their owner's right: what `agent.user` needs is made that user's, and who
//! stays root still owns root's files. Where the config names something of another user, root keeps
//! `CAP_DAC_OVERRIDE`.

mod capability;
mod user;

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AtFlags, OFlag, open},
    sys::stat::{FchmodatFlags, Mode, fchmodat},
    unistd::{Gid, Uid, fchownat, geteuid},
};

use self::user::User;
use crate::{app_host, config::model::Model, dataplane};

/// The folders that are lb's own wherever it runs.
const OWN_FOLDERS: [&str; 2] = ["/run/lb", "/var/lib/lb"];

/// Why privileges could not be given up or handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `agent.user` is nobody.
    #[error(
        "there is no user {name:?} in /etc/passwd: make it (`adduser --system --group {name}`) or \
         name another one"
    )]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// Neither root nor the user.
    #[error(
        "agent.user is {name:?} and this process runs as user id {uid}: start it as root, or as \
         {name}"
    )]
    OtherUser {
        /// The name.
        name: String,
        /// Who this is.
        uid: u32,
    },
    /// Only root may give things away.
    #[error("handing pins and files over to {name} needs root")]
    NotRoot {
        /// The name.
        name: String,
    },
    /// The user could not write there.
    #[error(
        "the user {name} may not write in {}: make that folder theirs, or name another one in \
         {key}", path.display()
    )]
    Folder {
        /// The user.
        name: String,
        /// The folder.
        path: PathBuf,
        /// The key of the config that names it.
        key: &'static str,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Path {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The system refused to take privileges away.
    #[error("cannot give up privileges ({action}): {source}")]
    Keep {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Prepares what only root can, becomes the config's user, and gives up what is not needed from
/// here on. Call it while there is one thread.
pub(super) fn settle(config_file: &Path, model: &Model) -> Result<(), super::Error> {
    let wanted = model.agent.user.as_deref().map(User::find).transpose()?;
    if geteuid().is_root() {
        dataplane::hold(&model.agent.pin_path)?;
    }
    match &wanted {
        Some(user) if geteuid().is_root() && user.uid != 0 => {
            hand_over(model, user)?;
            capability::drop_bounding(&kept(config_file, model, user.uid));
            become_user(user)?;
        }
        Some(user) if user.uid != geteuid().as_raw() => {
            return Err(Error::OtherUser {
                name: user.name.clone(),
                uid: geteuid().as_raw(),
            }
            .into());
        }
        _ => {}
    }
    let kept = kept(config_file, model, geteuid().as_raw());
    capability::drop_bounding(&kept);
    capability::limit(&kept)?;
    if let Err(error) = fs::File::open(config_file) {
        tracing::warn!(
            "{} can be read no more ({error}), so a reload will fail: let user id {} read it",
            config_file.display(),
            geteuid()
        );
    }
    Ok(())
}

/// What this user needs from here on.
fn kept(config_file: &Path, model: &Model, uid: u32) -> Vec<u32> {
    let mut kept = capability::NEEDED.to_vec();
    if uid == 0
        && let Some(path) = foreign(config_file, model)
    {
        tracing::info!("keeping CAP_DAC_OVERRIDE: {} is not root's", path.display());
        kept.push(capability::DAC_OVERRIDE);
    }
    if app_host::is_noted_elsewhere(&model.agent.pin_path) {
        tracing::warn!(
            "keeping CAP_SYS_ADMIN until the next start: an earlier agent changed another network \
             namespace, and what it changed has to be taken back there"
        );
        kept.push(capability::SYS_ADMIN);
    }
    kept
}

/// What root may use only because no permission holds it back: something of the config's that
/// belongs to another user.
fn foreign(config_file: &Path, model: &Model) -> Option<PathBuf> {
    const READ: u32 = 0o4;
    const WRITE: u32 = 0o2;
    let folders = [
        Some(model.agent.pin_path.as_path()),
        model.admin.socket.parent(),
        model.agent.state_file.parent(),
    ];
    let folders = folders
        .into_iter()
        .flatten()
        .chain(OWN_FOLDERS.map(Path::new));
    let mut wanted = folders
        .map(|path| (path, WRITE))
        .chain([(config_file, READ)]);
    wanted.find_map(|(path, right)| (!is_roots(path, right)).then(|| path.to_owned()))
}

/// Whether root has this right by ownership, or because everybody has it. What does not exist yet
/// will be root's, if the folder it will be in is.
fn is_roots(path: &Path, right: u32) -> bool {
    const PASS: u32 = 0o1;
    let may = |path: &Path, right: u32| {
        fs::metadata(path).is_ok_and(|found| found.uid() == 0 || found.mode() & right == right)
    };
    let Ok(path) = std::path::absolute(path) else {
        return false;
    };
    let mut there = path.ancestors().skip_while(|path| !path.exists());
    there.next().is_none_or(|path| may(path, right)) && there.all(|folder| may(folder, PASS))
}

/// Makes the user the owner of pins and folders, for an agent that a service manager starts as that
/// user. Says which.
pub fn prepare(model: &Model, user: &str) -> Result<Vec<PathBuf>, super::Error> {
    let user = User::find(user)?;
    if !geteuid().is_root() {
        return Err(Error::NotRoot { name: user.name }.into());
    }
    hand_over(model, &user)
}

fn hand_over(model: &Model, user: &User) -> Result<Vec<PathBuf>, super::Error> {
    let pins = &model.agent.pin_path;
    let mut given: Vec<PathBuf> = OWN_FOLDERS.map(PathBuf::from).into();
    // All that can be refused comes first.
    for (file, key) in [
        (&model.admin.socket, "admin.socket"),
        (&model.agent.state_file, "agent.state_file"),
    ] {
        let Some(folder) = file.parent() else {
            continue;
        };
        if given.iter().any(|known| known == folder) {
            continue;
        }
        if !folder.exists() {
            given.push(folder.to_owned());
        } else if !user.may_write(folder) {
            return Err(Error::Folder {
                name: user.name.clone(),
                path: folder.to_owned(),
                key,
            }
            .into());
        }
    }
    for folder in &given {
        give_folder(folder, user)?;
    }
    dataplane::hand_over(pins, user.uid, user.gid)?;
    given.push(pins.clone());
    Ok(given)
}

/// Makes a folder if it is missing, and gives it away with root's files that lie in it.
fn give_folder(folder: &Path, user: &User) -> Result<(), Error> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Path {
            action,
            path,
            source,
        }
    };
    fs::create_dir_all(folder).map_err(failed("make", folder))?;
    let entries = fs::read_dir(folder).map_err(failed("read", folder))?;
    for entry in entries.flatten() {
        let path = entry.path();
        give(&path, user, false).map_err(failed("give away", &path))?;
    }
    give(folder, user, true).map_err(failed("give away", folder))
}

/// Gives one thing away if it is root's. A file with a second name is left alone: whoever owns the
/// folder could have put it there to be given somebody's else.
fn give(path: &Path, user: &User, is_folder: bool) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = fs::File::from(open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    let kind = found.file_type();
    if found.uid() != 0 || kind.is_symlink() || found.is_dir() != is_folder {
        return Ok(());
    }
    if !is_folder && found.nlink() != 1 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    fchownat(
        file.as_fd(),
        "",
        Some(uid),
        Some(gid),
        AtFlags::AT_EMPTY_PATH,
    )?;
    if is_folder {
        // Through the open file, since `fchmod` refuses one opened like this.
        let through = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mode = Mode::from_bits_truncate(found.mode()) | Mode::S_IRWXU;
        fchmodat(
            nix::fcntl::AT_FDCWD,
            through.as_str(),
            mode,
            FchmodatFlags::FollowSymlink,
        )?;
    }
    Ok(())
}

/// Becomes the user and keeps the capabilities that [`capability::limit`] then chooses from.
fn become_user(user: &User) -> Result<(), Error> {
    let failed = |action| {
        move |errno: nix::errno::Errno| Error::Keep {
            action,
            source: errno.into(),
        }
    };
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    nix::sys::prctl::set_keepcaps(true).map_err(failed("keep capabilities"))?;
    let groups: Vec<Gid> = user.groups().into_iter().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&groups).map_err(failed("set groups"))?;
    nix::unistd::setresgid(gid, gid, gid).map_err(failed("change the group"))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(failed("change the user"))?;
    nix::sys::prctl::set_keepcaps(false).map_err(failed("keep no capabilities"))?;
    tracing::info!("running as {} (user id {})", user.name, user.uid);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_what_is_roots_or_everybodys() {
        assert!(is_roots(Path::new("/etc/passwd"), 0o2));
        assert!(is_roots(Path::new("/run/does-not/exist"), 0o2));
        assert!(is_roots(Path::new("/proc/self/status"), 0o4));
    }
}
