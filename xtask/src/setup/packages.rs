//! Debian packages: which programs are missing, and installing what brings them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};

use super::Scope;
use super::daemons::Guard;
use crate::console;
use crate::root;

/// A program, the package that brings it, and from which scope on it is wanted.
const WANTED: &[(&str, &str, Scope)] = &[
    ("curl", "curl", Scope::Run),
    ("ethtool", "ethtool", Scope::Run),
    ("ip", "iproute2", Scope::Run),
    ("nginx", "nginx-light", Scope::Run),
    ("wrk", "wrk", Scope::Run),
    ("dnsmasq", "dnsmasq-base", Scope::Example),
    ("keepalived", "keepalived", Scope::Example),
    ("mariadbd", "mariadb-server", Scope::Example),
    ("openssl", "openssl", Scope::Example),
    ("php-fpm*", "php-fpm", Scope::Example),
    ("php-fpm*", "php-mysql", Scope::Example),
    ("promtool", "prometheus", Scope::Example),
    ("bird", "bird2", Scope::Everything),
    ("chromium", "chromium", Scope::Everything),
    ("etcd", "etcd-server", Scope::Everything),
    ("etcdctl", "etcd-client", Scope::Everything),
    ("g++", "g++", Scope::Everything),
    ("haproxy", "haproxy", Scope::Everything),
    ("nft", "nftables", Scope::Everything),
    ("php", "php-cli", Scope::Everything),
    ("php", "php-mysql", Scope::Everything),
    ("pip3", "python3-pip", Scope::Everything),
    ("sysbench", "sysbench", Scope::Everything),
    ("systemd-analyze", "systemd", Scope::Everything),
    ("xz", "xz-utils", Scope::Everything),
    ("tshark", "tshark", Scope::Everything),
];

/// Where daemons and network tools are, which is not on everybody's search path.
const SYSTEM_FOLDERS: &[&str] = &["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Programs and their packages, of this scope.
pub(super) fn wanted(scope: Scope) -> impl Iterator<Item = (&'static str, &'static str)> {
    let in_scope = WANTED.iter().filter(move |(_, _, from)| *from <= scope);
    in_scope.map(|(program, package, _)| (*program, *package))
}

/// The packages whose programs are not there.
pub(super) fn missing(scope: Scope) -> Vec<String> {
    let lacking = wanted(scope).filter(|(program, _)| find(program).is_none());
    lacking.map(|(_, package)| package.to_owned()).collect()
}

/// Where a program is; with `*` at its end, one whose name goes on with its version.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = env::split_paths(&path).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    match program.strip_suffix('*') {
        None => folders
            .map(|folder| folder.join(program))
            .find(|file| file.is_file()),
        Some(beginning) => folders.find_map(|folder| beginning_with(&folder, beginning)),
    }
}

fn beginning_with(folder: &Path, beginning: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(beginning));
    found.next().map(|entry| entry.path())
}

/// The first answer that is one, asked again once the lists of packages are new: lists that
/// came with a machine's image may be months older than what its sources offer.
pub(super) fn ask_with_new_lists<T>(ask: impl Fn() -> Option<T>) -> Result<Option<T>> {
    update_lists_if_missing()?;
    if let Some(answer) = ask() {
        return Ok(Some(answer));
    }
    if find("apt-get").is_some() && root::is_root() {
        update_lists()?;
    }
    Ok(ask())
}

/// Whether a package is among those that this machine's lists have, and in which version.
pub(super) fn offered(package: &str) -> Option<String> {
    let output = Command::new("apt-cache")
        .args(["policy", package])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let candidate = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (candidate != "(none)").then(|| candidate.to_owned())
}

/// Fetches the lists of packages, unless they are there.
pub(super) fn update_lists_if_missing() -> Result<()> {
    let is_list = |name: &str| name.contains("_Packages");
    let entries = fs::read_dir("/var/lib/apt/lists")
        .into_iter()
        .flatten()
        .flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    if names.any(|name| is_list(&name)) {
        Ok(())
    } else {
        update_lists()
    }
}

pub(super) fn update_lists() -> Result<()> {
    ensure!(
        root::is_root(),
        "the lists of Debian packages are missing, and only root may fetch them: run \
         `sudo apt-get update`, then this again"
    );
    console::run_long("list of Debian packages", apt_get().arg("update"))
}

/// Whether packages can be installed beside what the machine has.
pub(super) fn fit(packages: &[String]) -> Result<bool> {
    update_lists_if_missing()?;
    let mut simulation = apt_get();
    simulation.args(["install", "-s", "--no-install-recommends", "--no-remove"]);
    Ok(simulation.args(packages).output()?.status.success())
}

/// Installs packages, without starting the daemons that some of them bring.
pub(super) fn install(packages: &[String]) -> Result<()> {
    let line = format!(
        "apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    if find("apt-get").is_none() {
        bail!(
            "this machine has no apt-get; install what Debian calls {} by its own means",
            packages.join(", ")
        );
    }
    if !root::is_root() {
        bail!(
            "packages are missing, and only root may install them: run `sudo {line}`, then this again"
        );
    }
    update_lists_if_missing()?;
    let guard = Guard::put_up()?;
    let title = format!("Debian packages: {}", packages.join(" "));
    let attempt = || {
        let mut command = apt_get();
        // Nothing of the machine's may go for our sake.
        command.args(["install", "-y", "--no-install-recommends", "--no-remove"]);
        console::run_long(&title, command.args(packages))
    };
    let result = attempt().or_else(|_| {
        // Lists older than the mirror name files that are no longer there.
        update_lists()?;
        attempt()
    });
    drop(guard);
    result
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    // invoke-rc.d starts no daemon in single-user mode.
    command.env("RUNLEVEL", "1");
    command.args(["-o", "DPkg::Lock::Timeout=300"]);
    command
}

/// Whether LLVM's headers and libraries of this release are installed.
pub(super) fn has_llvm_dev(major: u32) -> bool {
    llvm_prefix(major).join("bin/llvm-config").exists()
}

/// Where Debian puts LLVM of this release.
pub(super) fn llvm_prefix(major: u32) -> PathBuf {
    Path::new("/usr/lib").join(format!("llvm-{major}"))
}
