//! Which CPUs the interrupts of a card's queues go to: its packets are steered there.

use std::{collections::BTreeSet, fs, path::Path};

use super::{Finding, Severity};

/// Parts of the names of interrupts that are for no queue.
const NO_QUEUE: &[&str] = &[
    "config", "async", "misc", "mgmt", "control", "event", "ctrl", "aq",
];

/// The queues of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    interface: String,
    /// For every interrupt of a queue, the CPUs that it may go to, as the kernel lists them.
    affinities: Vec<String>,
    cpus: usize,
}

/// Asks `/sys` and `/proc` below a root. An interface without interrupts of its own has no facts.
pub(super) fn gather(root: &Path, interfaces: &[String], cpus: usize) -> Vec<Facts> {
    let names = fs::read_to_string(root.join("proc/interrupts")).unwrap_or_default();
    let facts = interfaces.iter().map(|interface| Facts {
        interface: interface.clone(),
        affinities: affinities(root, interface, &names),
        cpus,
    });
    facts.filter(|facts| !facts.affinities.is_empty()).collect()
}

fn affinities(root: &Path, interface: &str, names: &str) -> Vec<String> {
    let device = root.join("sys/class/net").join(interface).join("device");
    // A virtio device's interrupts are its bus device's.
    let folders = [device.join("msi_irqs"), device.join("../msi_irqs")];
    let list = folders.iter().find_map(|folder| fs::read_dir(folder).ok());
    let mut numbers: Vec<u32> = list
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| is_queue(names, *number))
        .collect();
    numbers.sort_unstable();
    let affinity = |number: u32| {
        let folder = root.join("proc/irq").join(number.to_string());
        // Where it goes, of those that it may go to.
        ["effective_affinity_list", "smp_affinity_list"]
            .iter()
            .filter_map(|name| fs::read_to_string(folder.join(name)).ok())
            .map(|text| text.trim().to_owned())
            .find(|text| !text.is_empty())
    };
    numbers.into_iter().filter_map(affinity).collect()
}

/// Whether an interrupt is for a queue: it has come, and its name is not of something else.
fn is_queue(interrupts: &str, number: u32) -> bool {
    let start = format!("{number}:");
    let line = interrupts
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(&start));
    let Some(line) = line else {
        return false;
    };
    let mut counts = line
        .split_whitespace()
        .map_while(|word| word.parse::<u64>().ok());
    let name = line.split_whitespace().last().unwrap_or_default();
    let is_other = NO_QUEUE.iter().any(|part| name.contains(part));
    counts.any(|count| count > 0) && !is_other
}

/// What is wrong with them.
pub(super) fn judge(all: &[Facts]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Facts {
        interface,
        affinities,
        cpus,
    } in all
    {
        let different: BTreeSet<&String> = affinities.iter().collect();
        let Some(&cpu) = different.first() else {
            continue;
        };
        // A list of several CPUs is for the kernel to spread.
        let is_one = different.len() == 1 && cpu.bytes().all(|byte| byte.is_ascii_digit());
        if is_one && affinities.len() > 1 && *cpus > 1 {
            let found = format!(
                "the interrupts of all its {} queues go to CPU {cpu}",
                affinities.len()
            );
            findings.push(
                Finding::new(Severity::Warning, "one_cpu", interface.clone(), found)
                    .why(format!(
                        "one of {cpus} CPUs steers all packets, and the others look on"
                    ))
                    .cure(
                        "systemctl start irqbalance\n(or by hand, another CPU for each interrupt: \
                         echo CPU > /proc/irq/NUMBER/smp_affinity_list)",
                    ),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::doctor::report::checks;

    /// An interrupt: number, name, count, CPUs.
    type Irq<'a> = (u32, &'a str, u32, &'a str);

    /// A card whose interrupts are these.
    fn machine(is_virtio: bool, interrupts: &[Irq<'_>]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let write = |path: String, text: String| {
            fs::create_dir_all(at(&path).parent().unwrap()).unwrap();
            fs::write(at(&path), text).unwrap();
        };
        let bus = "sys/devices/pci0/card";
        fs::create_dir_all(at(&format!("{bus}/virtio2"))).unwrap();
        fs::create_dir_all(at("sys/class/net/eth0")).unwrap();
        let device = if is_virtio { "card/virtio2" } else { "card" };
        let target = at("sys/devices/pci0").join(device);
        symlink(target, at("sys/class/net/eth0/device")).unwrap();
        let mut list = String::from("           CPU0       CPU1\n");
        for (number, name, count, cpus) in interrupts {
            write(format!("{bus}/msi_irqs/{number}"), "msix\n".to_owned());
            let file = format!("proc/irq/{number}/effective_affinity_list");
            write(file, format!("{cpus}\n"));
            list.push_str(&format!(
                " {number}:  0  {count}  PCI-MSIX 1-edge  {name}\n"
            ));
        }
        write("proc/interrupts".to_owned(), list);
        root
    }

    #[test]
    fn all_queues_on_one_cpu_are_told() {
        let rows: [(bool, &[Irq<'_>], usize, &[&str]); 9] = [
            (
                false,
                &[(40, "eth0-TxRx-0", 9, "0"), (41, "eth0-TxRx-1", 9, "0")],
                2,
                &["one_cpu"],
            ),
            (
                true,
                &[
                    (40, "virtio2-config", 1, "1"),
                    (41, "virtio2-input.0", 9, "0"),
                    (42, "virtio2-output.0", 9, "0"),
                ],
                2,
                &["one_cpu"],
            ),
            (
                true,
                &[
                    (41, "virtio2-input.0", 9, "0"),
                    (42, "virtio2-output.0", 9, "1"),
                ],
                2,
                &[],
            ),
            // The kernel spreads these, or may.
            (
                false,
                &[(40, "eth0-TxRx-0", 9, "0-3"), (41, "eth0-TxRx-1", 9, "0-3")],
                4,
                &[],
            ),
            (false, &[(40, "eth0-TxRx-0", 9, "0")], 2, &[]),
            // A queue that was never used tells nothing.
            (
                false,
                &[(40, "eth0-TxRx-0", 9, "0"), (41, "eth0-TxRx-1", 0, "0")],
                2,
                &[],
            ),
            (
                false,
                &[(40, "eth0-TxRx-0", 9, "0"), (41, "eth0-misc", 9, "0")],
                2,
                &[],
            ),
            (
                false,
                &[(40, "eth0-TxRx-0", 9, "0"), (41, "eth0-TxRx-1", 9, "0")],
                1,
                &[],
            ),
            (false, &[], 2, &[]),
        ];
        for (is_virtio, interrupts, cpus, expected) in rows {
            let root = machine(is_virtio, interrupts);
            let facts = gather(root.path(), &["eth0".to_owned(), "none0".to_owned()], cpus);
            assert_eq!(checks(&judge(&facts)), expected, "{interrupts:?}");
        }
    }
}
