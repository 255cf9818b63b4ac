//! Commands that do not inherit what an outer cargo, clippy or nextest set for its own build.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Cargo's variables that say how to reach the registry or how to print; they stay.
const KEPT: &[&str] = &[
    "CARGO_HOME",
    // The jobserver: an inner build then shares the outer one's limit of parallel jobs.
    "CARGO_MAKEFLAGS",
];
const KEPT_PREFIXES: &[&str] = &[
    "CARGO_NET_",
    "CARGO_HTTP_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_TERM_",
];

/// Set by cargo for build scripts, by clippy and nextest for their children, or by the user for
/// the host build: each would change a build for another target.
const DROPPED: &[&str] = &[
    "CARGO",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "DEBUG",
    "HOST",
    "LD_LIBRARY_PATH",
    "NEXTEST",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "RUST_RECURSION_COUNT",
    "SYSROOT",
    "TARGET",
    "__CARGO_DEFAULT_LIB_METADATA",
];
const DROPPED_PREFIXES: &[&str] = &["CARGO_", "DEP_", "RUSTC_", "NEXTEST_", "RUSTDOC_"];

/// A command whose environment is that of a fresh shell as far as cargo and rustc care.
#[must_use]
pub fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (key, _) in env::vars_os() {
        if key.to_str().is_some_and(leads_astray) {
            command.env_remove(key);
        }
    }
    command
}

/// Flags for rustc that keep the paths of this machine out of what it makes, so that the same
/// sources give the same bytes elsewhere, and nobody reads in a binary where it was built.
#[must_use]
pub fn remapped_paths(workspace: &Path) -> Vec<String> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let cargo = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(home?.join(".cargo")));
    // The last one that fits counts.
    let pairs = [
        cargo.map(|path| (path, "cargo")),
        Some((workspace.to_path_buf(), "lb")),
    ];
    let pairs = pairs.into_iter().flatten();
    pairs
        .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()))
        .collect()
}

fn leads_astray(key: &str) -> bool {
    if KEPT.contains(&key) || KEPT_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
        return false;
    }
    DROPPED.contains(&key)
        || DROPPED_PREFIXES
            .iter()
            .any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::leads_astray;

    #[test]
    fn an_outer_build_leaves_no_mark() {
        for key in [
            "RUSTC",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
        ] {
            assert!(leads_astray(key), "{key}");
        }
        for key in [
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_PROFILE_RELEASE_LTO",
        ] {
            assert!(leads_astray(key), "{key}");
        }
    }

    #[test]
    fn the_way_to_the_registry_stays() {
        for key in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_MAKEFLAGS",
            "PATH",
            "RUSTUP_HOME",
        ] {
            assert!(!leads_astray(key), "{key}");
        }
    }
}
