//! What the tables take of the kernel's memory, by the kernel's own account.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use aya::maps::loaded_maps;
use lb_common::{
    abi::{features, maps},
    host::Fixture,
    ports,
};

use crate::{
    bench::{
        Effort,
        conditions::Conditions,
        report::{Report, Row, Samples},
    },
    kernel::Kernel,
};

/// Name, established flows, half-open flows, and features.
const CONFIGS: [(&str, u32, u32, u32); 4] = [
    (
        "nat, default limits (262,144 flows)",
        262_144,
        65_536,
        features::NAT,
    ),
    (
        "nat, 16,384 flows, 4,096 half-open",
        16_384,
        4096,
        features::NAT,
    ),
    ("nat, 1,048,576 flows", 1 << 20, 65_536, features::NAT),
    ("everything, default limits", 262_144, 65_536, features::ALL),
];

/// Adds up the maps of programs with different limits.
///
/// # Errors
/// When a program cannot be loaded.
pub fn run(_: Effort) -> Result<Report> {
    let begin = Conditions::now();
    let mut rows = Vec::new();
    for (name, flows, half_open, features) in CONFIGS {
        let before = held()?;
        let mut fixture = Fixture::with_limits(flows, half_open);
        fixture.tables.settings.features = features;
        let kernel = Kernel::load(&fixture.tables)?;
        let mut own = held()?;
        own.retain(|id, _| !before.contains_key(id));
        let names = names()?;
        let sum = |wanted: &dyn Fn(&str) -> bool| {
            let bytes = own
                .iter()
                .filter(|(id, _)| names.get(id).is_some_and(|name| wanted(name)));
            bytes.map(|(_, bytes)| *bytes as f64).sum::<f64>() / f64::from(1 << 20)
        };
        let mut samples = Samples::default();
        samples.push(sum(&|_| true));
        let is_flow_table = |name: &str| name == maps::ESTABLISHED || name == maps::HALF_OPEN;
        rows.push(Row {
            name: name.to_owned(),
            samples,
            details: vec![
                ("flow tables", sum(&is_flow_table), 1),
                (
                    "bytes/flow",
                    sum(&|name| name == maps::ESTABLISHED) * f64::from(1 << 20) / f64::from(flows),
                    0,
                ),
            ],
            ..Row::default()
        });
        drop(kernel);
    }
    let note = format!(
        "full NAT adds {} KiB for each source address; the test's tables for {} services and \
         backends are the least that the kernel gives",
        (ports::owners(1) + ports::words(1)) * 8 / 1024,
        64
    );
    Ok(Report {
        name: "memory",
        unit: "MiB of all maps",
        decimals: 1,
        notes: vec![note],
        rows,
        conditions: (begin, Conditions::now()),
    })
}

/// Bytes of each map that this process holds, by id.
fn held() -> Result<BTreeMap<u32, u64>> {
    let mut held = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo")?.flatten() {
        // One that is closed meanwhile, such as that of this loop.
        let Ok(text) = fs::read_to_string(entry.path()) else {
            continue;
        };
        let number = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().parse::<u64>().ok()
        };
        if let (Some(id), Some(bytes)) = (number("map_id:"), number("memlock:")) {
            held.insert(u32::try_from(id)?, bytes);
        }
    }
    Ok(held)
}

fn names() -> Result<BTreeMap<u32, String>> {
    let mut names = BTreeMap::new();
    // Others may go while they are listed.
    for info in loaded_maps().flatten() {
        let name = info.name_as_str().context("a name that is not UTF-8")?;
        names.insert(info.id(), name.to_owned());
    }
    Ok(names)
}
