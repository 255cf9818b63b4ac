//! The kernel and what this process may ask of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::sys::{
    resource::{Resource, getrlimit},
    statfs::{BPF_FS_MAGIC, statfs},
};

use super::{Finding, Severity};
use crate::{config::model::Model, dataplane};

/// Kernels older than this count the memory of tables against `RLIMIT_MEMLOCK`.
const MEMORY_BY_CGROUP: (u32, u32) = (5, 11);
/// Frames in several buffers, and capturing.
const SINCE_5_18: (u32, u32) = (5, 18);

/// What the kernel says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// As `uname -r` says.
    pub(super) release: (u32, u32),
    /// `net.core.bpf_jit_enable`.
    pub(super) jit: Option<u32>,
    /// Why loading cannot work, if it cannot.
    pub(super) refused: Option<String>,
    /// Whether the pin path is on a BPF file system, and which it is; nothing without a config.
    pub(super) pins: Option<(PathBuf, bool)>,
    /// Bytes of memory that may be locked; `None` for any number.
    pub(super) locked: Option<u64>,
}

/// Asks the kernel.
pub(super) fn gather(model: Option<&Model>) -> Facts {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let jit = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
    let locked = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(None, |(soft, _)| {
        (soft != nix::sys::resource::RLIM_INFINITY).then_some(soft)
    });
    Facts {
        release: version(&release),
        jit: jit.ok().and_then(|text| text.trim().parse().ok()),
        refused: dataplane::check_privilege()
            .err()
            .map(|error| error.to_string()),
        pins: model.map(|model| {
            let path = model.agent.pin_path.clone();
            let is_there = is_on_bpffs(&path);
            (path, is_there)
        }),
        locked,
    }
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether pins can be made there, or the agent could mount what it takes: below the path by
/// convention it does.
fn is_on_bpffs(path: &Path) -> bool {
    let exists = |path: &Path| -> io::Result<bool> {
        let found = statfs(path).map_err(io::Error::from)?;
        Ok(found.filesystem_type() == BPF_FS_MAGIC)
    };
    path.starts_with("/sys/fs/bpf")
        || path
            .ancestors()
            .find_map(|one| exists(one).ok())
            .unwrap_or(false)
}

/// What is wrong with it.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(refused) = &facts.refused {
        findings.push(
            Finding::new(Severity::Error, "privilege", "", refused.clone())
                .why("without it the agent cannot load or attach its program")
                .cure("run this as root, on Linux 5.15 or later"),
        );
    }
    if facts.jit == Some(0) {
        findings.push(
            Finding::new(Severity::Error, "jit", "", "net.core.bpf_jit_enable is 0")
                .why("the program is interpreted, at a tenth of its speed or less, or not loaded")
                .cure("sysctl -w net.core.bpf_jit_enable=1"),
        );
    }
    if let Some((path, false)) = &facts.pins {
        let found = format!(
            "agent.pin_path {} is not on a BPF file system",
            path.display()
        );
        let folder = path.parent().unwrap_or(path).display();
        findings.push(
            Finding::new(Severity::Error, "bpffs", "", found)
                .why("the agent keeps its program and tables alive by pins, and cannot make them there")
                .cure(format!("mount -t bpf bpf {folder}")),
        );
    }
    if facts.release < MEMORY_BY_CGROUP
        && facts.release > (0, 0)
        && let Some(locked) = facts.locked
    {
        let found = format!("{} kB of memory may be locked", locked >> 10);
        findings.push(
            Finding::new(Severity::Warning, "memory_lock", "", found)
                .why("this kernel counts the tables against that limit, and refuses larger ones")
                .cure("ulimit -l unlimited (in the unit: LimitMEMLOCK=infinity)"),
        );
    }
    if facts.release < SINCE_5_18 && facts.release > (0, 0) {
        let (major, minor) = facts.release;
        findings.push(
            Finding::new(
                Severity::Note,
                "kernel",
                "",
                format!("this is Linux {major}.{minor}"),
            )
            .why("frames larger than a page, and lb capture, take Linux 5.18")
            .cure("none is needed for anything else"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::checks;

    fn good() -> Facts {
        Facts {
            release: (6, 1),
            jit: Some(1),
            refused: None,
            pins: Some(("/sys/fs/bpf/lb".into(), true)),
            locked: Some(65536),
        }
    }

    #[test]
    fn what_is_wrong_is_found_and_nothing_else() {
        let rows: [(Facts, &[&str]); 7] = [
            (good(), &[]),
            (
                Facts {
                    jit: Some(0),
                    ..good()
                },
                &["jit"],
            ),
            (
                Facts {
                    jit: None,
                    pins: None,
                    ..good()
                },
                &[],
            ),
            (
                Facts {
                    refused: Some("no".to_owned()),
                    ..good()
                },
                &["privilege"],
            ),
            (
                Facts {
                    pins: Some(("/tmp/lb".into(), false)),
                    ..good()
                },
                &["bpffs"],
            ),
            (
                Facts {
                    release: (5, 10),
                    ..good()
                },
                &["memory_lock", "kernel"],
            ),
            (
                Facts {
                    release: (5, 10),
                    locked: None,
                    ..good()
                },
                &["kernel"],
            ),
        ];
        for (facts, expected) in rows {
            assert_eq!(checks(&judge(&facts)), expected, "{facts:?}");
        }
        assert_eq!(version("6.18.44-fc"), (6, 18));
        assert_eq!(version("odd"), (0, 0));
    }
}
