//! What can go wrong between the agent and the kernel, each as a sentence that says what to do.

use std::{fmt, io, path::PathBuf};

/// An error of the data plane.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither root nor the capabilities.
    #[error(
        "steering needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; missing \
         here: {missing}"
    )]
    Privilege {
        /// Names of what is missing.
        missing: String,
    },

    /// The same for taking connections into the MySQL proxy.
    #[error(
        "mysql.intercept needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; \
         missing here: {missing}; without it, applications connect to mysql.listen themselves"
    )]
    InterceptPrivilege {
        /// Names of what is missing.
        missing: String,
    },

    /// There is no cgroup v2.
    #[error(
        "mysql.intercept goes by cgroup v2, which is mounted nowhere: mount it with `mount -t cgroup2 \
         none DIRECTORY`, or name a cgroup in mysql.intercept_cgroup"
    )]
    NoCgroup,

    /// A cgroup takes no program of ours.
    #[error(
        "mysql.intercept cannot attach to the cgroup {} ({reason}): it has to be one of cgroup v2, \
         and no program on it or above it may be for itself alone (`bpftool cgroup tree` shows them)",
        path.display()
    )]
    Cgroup {
        /// It.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
    },

    /// The kernel is too old.
    #[error("this kernel is Linux {found}; steering needs Linux 5.15 or later")]
    Kernel {
        /// The release as the kernel tells it.
        found: String,
    },

    /// The kernel is too old to capture.
    #[error("this kernel is Linux {found}; lb capture needs Linux 5.18 or later")]
    CaptureKernel {
        /// The release as the kernel tells it.
        found: String,
    },

    /// A test run of the program failed.
    #[error("the kernel did not run the program on that frame: {reason}")]
    TestRun {
        /// Why.
        reason: String,
    },

    /// The pin path is on another file system, and not where one could be mounted.
    #[error(
        "{} is not on a BPF file system (bpffs), so nothing can be pinned there: mount one with \
         `mount -t bpf bpf DIRECTORY` and set `agent.pin_path` to a directory below it",
        path.display()
    )]
    NoBpffs {
        /// The pin path.
        path: PathBuf,
    },

    /// Mounting a bpffs failed.
    #[error(
        "no BPF file system (bpffs) is mounted at {} and mounting one failed ({source}): run \
         `mount -t bpf bpf {}` as root",
        path.display(), path.display()
    )]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// The file system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Path {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// Somebody holds the pins.
    #[error(
        "an agent that runs{} holds the pins in {}: stop it first, or use another pin path",
        holder(*pid), path.display()
    )]
    Locked {
        /// The pin path.
        path: PathBuf,
        /// The other agent, where it can be found.
        pid: Option<u32>,
    },

    /// Pinned tables of another version.
    #[error(
        "the tables pinned in {} have layout version {found}, this lb has version {expected}: \
         start with `lb run --replace-tables`, or set `agent.on_new_layout = \"replace\"`, and \
         steering goes on with new ones, into which live connections are copied as far as they can be",
        path.display()
    )]
    Abi {
        /// The pin path.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Version of this binary.
        expected: u32,
    },

    /// Pinned tables that are not whole.
    #[error(
        "the tables pinned in {} cannot be taken over ({reason}): remove them with \
         `lb detach --pin-path {}` (live connections are cut) and start again",
        path.display(), path.display()
    )]
    Damaged {
        /// The pin path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// The tables are too small for the config.
    #[error(
        "the pinned tables have room for {capacity} {what} and the config needs {needed}: a \
         start with `lb run --replace-tables` makes them larger"
    )]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// How many fit.
        capacity: u32,
        /// How many are needed.
        needed: usize,
    },

    /// The kernel's verifier refused the program.
    #[error(
        "the kernel refused the program ({reason}){}; its verifier's log is in {}",
        untested(untested_release.as_deref()), log.display()
    )]
    Verifier {
        /// The kernel's error.
        reason: io::Error,
        /// Where the log was written.
        log: PathBuf,
        /// The kernel's release, if it is older than those that the programs are tested on.
        untested_release: Option<String>,
    },

    /// Loading failed before the verifier.
    #[error("cannot load the eBPF program: {0}")]
    Load(String),

    /// No such interface.
    #[error("there is no interface {name:?}; the interfaces here are {existing}")]
    UnknownInterface {
        /// What the config says.
        name: String,
        /// What there is.
        existing: String,
    },

    /// Somebody else's XDP program is on the interface.
    #[error(
        "{name} already has an XDP program of somebody else{}: remove it first; that of another \
         lb by `lb detach --pin-path ITS-PIN-PATH`, one that `ip` attached by `ip link set dev \
         {name} xdp off`, any other by stopping the process that `bpftool link` and `bpftool net` \
         show it to belong to",
        program(*program_id)
    )]
    Busy {
        /// The interface.
        name: String,
        /// The program there.
        program_id: Option<u32>,
    },

    /// The driver has no XDP, or not in this state.
    #[error(
        "cannot attach natively to {name}: {reason}; set `agent.xdp_mode = \"auto\"` or \
         \"generic\" to run on socket buffers instead"
    )]
    Native {
        /// The interface.
        name: String,
        /// What the kernel said, in words.
        reason: String,
    },

    /// Flows cannot hold the index of the interface.
    #[error(
        "{name} has the interface index {index}, and flows remember only indexes below {}: make \
         the interface anew with a lower one (`ip link add NAME index NUMBER ...`), or restart the \
         host, which counts from 1 again",
        lb_common::flow::INTERFACE_LIMIT
    )]
    InterfaceIndex {
        /// The interface.
        name: String,
        /// Its index.
        index: u32,
    },

    /// Attaching failed otherwise.
    #[error("cannot attach to {name}: {reason}")]
    Attach {
        /// The interface.
        name: String,
        /// What the kernel said, in words.
        reason: String,
    },

    /// A table refused a read or a write.
    #[error("cannot {action} the table {table}: {reason}")]
    Table {
        /// Its name.
        table: &'static str,
        /// "read" or "write".
        action: &'static str,
        /// What the kernel said.
        reason: String,
    },
}

fn holder(pid: Option<u32>) -> impl fmt::Display {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn untested(release: Option<&str>) -> impl fmt::Display {
    release.map_or_else(String::new, |release| {
        format!(", which is tested on Linux 6.1 and later while this is {release}")
    })
}

fn program(id: Option<u32>) -> impl fmt::Display {
    id.map_or_else(String::new, |id| format!(" (program id {id})"))
}

/// An error and all its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
