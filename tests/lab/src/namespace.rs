//! One network namespace: entering it, wiring it, reading its counters.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, setns};

use crate::command::in_namespace;

/// A network namespace of a lab, under its short name (`client`, `lb`, `web1`, …).
#[derive(Debug)]
pub struct Namespace {
    full_name: String,
    handle: Arc<File>,
}

impl Namespace {
    pub(crate) fn create(full_name: &str) -> Result<Self> {
        ip(Command::new("ip"), &["netns", "add", full_name], "")?;
        let namespace = Self::open(full_name)?;
        // Before any interface exists, so that interfaces are born with these.
        namespace.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "0")?;
            namespace.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0")?;
        }
        // How far a load of one connection per request goes is decided by these. Servers' ports are
        // not among them: who asks whether one listens yet could get that port, and reach himself.
        namespace.sysctl("net.ipv4.ip_local_port_range", "10240 65535")?;
        namespace.sysctl("net.ipv4.tcp_tw_reuse", "1")?;
        namespace.sysctl("net.ipv4.tcp_max_tw_buckets", "262144")?;
        namespace.sysctl("net.ipv4.tcp_max_syn_backlog", "16384")?;
        namespace.sysctl("net.core.somaxconn", "16384")?;
        namespace.ip("link set dev lo up")?;
        Ok(namespace)
    }

    pub(crate) fn open(full_name: &str) -> Result<Self> {
        let path = Path::new("/run/netns").join(full_name);
        let handle = File::open(&path)
            .with_context(|| format!("the network namespace {full_name} cannot be opened"))?;
        Ok(Self {
            full_name: full_name.to_owned(),
            handle: Arc::new(handle),
        })
    }

    /// The name that `ip netns` knows.
    #[must_use]
    pub fn full_name(&self) -> &str {
        &self.full_name
    }

    pub(crate) fn handle(&self) -> Arc<File> {
        Arc::clone(&self.handle)
    }

    /// Runs `work` on a thread inside the namespace. Sockets opened there stay there, also after
    /// they have been handed out. Do not start processes there: those of [`crate::Lab::command`]
    /// end with the thread that started them.
    ///
    /// # Errors
    /// When the namespace cannot be entered or `work` panics.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                enter(&self.handle)?;
                Ok(work())
            });
            let result: Result<T> = worker
                .join()
                .map_err(|_| anyhow!("the work in namespace {} panicked", self.full_name))?;
            result
        })
    }

    /// Runs `ip` in the namespace with the words of `line`.
    ///
    /// # Errors
    /// With what `ip` says when it fails.
    pub fn ip(&self, line: &str) -> Result<String> {
        let words: Vec<_> = line.split(' ').collect();
        ip(self.ip_command(), &words, "").with_context(|| self.full_name.clone())
    }

    /// Runs several lines of `ip` in the namespace at once.
    ///
    /// # Errors
    /// With what `ip` says about the first line that fails.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        ip(self.ip_command(), &["-batch", "-"], lines).with_context(|| self.full_name.clone())?;
        Ok(())
    }

    /// Not `ip -n`: that hides `/sys/fs/bpf`, and with it the programs to attach.
    fn ip_command(&self) -> Command {
        in_namespace(self.handle(), "ip", true)
    }

    /// Sets a `net.…` sysctl of the namespace.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.within(|| fs::write(&path, value))?
            .with_context(|| format!("sysctl {key}={value} in namespace {}", self.full_name))
    }

    /// The MAC address of an interface.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn mac(&self, interface: &str) -> Result<[u8; 6]> {
        let text = self.ip(&format!("-o link show dev {interface}"))?;
        let mut words = text.split_whitespace();
        let parsed = words
            .find(|word| *word == "link/ether")
            .and_then(|_| parse_mac(words.next()?));
        parsed.with_context(|| format!("interface {interface} has no MAC address: {text}"))
    }

    /// A counter of `/proc/net/snmp`, as `Tcp`, `InCsumErrors`.
    ///
    /// # Errors
    /// When there is no such counter.
    pub fn counter(&self, protocol: &str, name: &str) -> Result<u64> {
        // `/proc/net` would be that of the main thread.
        let text = self.within(|| fs::read_to_string("/proc/thread-self/net/snmp"))??;
        let mut rows = text
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("{protocol}: ")));
        let (Some(names), Some(values)) = (rows.next(), rows.next()) else {
            bail!("there are no counters of {protocol}");
        };
        let value = names
            .split(' ')
            .zip(values.split(' '))
            .find(|(column, _)| *column == name);
        let (_, value) = value.with_context(|| format!("there is no counter {protocol} {name}"))?;
        Ok(value.parse()?)
    }
}

/// Moves the calling thread into a namespace.
pub(crate) fn enter(handle: &File) -> Result<()> {
    setns(handle.as_fd(), CloneFlags::CLONE_NEWNET).context("a network namespace cannot be entered")
}

/// Runs `ip` with lines on its standard input.
fn ip(mut command: Command, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("`ip` cannot be started: is the package iproute2 installed?")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`ip {}` failed: {}",
        arguments.join(" "),
        error.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::parse_mac;

    #[test]
    fn macs_are_parsed() {
        assert_eq!(parse_mac("02:00:00:00:00:fe"), Some([2, 0, 0, 0, 0, 0xfe]));
        assert_eq!(parse_mac("02:00:00:00:00"), None);
        assert_eq!(parse_mac("02:00:00:00:00:fe:01"), None);
    }
}
