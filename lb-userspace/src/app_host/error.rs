//! What can go wrong on an app host, each as a sentence.

use std::{io, net::IpAddr, path::PathBuf};

/// An error of an app host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address could not be put on `lo`, or taken from it.
    #[error(
        "cannot {action} lo: {source}{}", hint(address, source), action = action(*is_new, address)
    )]
    Address {
        /// Which.
        address: IpAddr,
        /// Put there, else taken away.
        is_new: bool,
        /// Why not.
        source: io::Error,
    },

    /// A sysctl could not be read or written.
    #[error("cannot {action} the sysctl {key}: {source}")]
    Setting {
        /// "read" or "set".
        action: &'static str,
        /// As `sysctl` has it.
        key: String,
        /// Why not.
        source: io::Error,
    },

    /// The note of what was changed.
    #[error(
        "cannot {action} {}, which notes what to undo on this host: {source}",
        path.display()
    )]
    Note {
        /// "read", "write" or "remove".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// The system refused something else.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn action(is_new: bool, address: &IpAddr) -> String {
    if is_new {
        format!("put {address} on")
    } else {
        format!("take {address} from")
    }
}

/// What the kernel does not say.
fn hint(address: &IpAddr, source: &io::Error) -> &'static str {
    if address.is_ipv6() && source.kind() == io::ErrorKind::PermissionDenied {
        " (is IPv6 switched off there? `sysctl net.ipv6.conf.lo.disable_ipv6` says so)"
    } else {
        ""
    }
}
