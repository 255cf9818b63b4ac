//! The lab itself: a set of namespaces under one prefix, with a folder and a place for pins.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::cleanup::{self, Janitor};
use crate::command;
use crate::namespace::Namespace;
use crate::pass_program;
use crate::process::Process;

/// The prefix of the one lab per machine that is meant to be found from another terminal.
pub const WELL_KNOWN: &str = "lblab";

/// What the owner file says when a lab has no owner that lives.
const NOBODY: &str = "0";

/// Counts the labs of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// What becomes of a lab when its `Lab` value is dropped.
#[derive(Debug)]
enum Ending {
    /// It is removed; should the owner be killed, the janitor removes it.
    Removed(Janitor),
    /// It stays.
    Kept,
}

/// Namespaces under one prefix, with a folder and a place for pins.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    namespaces: BTreeMap<String, Namespace>,
    ending: Ending,
}

impl Lab {
    /// An empty lab of this process, with a prefix that no other has.
    ///
    /// # Errors
    /// When this is not root, or the kernel has no network namespaces or no bpffs.
    pub fn new() -> Result<Self> {
        cleanup::remove_stale()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = cleanup::prefix_of(std::process::id(), number);
        Self::create(&prefix, &std::process::id().to_string(), true)
    }

    /// The empty lab that other terminals find. It ends with this process, unless it is `kept`
    /// until somebody removes it by [`Lab::remove_well_known`].
    ///
    /// # Errors
    /// As [`Lab::new`], and when there is such a lab already.
    pub fn new_well_known(kept: bool) -> Result<Self> {
        cleanup::remove_stale()?;
        if let Ok(owner) = fs::read_to_string(cleanup::folder(WELL_KNOWN).join("owner")) {
            if owner == NOBODY {
                bail!("a lab is up already: `cargo xtask lab down` takes it down");
            }
            if owner.parse().is_ok_and(cleanup::is_alive) {
                bail!("a lab is up already, of the running process {owner}: stop that first");
            }
        }
        Self::remove_well_known()?;
        let owner = if kept {
            NOBODY.to_owned()
        } else {
            std::process::id().to_string()
        };
        Self::create(WELL_KNOWN, &owner, !kept)
    }

