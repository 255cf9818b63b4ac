//! Where things are: the workspace, its folder of tools, the target folder in use.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the workspace that this crate was compiled in.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // `xtask/toolchain` lies two levels below the root.
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// The folder that `cargo xtask setup` installs the project's own tools into.
#[must_use]
pub fn tools_dir(workspace: &Path) -> PathBuf {
    workspace.join(".tools")
}

/// The target folder in use: of the build that is going on when `out_dir` lies in one, else
/// `CARGO_TARGET_DIR`, else `target` in the workspace.
#[must_use]
pub fn target_dir(workspace: &Path, out_dir: Option<&Path>) -> PathBuf {
    // Cargo tags the top of every target folder, whatever its name, so this also finds one that
    // was chosen by `--target-dir` or a configuration file.
    let tagged = |dir: &&Path| dir.join("CACHEDIR.TAG").is_file();
    if let Some(dir) = out_dir.and_then(|dir| dir.ancestors().find(tagged)) {
        return dir.to_path_buf();
    }
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => workspace.join(dir),
        _ => workspace.join("target"),
    }
}

/// All that the eBPF objects are made from, for a build script to watch.
#[must_use]
pub fn watched_paths(workspace: &Path) -> Vec<PathBuf> {
    let sources = [
        "Cargo.lock",
        "Cargo.toml",
        "lb-common/Cargo.toml",
        "lb-common/src",
        "lb-ebpf/Cargo.toml",
        "lb-ebpf/src",
    ];
    let mut paths: Vec<_> = sources.iter().map(|name| workspace.join(name)).collect();
    paths.push(tools_dir(workspace).join("bin/bpf-linker"));
    paths
}
