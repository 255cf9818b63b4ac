//! Whether the tables fit into the memory that this host, or the agent's control group, has.

use std::{fs, path::Path};

use lb_common::flow::{Bucket, established_buckets, half_open_buckets};

use super::{Finding, Severity};
use crate::config::model::Limits;

/// What the agent takes besides the flow tables, while the kernel verifies its program.
const BESIDES: u64 = 64 << 20;

/// Memory, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Of the flow tables that the config asks for.
    tables: u64,
    /// The least that a group above the process, or its own, allows.
    limit: Option<u64>,
    /// That the machine has.
    total: Option<u64>,
}

/// Asks below a root, for the process of that id: the agent, else this one.
pub(super) fn gather(root: &Path, process: Option<u32>, limits: &Limits) -> Facts {
    let buckets = u64::from(established_buckets(limits.flows))
        + u64::from(half_open_buckets(limits.half_open_flows));
    let process = process.map_or_else(|| "self".to_owned(), |id| id.to_string());
    let groups = fs::read_to_string(root.join("proc").join(process).join("cgroup"));
    let memory = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    Facts {
        tables: buckets * size_of::<Bucket>() as u64,
        limit: limit(root, &groups.unwrap_or_default()),
        total: total(&memory),
    }
}

/// The least limit of the group and of those above it, in either version of control groups.
fn limit(root: &Path, groups: &str) -> Option<u64> {
    let all = root.join("sys/fs/cgroup");
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next(), parts.next().unwrap_or_default());
        let is_memory = |list: &str| list.split(',').any(|one| one == "memory");
        let (base, file) = match controllers {
            Some("") => (all.clone(), "memory.max"),
            Some(list) if is_memory(list) => (all.join("memory"), "memory.limit_in_bytes"),
            Some(_) | None => return Vec::new(),
        };
        // A process in a container sees its own group as the root.
        let group = Path::new(group.trim_start_matches('/'));
        let folders = group.ancestors().map(|part| base.join(part).join(file));
        folders.collect()
    });
    let numbers = limits.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    // The first version writes a number next to 2⁶³ for none.
    numbers.filter(|limit| *limit < 1 << 62).min()
}

/// Of `/proc/meminfo`.
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}

/// What is wrong with it.
pub(super) fn judge(facts: &Facts) -> Option<Finding> {
    let needed = facts.tables + BESIDES;
    let (limit, whose) = match (facts.limit, facts.total) {
        (Some(limit), total) if total.is_none_or(|total| limit <= total) => {
            (limit, "its control group allows")
        }
        (_, Some(total)) => (total, "this machine has"),
        (_, None) => return None,
    };
    if limit >= needed {
        return None;
    }
    let found = format!(
        "the flow tables take {} MiB and the agent some {} more, and {whose} {} MiB",
        facts.tables >> 20,
        BESIDES >> 20,
        limit >> 20
    );
    let cure = if facts.limit == Some(limit) {
        format!(
            "systemctl set-property lb MemoryMax={}M (a container: --memory), or fewer flows in \
             [limits]",
            needed.div_ceil(1 << 20)
        )
    } else {
        "fewer flows in [limits]".to_owned()
    };
    Some(
        Finding::new(Severity::Error, "memory", "", found)
            .why("the kernel counts the tables for the agent: it refuses them, or kills the agent")
            .cure(cure),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::checks;

    const MEMORY: &str = "MemTotal:        8388608 kB\nMemFree: 1 kB\n";

    /// Path and text.
    type File<'a> = (&'a str, &'a str);

    /// A machine with these files.
    fn machine(files: &[File<'_>]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files.iter().chain(&[("proc/meminfo", MEMORY)]) {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        root
    }

    #[test]
    fn a_limit_below_the_tables_is_told() {
        let limits = |flows| Limits {
            flows,
            half_open_flows: 65_536,
            fragments: 1,
            affinity_entries: 1,
        };
        let group = |text| ("proc/7/cgroup", text);
        let second = "sys/fs/cgroup/system.slice/lb.service/memory.max";
        let above = "sys/fs/cgroup/system.slice/memory.max";
        let first = "sys/fs/cgroup/memory/docker/7/memory.limit_in_bytes";
        let own = group("0::/system.slice/lb.service\n");
        let old = group("5:devices:/x\n4:cpu,memory:/docker/7\n0::/\n");
        let small = "67108864\n";
        let rows: [(&[File<'_>], u32, &[&str]); 8] = [
            (&[own], 262_144, &[]),
            (&[own, (second, "max\n")], 262_144, &[]),
            (&[own, (second, small)], 262_144, &["memory"]),
            (
                &[own, (second, "max\n"), (above, small)],
                262_144,
                &["memory"],
            ),
            (&[own, (second, "4294967296\n")], 262_144, &[]),
            (&[old, (first, small)], 262_144, &["memory"]),
            (&[old, (first, "9223372036854771712\n")], 262_144, &[]),
            // More than the machine has.
            (&[own], 200_000_000, &["memory"]),
        ];
        for (files, flows, expected) in rows {
            let root = machine(files);
            let facts = gather(root.path(), Some(7), &limits(flows));
            let found = Vec::from_iter(judge(&facts));
            assert_eq!(checks(&found), expected, "{files:?} {flows} {facts:?}");
        }
    }
}