    /// The lab that another process brought up under the well-known prefix.
    ///
    /// # Errors
    /// When there is none.
    pub fn open_well_known() -> Result<Self> {
        let mut namespaces = BTreeMap::new();
        for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let full_name = entry.file_name().to_string_lossy().into_owned();
            let name = full_name
                .strip_prefix(WELL_KNOWN)
                .and_then(|rest| rest.strip_prefix('-'));
            if let Some(name) = name {
                namespaces.insert(name.to_owned(), Namespace::open(&full_name)?);
            }
        }
        ensure!(
            !namespaces.is_empty(),
            "no lab is up: `cargo xtask run` shows one, `cargo xtask lab up` brings one up to stay"
        );
        Ok(Self {
            prefix: WELL_KNOWN.to_owned(),
            namespaces,
            ending: Ending::Kept,
        })
    }

    /// Removes the lab under the well-known prefix, if there is one.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn remove_well_known() -> Result<()> {
        cleanup::remove(WELL_KNOWN)
    }

    fn create(prefix: &str, owner: &str, removed_at_end: bool) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the lab makes network namespaces, and only root may: run this as root"
        );
        let folder = cleanup::folder(prefix);
        fs::create_dir_all(&folder)
            .with_context(|| format!("the lab's folder {} cannot be made", folder.display()))?;
        let ending = if removed_at_end {
            Ending::Removed(Janitor::start(prefix)?)
        } else {
            Ending::Kept
        };
        let lab = Self {
            prefix: prefix.to_owned(),
            namespaces: BTreeMap::new(),
            ending,
        };
        fs::write(folder.join("owner"), owner)?;
        fs::create_dir_all(lab.pins()).with_context(|| {
            "nothing can be pinned below /sys/fs/bpf: is bpffs mounted? (`cargo xtask setup` does it)"
        })?;
        Ok(lab)
    }

    /// Adds an empty namespace under this short name.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn add(&mut self, name: &str) -> Result<&Namespace> {
        let namespace = Namespace::create(&format!("{}-{name}", self.prefix))?;
        Ok(self.namespaces.entry(name.to_owned()).or_insert(namespace))
    }

    /// The namespace of this short name.
    ///
    /// # Errors
    /// When there is none; the message names those there are.
    pub fn namespace(&self, name: &str) -> Result<&Namespace> {
        self.namespaces.get(name).with_context(|| {
            let names: Vec<_> = self.names().collect();
            format!(
                "the lab has no namespace {name:?}; it has {}",
                names.join(", ")
            )
        })
    }

    /// The short names of its namespaces.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(String::as_str)
    }

    /// Joins two namespaces by a veth pair and brings both ends up.
    ///
    /// # Errors
    /// When `ip` refuses it.
    pub fn join(&self, one: (&str, &str), other: (&str, &str)) -> Result<()> {
        let other_name = self.namespace(other.0)?.full_name();
        self.namespace(one.0)?.ip_batch(&format!(
            "link add {} up type veth peer name {} netns {other_name}\n",
            one.1, other.1
        ))?;
        self.namespace(other.0)?
            .ip(&format!("link set dev {} up", other.1))
            .map(drop)
    }

    /// Prepares the end of a veth whose other end gets an XDP program: what the program sees must
    /// carry full checksums and be of wire size, and redirecting to it in native mode needs GRO.
    ///
    /// # Errors
    /// When ethtool is missing or refuses it.
    pub fn prepare_end(&self, name: &str, interface: &str) -> Result<()> {
        let offloads = ["tx", "off", "tso", "off", "gso", "off", "gro", "on"];
        let mut command = self.command(name, "ethtool")?;
        let output = command
            .args(["-K", interface])
            .args(offloads)
            .output()
            .context("`ethtool` cannot be started: is the package installed?")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`ethtool -K {interface}` failed: {}",
            error.trim()
        );
        Ok(())
    }

    /// Attaches an XDP program that passes everything, natively. Frames that the other end of the
    /// veth sends back by `XDP_TX` in native mode arrive only at such an end.
    ///
    /// # Errors
    /// When the program cannot be loaded or attached.
    pub fn attach_pass(&self, name: &str, interface: &str) -> Result<()> {
        pass_program::attach(self.namespace(name)?, interface, &self.pins())
    }

    /// A command that runs in the namespace and is sent SIGTERM when the thread that started it
    /// ends (unless the lab is kept).
    ///
    /// # Errors
    /// When there is no such namespace.
    pub fn command(&self, name: &str, program: impl AsRef<OsStr>) -> Result<Command> {
        let ends_with_us = matches!(self.ending, Ending::Removed(_));
        Ok(command::in_namespace(
            self.namespace(name)?.handle(),
            program,
            ends_with_us,
        ))
    }

    /// Starts a command made by [`Lab::command`]; `title` names it and its log in the lab's folder.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, title: &str, mut command: Command) -> Result<Process> {
        let log = self.folder().join(format!("{title}.log"));
        let output = fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A Ctrl-C at the terminal is for the owner, who then stops what it started.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{title} cannot be started"))?;
        Ok(Process::new(
            title,
            child,
            log,
            matches!(self.ending, Ending::Kept),
        ))
    }

    /// Runs a program in the namespace to its end and returns what it wrote to stdout.
    ///
    /// # Errors
    /// When it cannot be started or fails; the message has what it wrote to stderr.
    pub fn run(&self, name: &str, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(name, program)?;
        let output = command
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{program} cannot be started"))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`{program} {}` failed in namespace {name} ({}): {}",
            arguments.join(" "),
            output.status,
            error.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `work` on a thread inside the namespace; see [`Namespace::within`].
    ///
    /// # Errors
    /// When there is no such namespace or `work` panics.
    pub fn within<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespace(name)?.within(work)
    }

    /// The lab's own folder, removed with it.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        cleanup::folder(&self.prefix)
    }

    /// The lab's own folder below `/sys/fs/bpf`, removed with it.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        cleanup::pins(&self.prefix)
    }

    /// What the names of its namespaces begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Makes and returns a sub-folder of the lab's folder.
    pub(crate) fn sub_folder(&self, name: &str) -> Result<PathBuf> {
        let path: PathBuf = [&self.folder(), Path::new(name)].iter().collect();
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Ending::Removed(janitor) = &mut self.ending else {
            return;
        };
        if !janitor.work()
            && let Err(error) = cleanup::remove(&self.prefix)
        {
            eprintln!("{error:#}");
        }
    }
}
