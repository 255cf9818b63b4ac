//! A machine in namespaces: this one's files with a layer above that takes what is written, a
//! process tree, a bpffs and a systemd of its own, and the network namespace of a lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_lab::{Lab, Process};
use lb_tests::scenario::{Outcome, await_until};

const PATIENCE: Duration = Duration::from_secs(20);

/// Run as the first process: the layers, then systemd. It reads units only from folders that have
/// none of this machine's daemons.
const BOOT: &str = r#"
set -e
mount --make-rprivate /
mkdir -p "$LAYERS"
mount -t tmpfs tmpfs "$LAYERS"
mkdir "$LAYERS/upper" "$LAYERS/work" "$LAYERS/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$LAYERS/upper,workdir=$LAYERS/work" "$LAYERS/root"
mkdir -p "$LAYERS/root/srv"
cp "$PACKAGE" "$LAYERS/root/srv/lb.deb"
cd "$LAYERS/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf -o mode=0700 bpf sys/fs/bpf
mount -t tmpfs tmpfs run
mount --rbind /dev dev
mkdir -p run/units etc/lb etc/systemd/system/lb.service.d
for target in sysinit basic network-online multi-user shutdown; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$target" > "run/units/$target.target"
done
ln -s /usr/lib/systemd/system/lb.service run/units/lb.service
cat > etc/systemd/system/lb.service.d/log.conf <<END
[Service]
StandardOutput=append:/var/log/lb.log
StandardError=append:/var/log/lb.log
END
ln -s /etc/systemd/system/lb.service.d run/units/lb.service.d
exec env -i container=lb PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH=/run/units \
    chroot . /usr/lib/systemd/systemd --system --unit=multi-user.target --log-target=console \
    --show-status=false
"#;

/// See the module; dropping it ends all its processes.
pub(super) struct Machine {
    process: Option<Process>,
    /// systemd, as this machine numbers it.
    init: u32,
    group: PathBuf,
}

impl Machine {
    /// Boots one in a namespace of the lab; the package is in its `/srv/lb.deb`.
    pub(super) fn boot(lab: &Lab, namespace: &str, package: &Path) -> Result<Self> {
        let group = cgroup2()?.join(format!("lb-machine-{}", process::id()));
        fs::create_dir_all(&group)?;
        // The group becomes the root of the machine's own namespace of groups.
        let enter = format!("echo $$ > {}/cgroup.procs", group.display());
        let separate = "exec unshare --pid --mount --cgroup --ipc --uts --fork --kill-child \
                        sh -c \"$BOOT\"";
        // Not SIGTERM, which `unshare` does not hear.
        let mut command = lab.command(namespace, "setpriv")?;
        command
            .args(["--pdeathsig", "KILL", "sh", "-c"])
            .arg(format!("{enter} && {separate}"))
            .env("BOOT", BOOT)
            .env("PACKAGE", package)
            .env("LAYERS", lab.folder().join("layers"));
        let process = lab.spawn("machine", command)?;
        let mut machine = Self {
            init: 0,
            group,
            process: Some(process),
        };
        let outer = machine.process.as_ref().map_or(0, Process::pid);
        machine.init = await_until(PATIENCE, "the machine has a first process", || {
            let path = format!("/proc/{outer}/task/{outer}/children");
            let children = fs::read_to_string(path)?;
            let init = children.split_whitespace().next().context("none yet")?;
            Ok(init.parse()?)
        })?;
        await_until(PATIENCE, "the machine is up", || {
            let said = machine.run(&["systemctl", "is-active", "multi-user.target"])?;
            ensure!(said.stdout.trim() == "active", "{said:?}");
            Ok(())
        })
        .with_context(|| machine.log())?;
        Ok(machine)
    }

    /// Runs a command there to its end.
    pub(super) fn run(&self, words: &[&str]) -> Result<Outcome> {
        let mut command = Command::new("nsenter");
        let kinds = ["--pid", "--mount", "--net", "--ipc", "--uts", "--cgroup"];
        command
            .args(["--target", &self.init.to_string(), "--root", "--wd"])
            .args(kinds)
            .args(["--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
            .args(["RUNLEVEL=5", "DEBIAN_FRONTEND=noninteractive"])
            .args(words);
        Outcome::of(&mut command)
    }

    /// Runs a command there that succeeds, and returns what it wrote.
    pub(super) fn ask(&self, words: &[&str]) -> Result<String> {
        let outcome = self.run(words)?;
        outcome
            .expect_success()
            .with_context(|| format!("{}; lb said: {}", words.join(" "), self.lb_log()))
    }

    /// Starts, stops, … the service, as systemd waits for it.
    pub(super) fn service(&self, verb: &str) -> Result<()> {
        let shown = || self.run(&["systemctl", "status", "--no-pager", "lb"]);
        self.ask(&["systemctl", verb, "lb"])
            .map(drop)
            .with_context(|| format!("{:?}", shown()))
    }

    /// A property of the service.
    pub(super) fn property(&self, name: &str) -> Result<String> {
        let said = self.ask(&["systemctl", "show", "--value", "--property", name, "lb"])?;
        Ok(said.trim().to_owned())
    }

    /// What `/proc` says of the agent, by the beginning of a line.
    pub(super) fn agent_status(&self, field: &str) -> Result<String> {
        let pid = self.property("MainPID")?;
        let status = self.ask(&["cat", &format!("/proc/{pid}/status")])?;
        let mut lines = status.lines().filter_map(|line| line.strip_prefix(field));
        let value = lines.next().context("no such line")?;
        Ok(value.trim_matches([':', '\t', ' ']).to_owned())
    }

    /// A path of the machine, as seen from here.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// What the agent said.
    pub(super) fn lb_log(&self) -> String {
        fs::read_to_string(self.path("/var/log/lb.log")).unwrap_or_default()
    }

    fn log(&self) -> String {
        let process = self.process.as_ref();
        process.map(Process::log).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        eprintln!("--- lb said\n{}", self.lb_log());
        eprintln!("--- the machine said\n{}", self.log());
        if let Some(mut process) = self.process.take()
            && let Err(error) = process.kill()
        {
            eprintln!("{error:#}");
        }
        let gone = await_until(PATIENCE, "the machine's groups are empty", || {
            remove_groups(&self.group)
        });
        if let Err(error) = gone {
            eprintln!("{error:#}");
        }
    }
}

/// Where the second version of control groups is, which systemd wants.
fn cgroup2() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let folder = words.nth(1)?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(folder))
    });
    found.context("no cgroup2 is mounted here, which the machine's systemd needs")
}

fn remove_groups(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    Ok(fs::remove_dir(folder)?)
}
