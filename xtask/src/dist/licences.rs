//! The licences of the crates that the binary is made of: most ask to be handed on with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::architecture;
use crate::build::cargo;

/// Where the walk begins, and for which target: the binary, and the kernel programs inside it.
fn roots() -> Result<[(&'static str, String); 2]> {
    let (_, machine) = architecture()?;
    let host = format!("{machine}-unknown-linux-gnu");
    Ok([
        ("lb-userspace", host),
        ("lb-ebpf", lb_toolchain::TARGET.to_owned()),
    ])
}

/// Names of files with a licence begin so.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// All of them in one text: which crates there are, and each licence's text once, with the crates
/// that it comes with.
pub(super) fn collect() -> Result<String> {
    let mut list = BTreeSet::new();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (root, target) in roots()? {
        let metadata = metadata(&target)?;
        let inside = inside(&metadata, root).context("`cargo metadata` has an unknown shape")?;
        for package in packages(&metadata) {
            let field = |key: &str| package.get(key).and_then(Value::as_str);
            let (Some(id), Some(name), Some(version)) =
                (field("id"), field("name"), field("version"))
            else {
                continue;
            };
            // What has no source is our own.
            if !inside.contains(id) || field("source").is_none() {
                continue;
            }
            let licence = field("license").unwrap_or("see its text below");
            list.insert(format!("{name} {version}: {licence}\n"));
            let folder = field("manifest_path").and_then(|path| Path::new(path).parent());
            for text in folder.map(texts_in).unwrap_or_default() {
                let owners = texts.entry(text).or_default();
                owners.insert(format!("{name} {version}"));
            }
        }
    }
    let list: String = list.into_iter().collect();
    let mut all = format!(
        "The program lb contains these crates, each under the licence named beside it, and the \
         GNU C library (LGPL-2.1-or-later) where it is linked statically; its sources are those \
         of the distribution it was built on.\n\n{list}"
    );
    for (text, owners) in texts {
        let owners: Vec<String> = owners.into_iter().collect();
        // Writing to a String cannot fail.
        let _ = write!(
            all,
            "\n{}\n{}\n\n{}\n",
            "-".repeat(78),
            owners.join(", "),
            text
        );
    }
    Ok(all)
}

fn metadata(target: &str) -> Result<Value> {
    let output = cargo()
        .args(["metadata", "--format-version=1", "--locked"])
        .arg(format!("--filter-platform={target}"))
        .output()?;
    ensure!(
        output.status.success(),
        "`cargo metadata` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    let list = metadata.get("packages").and_then(Value::as_array);
    list.into_iter().flatten()
}

/// Ids of what ends up inside: neither tests nor build scripts do.
fn inside<'a>(metadata: &'a Value, root: &str) -> Option<BTreeSet<&'a str>> {
    let nodes = metadata.get("resolve")?.get("nodes")?.as_array()?;
    let id = |node: &'_ Value| -> Option<String> { Some(node.get("id")?.as_str()?.to_owned()) };
    let by_id: BTreeMap<String, &Value> = nodes
        .iter()
        .filter_map(|node| Some((id(node)?, node)))
        .collect();
    let is_root = |package: &&Value| {
        let name = package.get("name").and_then(Value::as_str);
        name == Some(root)
    };
    let mut open: Vec<&str> = packages(metadata)
        .filter(is_root)
        .filter_map(|package| package.get("id")?.as_str())
        .collect();
    let mut found = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !found.insert(id) {
            continue;
        }
        let dependencies = by_id.get(id).and_then(|node| node.get("deps")?.as_array());
        for dependency in dependencies.into_iter().flatten() {
            let kinds = dependency.get("dep_kinds").and_then(Value::as_array);
            let is_normal = |kind: &Value| kind.get("kind").is_some_and(Value::is_null);
            if kinds.into_iter().flatten().any(is_normal) {
                open.extend(dependency.get("pkg").and_then(Value::as_str));
            }
        }
    }
    Some(found)
}

/// The texts in a crate's folder, sorted by the names of their files.
fn texts_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.to_uppercase();
            path.is_file() && NAMES.iter().any(|begin| name.starts_with(begin))
        })
        .collect();
    files.sort();
    let read = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    read.map(|text| text.trim().replace("\r\n", "\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn what_only_builds_and_tests_is_not_inside() {
        let normal = serde_json::json!([{"kind": null}]);
        let build = serde_json::json!([{"kind": "build"}]);
        let metadata = serde_json::json!({
            "packages": [{"name": "lb-userspace", "id": "lb"}, {"name": "other", "id": "o"}],
            "resolve": {"nodes": [
                {"id": "lb", "deps": [
                    {"pkg": "a", "dep_kinds": normal}, {"pkg": "b", "dep_kinds": build}]},
                {"id": "a", "deps": [{"pkg": "c", "dep_kinds": normal}]},
                {"id": "o", "deps": [{"pkg": "d", "dep_kinds": normal}]},
            ]},
        });
        let found = inside(&metadata, "lb-userspace").unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "c", "lb"]);
    }
}
